#!/bin/sh
# Unpack the Valkey server and its sentinel for the tests of the fleet, as root on Debian or Ubuntu. They are not
# installed, because their packages would start services.
set -eu
folder=.valkey
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
[ ! -e "$folder/done" ] || [ ! -L "$folder/root/usr/bin/valkey-sentinel" ] || exit 0
echo "setup: unpacking valkey-server and valkey-sentinel into $folder" >&2
{ deploy/install-packages.sh --update && deploy/unpack.sh "$folder" valkey-server valkey-sentinel && touch "$folder/done"; } >&2 ||
    echo "setup: cannot unpack them; the tests that need them are skipped" >&2
