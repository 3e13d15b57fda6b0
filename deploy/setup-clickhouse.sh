#!/bin/sh
# Install the engine of ClickHouse (chdb) into .clickhouse, for tests: setup-clickhouse.sh VENV. It needs 560 MB. What
# chdb uses to make data frames is left out.
set -eu
venv=$1 folder=.clickhouse
[ ! -e "$folder/done" ] || exit 0
echo "setup: installing chdb into $folder" >&2
for _ in 1 2 3; do
    rm -rf "$folder"
    if "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder" \
        chdb==4.4.0 chdb-core==26.9.0 >&2; then
        touch "$folder/done"
        exit 0
    fi
done
echo "setup: cannot install it; the tests that need it are skipped" >&2
