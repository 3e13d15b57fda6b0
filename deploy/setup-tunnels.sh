#!/bin/sh
# Unpack the tunnel tools that the live tests of detections use, as root on Debian or Ubuntu: iodine and dns2tcp. They
# are not installed, because the packages have services.
set -eu
packages="iodine dns2tcp"
folder=.tunnels
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
[ ! -e "$folder/done" ] || exit 0
echo "setup: unpacking $packages into $folder" >&2
# shellcheck disable=SC2086 # a list of words
{ deploy/install-packages.sh --update && deploy/unpack.sh "$folder" $packages && touch "$folder/done"; } >&2 ||
    echo "setup: cannot unpack them; the tests that need them are skipped" >&2
