#!/bin/sh
# Unpack the Valkey server for the tests of the fleet, as root on Debian or Ubuntu. It is not installed, because its
# package would start a service.
set -eu
folder=.valkey
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
[ ! -e "$folder/done" ] || exit 0
echo "setup: unpacking valkey-server into $folder" >&2
{ deploy/install-packages.sh --update && deploy/unpack.sh "$folder" valkey-server && touch "$folder/done"; } >&2 ||
    echo "setup: cannot unpack it; the tests that need it are skipped" >&2
