#!/bin/sh
# Run all tests: those of single modules at the lowest priority, beside those that start workers, which mostly wait.
# With arguments run only pytest with them: tests/run.sh PYTHON [ARGUMENT...].
set -u
python=$1
shift
[ $# = 0 ] || exec "$python" -m pytest "$@"
modules="tests/shared tests/probe tests/cache tests/signatures tests/findings tests/accuracy"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086 # a list of folders
nice -n 19 "$python" -m pytest $modules >"$log" 2>&1 &
beside=$!
trap 'kill "$beside"' INT TERM
# shellcheck disable=SC2046 # a list of options
"$python" -m pytest tests $(printf -- '--ignore=%s ' $modules)
workers=$?
wait "$beside"
single=$?
cat "$log"
exit $((workers | single))
