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
rm -rf "$folder"
mkdir -p "$folder/archives/partial" "$folder/root"
unpack() {
    apt-get update -q &&
        # apt also downloads the missing dependencies.
        # shellcheck disable=SC2086 # a list of words
        DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends --download-only \
            -o Dir::Cache::archives="$PWD/$folder/archives" $packages &&
        find "$folder/archives" -name '*.deb' -exec dpkg-deb -x {} "$folder/root" \; &&
        rm -rf "$folder/archives" && touch "$folder/done"
}
unpack >&2 || echo "setup: cannot unpack them; the tests that need them are skipped" >&2
