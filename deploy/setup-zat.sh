#!/bin/sh
# Install zat, which reads the logs of Zeek, into .zat: setup-zat.sh VENV. A test reads the logs of dnstrail with it. Its
# reader needs none of the packages that the rest of it needs.
set -eu
venv=$1 folder=.zat
[ ! -e "$folder/done" ] || exit 0
echo "setup: installing zat into $folder" >&2
{ "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder" zat==0.4.9 &&
    touch "$folder/done"; } >&2 || echo "setup: cannot install it; the test that needs it is skipped" >&2
