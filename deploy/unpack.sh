#!/bin/sh
# Unpack packages, and the packages they need that this host lacks, into FOLDER/root without installing them, as root on
# Debian or Ubuntu: unpack.sh FOLDER PACKAGE... . The lists of packages must be up to date.
set -eu
folder=$1
shift
rm -rf "$folder"
mkdir -p "$folder/archives/partial" "$folder/root"
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends --reinstall --download-only \
    -o Dir::Cache::archives="$PWD/$folder/archives" "$@"
find "$folder/archives" -name '*.deb' -exec dpkg-deb -x {} "$folder/root" \;
rm -rf "$folder/archives"
