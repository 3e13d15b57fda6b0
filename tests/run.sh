#!/bin/sh
# Run all tests in three parts at once: most of the time they wait. The parts print one after the other.
# The tests of tests/long are left to `make test-long`. With arguments run only pytest with them: tests/run.sh PYTHON [ARGUMENT...].
set -u
python=$1
shift
[ $# = 0 ] || exec "$python" -m pytest "$@"
modules="tests/shared tests/probe tests/cache tests/signatures tests/findings tests/accuracy"
commands="tests/cli $(echo tests/test_*.py)"
logs=$(mktemp -d)

# shellcheck disable=SC2086 # lists of folders
nice -n 19 "$python" -m pytest $modules >"$logs/modules" 2>&1 &
of_modules=$!
# shellcheck disable=SC2086
nice -n 10 "$python" -m pytest $commands >"$logs/commands" 2>&1 &
of_commands=$!
trap 'kill $of_modules $of_commands; rm -r "$logs"' INT TERM

# shellcheck disable=SC2046,SC2086 # a list of options
"$python" -m pytest tests $(printf -- '--ignore=%s ' tests/long $modules $commands)
failed=$?
wait $of_commands || failed=1
wait $of_modules || failed=1
cat "$logs/commands" "$logs/modules"
rm -r "$logs"
exit $failed
