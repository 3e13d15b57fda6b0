#!/bin/sh
# Install packages as root on Debian or Ubuntu: install-packages.sh [--update] PACKAGE... . With --update only renew the
# lists of packages. While another program installs packages, as a new machine does by itself, wait up to five minutes.
set -eu
update() {
    waited=0
    until errors=$(apt-get update -q 2>&1); do
        case "$errors" in *'Could not get lock'*) ;; *) waited=300 ;; esac
        [ "$waited" -lt 300 ] || { printf '%s\n' "$errors" && return 1; }
        [ "$waited" != 0 ] || echo "setup: waiting for another program to finish its work with packages"
        sleep 1
        waited=$((waited + 1))
    done
}

{
    update
    [ "$1" = --update ] ||
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -qy --no-install-recommends "$@"
} >&2
