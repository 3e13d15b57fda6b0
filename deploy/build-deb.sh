#!/bin/sh
# Build the Debian package of this checkout: build-deb.sh FOLDER. It contains a virtual environment of the system's
# Python in /opt/dnstrail, compiled by mypyc, and depends on this version of Python. Needs python3-venv, python3-dev, gcc.
set -eu
umask 022
out=$(realpath "$1")
cd "$(dirname "$0")/.."
python=/usr/bin/python3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
package=$work/package home=$work/package/opt/dnstrail

"$python" -m venv "$work/pip"
"$python" -m venv --without-pip "$home"
DNSTRAIL_MYPYC=1 "$work/pip/bin/pip" --python "$home/bin/python" install \
    --quiet --disable-pip-version-check --no-cache-dir --no-compile ".[web,fleet,cri]"
"$home/bin/python" -m dnstrail_cli --version | grep -q '(compiled)'
install -d "$package/usr/share/man/man1"
"$home/bin/python" deploy/make_man_pages.py "$package/usr/share/man/man1"
gzip -9n "$package"/usr/share/man/man1/*
# Completion for bash, zsh and fish, where their packages look for it.
for place in bash:bash-completion/completions/dnstrail zsh:zsh/vendor-completions/_dnstrail fish:fish/vendor_completions.d/dnstrail.fish; do
    install -d "$(dirname "$package/usr/share/${place#*:}")"
    _DNSTRAIL_COMPLETE=${place%%:*}_source "$home/bin/python" -m dnstrail_cli >"$package/usr/share/${place#*:}"
done
find "$home/bin" -type f ! -name dnstrail -delete
sed -i "s|$package||" "$home/bin/dnstrail" "$home/pyvenv.cfg"
find "$home" -name __pycache__ -prune -exec rm -rf {} +
"$python" -m compileall -q -s "$package" "$home/lib"

install -d "$package/usr/bin" "$package/etc" "$package/DEBIAN"
ln -s /opt/dnstrail/bin/dnstrail "$package/usr/bin/dnstrail"
cp -R deploy/etc "$package/etc/dnstrail"
chmod -R u=rwX,go=rX "$package/etc/dnstrail"
install -D -m 644 -t "$package/usr/lib/systemd/system" deploy/systemd/*.service
install -D -m 644 deploy/systemd/dnstrail.sysusers "$package/usr/lib/sysusers.d/dnstrail.conf"
install -D -m 644 LICENSE "$package/usr/share/doc/dnstrail/copyright"
install -m 755 deploy/debian/* "$package/DEBIAN"
(cd "$package" && find etc -type f -printf '/%p\n') >"$package/DEBIAN/conffiles"
minor=$("$python" -c 'import sys; print(sys.version_info[1])')
cat >"$package/DEBIAN/control" <<EOF
Package: dnstrail
Version: $("$home/bin/python" -c 'import dnstrail; print(dnstrail.__version__)')
Architecture: $(dpkg --print-architecture)
Maintainer: dnstrail developers <maintainers@dnstrail.invalid>
Installed-Size: $(du -sk --exclude DEBIAN "$package" | cut -f 1)
Depends: python3 (>= 3.$minor), python3 (<< 3.$((minor + 1))), python3-bpfcc, systemd | systemd-standalone-sysusers
Section: net
Priority: optional
Description: image of names and addresses from the DNS traffic of a host
 dnstrail watches DNS by eBPF, keeps an image of how names and addresses are
 related, and answers which query an address came from. Signatures report findings.
EOF
mkdir -p "$out"
dpkg-deb --root-owner-group --build "$package" "$out"
