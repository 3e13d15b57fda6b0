#!/bin/sh
# Install the packages for the tests with containers, as root on Debian or Ubuntu. The tests start a separate Docker
# daemon.
set -eu
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
missing=
for package in docker.io docker-cli docker-compose docker-compose-v2 docker-buildx debootstrap util-linux podman \
    crun uidmap busybox-static; do
    apt-cache show "$package" >/dev/null 2>&1 || continue # names differ between releases
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
echo "setup: installing$missing" >&2
# shellcheck disable=SC2086 # a list of words
"$(dirname "$0")/install-packages.sh" $missing
