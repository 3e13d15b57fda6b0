#!/bin/sh
# Unpack Prometheus and promtool for the tests of the alerts and of the dashboard, as root on Debian or Ubuntu. They are
# not installed, because the package would start a service.
set -eu
folder=.prometheus
packages=prometheus
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
[ ! -e "$folder/done" ] || exit 0
! apt-cache show promtool >/dev/null 2>&1 || packages="$packages promtool" # before Debian 13, prometheus contains it
echo "setup: unpacking $packages into $folder" >&2
rm -rf "$folder"
mkdir -p "$folder/root"
unpack() {
    deploy/install-packages.sh --update &&
        # shellcheck disable=SC2086 # a list of words
        (cd "$folder" && apt-get download -q $packages) &&
        find "$folder" -maxdepth 1 -name '*.deb' -exec dpkg-deb -x {} "$folder/root" \; -delete &&
        touch "$folder/done"
}
unpack >&2 || echo "setup: cannot unpack it; the tests that need it are skipped" >&2
