#!/bin/sh
# As root on Debian or Ubuntu: what live capture needs of the system. Elsewhere the run itself says what is missing.
# With --tests also the tools that the live tests use.
set -eu
packages=python3-bpfcc
[ "${1:-}" = --tests ] &&
    packages="$packages bpftool dnsmasq-base bind9-dnsutils iproute2 iptables iputils-ping util-linux
        unbound knot-dnsutils openssl gcc libc6-dev musl-tools"

[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
echo "setup: installing$missing" >&2
case "$missing" in *unbound*) # the tests start one of their own: the package's shall not serve this host
    [ ! -d /run/systemd/system ] || systemctl --quiet mask unbound.service unbound-resolvconf.service || true ;;
esac
{
    apt-get update -q
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing
} >&2 || echo "setup: they could not be installed; the run will say what it does without" >&2
