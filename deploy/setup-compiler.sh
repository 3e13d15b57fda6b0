#!/bin/sh
# Install the C compiler, and what compiling needs of a Python, as root on Debian or Ubuntu: setup-compiler.sh PREFIX. The
# Python is PREFIX/bin/python3, of a virtual environment or of the system (/usr).
set -eu
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
packages=
command -v cc >/dev/null || packages="gcc libc6-dev"
headers=$("$1/bin/python3" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -e "$headers/Python.h" ] || packages="$packages python3-dev" # of the system's Python; every other one contains its own
"$1/bin/python3" -c 'import ensurepip' 2>/dev/null || packages="$packages python3-venv"
[ -n "$packages" ] || exit 0
echo "setup: installing $packages" >&2
# shellcheck disable=SC2086 # a list of words
"$(dirname "$0")/install-packages.sh" $packages
