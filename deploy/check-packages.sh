#!/bin/sh
# Build the distribution, install it in every supported way, each in a folder of its own, and check that each
# installation has all packages and a working command, in its form: pure or compiled. Needs uv on PATH. On Debian, also
# build the package for this release. The distribution and this package are left in dist/ of the checkout.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=$(command -v python) checkout=$(pwd)

check() { # NAME BIN FORM
    "$2/python" -c 'import dnstrail, dnstrail_probe, dnstrail_cache, dnstrail_signatures, dnstrail_findings, dnstrail_history, dnstrail_web, dnstrail_fleet, dnstrail_run, dnstrail_cli'
    (cd "$work" && "$2/dnstrail" --version | grep -q "($3)" && "$2/python" -m dnstrail_cli.demo | grep -q WATCHED_NAME)
    echo "packages: $1 works ($3)"
}

git archive HEAD | tar -x -C "$work" --one-top-level=tree 2>/dev/null || { echo "packages: this is no git checkout" >&2; exit 1; }
cd "$work/tree"

install() { # NAME REQUIREMENT...
    "$python" -m venv "$work/$1"
    environment=$work/$1
    shift
    "$environment/bin/pip" install -q --disable-pip-version-check "$@"
}

uv build --quiet --out-dir "$work/pure"
DNSTRAIL_MYPYC=1 uv build --quiet --wheel --python "$python" --out-dir "$work/compiled"
ls "$work/pure" "$work/compiled"
mkdir -p "$checkout/dist"
rm -f "$checkout"/dist/dnstrail-* "$checkout"/dist/dnstrail_*
cp "$work"/pure/* "$work"/compiled/* "$checkout/dist"
install wheel "$work"/pure/*.whl
check "the wheel of uv build" "$work/wheel/bin" pure
install fast "$work"/compiled/*.whl
check "the wheel of DNSTRAIL_MYPYC=1 uv build" "$work/fast/bin" compiled
DNSTRAIL_MYPYC=1 CC=no-compiler install slow .
check "DNSTRAIL_MYPYC=1 pip install . without a compiler" "$work/slow/bin" pure
install plain .
check "pip install ." "$work/plain/bin" pure
install edit -e .
check "pip install -e ." "$work/edit/bin" pure
uv sync --quiet
check "uv sync" "$work/tree/.venv/bin" pure

if ! command -v dpkg-deb >/dev/null || ! /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "packages: no Debian package, for lack of dpkg-deb or of Python 3.11 in /usr/bin" >&2
    exit 0
fi
deploy/build-deb.sh "$checkout/dist"
dpkg-deb --extract "$checkout"/dist/dnstrail_*.deb "$work/root"
sed -i "1s|.*|#!$work/root/opt/dnstrail/bin/python|" "$work/root/opt/dnstrail/bin/dnstrail"
check "the Debian package" "$work/root/opt/dnstrail/bin" compiled
