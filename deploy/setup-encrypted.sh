#!/bin/sh
# As root on Debian or Ubuntu: a server of encrypted DNS (dnsdist; nghttpx, for clients of HTTP/1.1) and a resolver that
# asks it for the C library (nss-tls), for the live tests. They are unpacked and not installed: their packages would start
# services, and change how this host resolves names.
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
        # With whatever they need and this host lacks.
        # shellcheck disable=SC2086 # a list of words
        DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends --download-only \
            -o Dir::Cache::archives="$PWD/$folder/archives" $packages &&
        find "$folder/archives" -name '*.deb' -exec dpkg-deb -x {} "$folder/root" \; &&
        rm -rf "$folder/archives" && touch "$folder/done"
}
unpack >&2 || echo "setup: they could not be unpacked; the run will say what it does without" >&2
