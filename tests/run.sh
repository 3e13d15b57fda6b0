#!/bin/sh
# Run all tests in six parts at once: most of the time they wait. The parts print one after the other, each with its
# five slowest steps. The part with captures from the kernel goes first, since its events come in real time.
# A part that hangs is ended after two hours.
# The tests of tests/long are left to `make test-long`, those in a browser to `make test-web`. With arguments run only
# pytest with them: tests/run.sh PYTHON [ARGUMENT...].
set -u
python=$1
shift
[ $# = 0 ] || exec "$python" -m pytest "$@"
modules="tests/shared tests/accuracy"
remote="tests/fleet tests/history tests/findings $(echo tests/web/test_*.py)" # mostly answered over a network
services="tests/probe tests/cache tests/signatures tests/pipeline/test_facts.py"
commands="tests/cli $(echo tests/test_*.py)"
workers=$(grep -L 'network\|ebpf\|live_or_skip' tests/pipeline/test_*.py) # without a capture from the kernel
most='--kill-after=60 7200'
slowest='--durations=5 --durations-min=1'
logs=$(mktemp -d)
jobs=

# beside PART PATH...: run tests in the background, and print to a file.
# shellcheck disable=SC2086 # a list of options
beside() {
    part=$1
    shift
    nice -n 5 timeout $most "$python" -m pytest $slowest "$@" >"$logs/$part" 2>&1 &
    jobs="$jobs $!"
}
# shellcheck disable=SC2086 # lists of paths and of processes
{
    trap 'kill $jobs; rm -r "$logs"' INT TERM
    beside workers $workers
    beside commands $commands
    beside modules $modules
    beside services $services
    beside remote $remote
}

# shellcheck disable=SC2046,SC2086 # a list of options
timeout --foreground $most "$python" -m pytest tests $slowest $(printf -- '--ignore=%s ' tests/long tests/web/browser $workers $commands $modules $services $remote)
failed=$?
for job in $jobs; do
    wait "$job" || failed=1
done
cat "$logs/workers" "$logs/commands" "$logs/modules" "$logs/services" "$logs/remote"
rm -r "$logs"
exit $failed
