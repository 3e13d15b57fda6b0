#!/bin/sh
# Build the distribution, install it in every supported way, each in a folder of its own, and check that each
# installation has all five packages and a working command. Needs uv on PATH.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=$(command -v python)

check() { # NAME BIN
    "$2/python" -c 'import dnstrail, dnstrail_probe, dnstrail_cache, dnstrail_signatures, dnstrail_cli'
    (cd "$work" && "$2/dnstrail" --version >/dev/null && "$2/python" -m dnstrail_cli.demo | grep -q WATCHED_NAME)
    echo "packages: $1 works"
}

git archive HEAD | tar -x -C "$work" --one-top-level=tree 2>/dev/null || { echo "packages: this is no git checkout" >&2; exit 1; }
cd "$work/tree"

uv build --quiet --out-dir "$work/dist"
ls "$work/dist"
"$python" -m venv "$work/wheel" && "$work/wheel/bin/pip" install -q --disable-pip-version-check "$work"/dist/*.whl
check "the wheel of uv build" "$work/wheel/bin"
"$python" -m venv "$work/plain" && "$work/plain/bin/pip" install -q --disable-pip-version-check .
check "pip install ." "$work/plain/bin"
"$python" -m venv "$work/edit" && "$work/edit/bin/pip" install -q --disable-pip-version-check -e .
check "pip install -e ." "$work/edit/bin"
uv sync --quiet
check "uv sync" "$work/tree/.venv/bin"
