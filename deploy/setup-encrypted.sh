#!/bin/sh
# Unpack the tools that the live tests of encrypted DNS need, as root on Debian or Ubuntu: a server (dnsdist, and
# nghttpx for clients of HTTP/1.1), and a resolver for the C library that uses it (nss-tls). They are not installed,
# because the packages would start services and change how this host resolves names.
set -eu
packages="dnsdist nghttp2-proxy nss-tlsd libnss-tls"
folder=.encrypted
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
[ ! -e "$folder/done" ] || exit 0
echo "setup: unpacking $packages into $folder" >&2
# shellcheck disable=SC2086 # a list of words
{ deploy/install-packages.sh --update && deploy/unpack.sh "$folder" $packages && touch "$folder/done"; } >&2 ||
    echo "setup: cannot unpack them; the tests that need them are skipped" >&2
