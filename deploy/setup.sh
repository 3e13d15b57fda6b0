#!/bin/sh
# Make a virtual environment that contains dnstrail: setup.sh [--compiled] VENV REQUIREMENT. It contains a link to this
# checkout; with --compiled it contains a copy, compiled by mypyc if a C compiler and the headers of Python exist.
# PYTHON names the interpreter; without it, the first Python 3.11 or newer that can make an environment is used. As root
# on Debian or Ubuntu, missing packages are installed.
set -eu
editable=--editable
if [ "$1" = --compiled ]; then
    shift
    editable=
    export DNSTRAIL_MYPYC=1
fi
venv=$1 requirement=$2

usable() {
    "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 /usr/bin/python3}; do
        if command -v "$candidate" >/dev/null && usable "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

if [ ! -x "$venv/bin/python" ]; then
    if ! python=$(find_python); then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            echo "setup: installing python3-venv" >&2
            "$(dirname "$0")/install-packages.sh" python3 python3-venv
        fi
        python=$(find_python) || {
            echo "setup: no Python 3.11 or newer with venv: apt-get install python3 python3-venv" >&2
            exit 1
        }
    fi
    echo "setup: making $venv with $python" >&2
    "$python" -m venv "$venv"
fi
if [ -z "$editable" ]; then
    echo "setup: compiling takes some minutes" >&2
    began=$(date +%s)
    while sleep 5; do printf 'setup: compiling, %d s\n' $(($(date +%s) - began)) >&2; done &
    trap 'kill $!' EXIT
fi
# shellcheck disable=SC2086 # no word without --editable
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check $editable "$requirement"
