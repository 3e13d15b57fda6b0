#!/bin/sh
# Unpack tshark, with which a test compares transactions, as root on Debian or Ubuntu. It is not installed.
set -eu
folder=.tshark
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
[ ! -e "$folder/done" ] || exit 0
echo "setup: unpacking tshark into $folder" >&2
{ deploy/install-packages.sh --update && deploy/unpack.sh "$folder" tshark && touch "$folder/done"; } >&2 ||
    echo "setup: cannot unpack it; the test that needs it is skipped" >&2
