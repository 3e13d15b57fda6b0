#!/bin/sh
# Install the packages that live capture needs, as root on Debian or Ubuntu; with --tests also the tools of the live
# tests. On other systems dnstrail itself reports what is missing.
set -eu
packages=python3-bpfcc
[ "${1:-}" = --tests ] &&
    packages="$packages bpftool dnsmasq-base bind9-dnsutils iproute2 iptables iputils-ping util-linux sudo libcap2-bin
        dbus-daemon dbus-bin unbound knot-dnsutils openssl gnutls-bin gcc libc6-dev musl-tools systemd net-tools procps curl git strace"

[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
echo "setup: installing$missing" >&2
case "$missing" in *unbound*) # the tests start unbound themselves; the service of the package must not run on this host
    [ ! -d /run/systemd/system ] || systemctl --quiet mask unbound.service unbound-resolvconf.service || true ;;
esac
# shellcheck disable=SC2086 # a list of words
"$(dirname "$0")/install-packages.sh" $missing || echo "setup: cannot install them; dnstrail reports what is missing" >&2
