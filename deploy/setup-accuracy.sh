#!/bin/sh
# Unpack the web server and the clients of `make accuracy-live` into .clients, as root on Debian or Ubuntu:
# setup-accuracy.sh VENV [--all]. With --all also the large ones: Go, Java, Chromium. They are not installed, because
# some packages would start services or change how this host resolves names. The tool names each client that is missing.
set -eu
venv=$1 size=small folder=.clients
small="nginx-light ruby php-cli busybox-static lynx w3m aria2 axel wget wget2 git curl nodejs openssh-client libwww-perl
    liblwp-protocol-https-perl nscd systemd-resolved libnss-resolve"
large="golang-go openjdk-21-jdk-headless chromium"
wanted=$small
if [ "${2:-}" = --all ]; then
    size=all
    wanted="$small $large"
fi
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
[ ! -e "$folder/all" ] && [ ! -e "$folder/$size" ] || exit 0
echo "setup: unpacking clients into $folder" >&2

unpack() {
    deploy/install-packages.sh --update || return
    packages=
    for package in $wanted; do
        ! apt-cache show "$package" >/dev/null 2>&1 || packages="$packages $package"
    done
    # shellcheck disable=SC2086 # a list of words
    deploy/unpack.sh "$folder" $packages
}

libraries() {
    "$venv/bin/python" -m venv "$folder/venv" &&
        "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            requests httpx aiohttp niquests || return
    ! command -v npm >/dev/null || timeout 180 npm install --silent --prefix "$folder/node" undici@6 axios got >/dev/null
}

{ unpack && libraries && touch "$folder/$size"; } >&2 || echo "setup: cannot unpack all clients" >&2
