"""Encrypted DNS: Debian's dnsdist as server, and nss-tls, which resolves for the C library over HTTPS.

deploy/setup-encrypted.sh unpacks them; they are not installed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from live.certificate import make_certificate
from live.namespaces import SERVER, Hosts, dnsmasq, skip
from live.processes import PATIENCE, run_dir, wait_until

SECRET, SECRET_ADDRESS = "secret.test", "192.0.2.88"  # a name that only encrypted DNS resolves
TLS_PORT, HTTPS_PORT, HTTP1_PORT = 853, 443, 8443
_NAME = "dnsdist.test"  # in the certificate
_BACKEND_PORT = 5353  # no DNS port of the probe
_FOLDER = Path(__file__).parents[3] / ".encrypted"
_ROOT = _FOLDER / "root"
_LIBRARIES = next(_ROOT.glob("usr/lib/*-linux-gnu"), _ROOT)
_WITH_LIBRARIES = {**os.environ, "LD_LIBRARY_PATH": str(_LIBRARIES)}
_MODULE = "libnss_tls.so.2"
_DNSDIST = """
setSecurityPollSuffix('')
setLocal('127.0.0.1:5300')
setACL({{'0.0.0.0/0'}})
newServer({{address='127.0.0.1:{backend}', healthCheckMode='up'}})
addDOHLocal('{server}:{https}', '{folder}/certificate.pem', '{folder}/key.pem', '/dns-query')
addTLSLocal('{server}:{tls}', '{folder}/certificate.pem', '{folder}/key.pem')
"""
_DNSTAP = """
tap = newFrameStreamUnixLogger('{socket}')
addAction(AllRule(), DnstapLogAction('dnsdist.test', tap))
addResponseAction(AllRule(), DnstapLogResponseAction('dnsdist.test', tap))
"""
# A host with its own /etc and /run; the script then becomes its only resolver. The resolver gives up root before it
# loads the module of TLS, so it sees the unpacked files at a place that everyone can read.
_CLIENT = """
set -e
mount --bind "$4" "$1/libraries"
mount -t tmpfs none "$1/mount"
cp -a /etc "$1/mount/etc"
mount --bind "$1/mount/etc" /etc
mount -t tmpfs none /run
rm -f /etc/resolv.conf
: > /etc/resolv.conf
echo 'hosts: tls' > /etc/nsswitch.conf
printf '[global]\\nresolvers=%s\\n' "$2" > /etc/nss-tls.conf
cp --remove-destination "$1/certificate.pem" /etc/ssl/certs/ca-certificates.crt
export LD_LIBRARY_PATH="$1/libraries" GIO_EXTRA_MODULES="$1/libraries/gio/modules"
export GIO_USE_PROXY_RESOLVER=dummy GIO_USE_VFS=local
exec "$3"
"""


def encrypted_or_skip() -> None:
    """Skip if the servers were not unpacked; fail if live tests are required."""
    if not (_FOLDER / "done").exists():
        skip("no servers of encrypted DNS here: deploy/setup-encrypted.sh unpacks them")


@contextmanager
def dnsdist(hosts: Hosts, folder: Path, tap: Path | None = None) -> Iterator[None]:
    """Run a server that serves DNS over TLS and HTTPS alone; it writes dnstap to `tap`."""
    make_certificate(folder, _NAME, SERVER)
    places = {"backend": _BACKEND_PORT, "server": SERVER, "https": HTTPS_PORT, "tls": TLS_PORT, "folder": folder}
    text = _DNSDIST.format(**places) + (_DNSTAP.format(socket=tap) if tap else "")
    (folder / "dnsdist.conf").write_text(text)
    command = [_ROOT / "usr/bin/dnsdist", "--supervised", "--disable-syslog", "-C", folder / "dnsdist.conf"]
    known = f"/{SECRET}/{SECRET_ADDRESS}"
    with (
        dnsmasq(hosts.server, "127.0.0.1", _BACKEND_PORT, known, "--local=/test/", forks=True),
        _running(hosts.server, folder / "dnsdist.log", *command),
    ):
        wait_until(lambda: ask(hosts, SECRET, "+tls") == SECRET_ADDRESS, "dnsdist")
        yield


def ask(hosts: Hosts, name: str, how: str) -> str:
    """Return the address of a name by the server, over "+tls" or "+https"; "" without a reply."""
    port = TLS_PORT if how == "+tls" else HTTPS_PORT
    command = ("kdig", f"@{SERVER}", "-p", str(port), how, "+short", "+retry=0", "+time=15", name)
    return hosts.on_client(*command).stdout.strip()


@contextmanager
def encrypted_client(hosts: Hosts) -> Iterator[list[str]]:
    """Yield the command that starts a program on the client whose C library resolves over HTTPS alone."""
    with run_dir() as folder, ExitStack() as stack:
        folder.chmod(0o755)
        stack.enter_context(dnsdist(hosts, folder))
        stack.enter_context(_http1(hosts, folder))
        for place in ("mount", "modules", "libraries"):
            (folder / place).mkdir()
        (folder / "modules" / _MODULE).symlink_to(_LIBRARIES / _MODULE)  # only this file: all others are the host's
        resolver = stack.enter_context(_resolver(hosts, folder))
        within = ["nsenter", "--mount", "--net", f"--target={resolver.pid}"]
        client = [*within, "env", f"LD_LIBRARY_PATH={folder / 'modules'}"]
        resolves = [*client, "getent", "ahostsv4", SECRET]
        wait_until(lambda: subprocess.run(resolves, capture_output=True, check=False).returncode == 0, "nss-tls")
        yield client


@contextmanager
def _http1(hosts: Hosts, folder: Path) -> Iterator[None]:
    """Run nghttpx between dnsdist, which speaks HTTP/2, and nss-tls, which speaks HTTP/1; both sides are encrypted.

    It verifies dnsdist by name, because nghttpx 1.52 rejects the certificate of an IP address.
    """
    command = [_ROOT / "usr/sbin/nghttpx", "--conf=/dev/null", "-n1", "--no-ocsp", f"--frontend={SERVER},{HTTP1_PORT}"]
    command += [f"--backend={SERVER},{HTTPS_PORT};/;proto=h2;tls;sni={_NAME}", f"--cacert={folder / 'certificate.pem'}"]
    command += [f"--errorlog-file={folder / 'nghttpx.log'}", folder / "key.pem", folder / "certificate.pem"]
    with _running(hosts.server, folder / "nghttpx.out", *command):
        yield


@contextmanager
def _resolver(hosts: Hosts, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    url = f"https://{SERVER}:{HTTP1_PORT}/dns-query"
    arguments = (folder, url, _ROOT / "usr/sbin/nss-tlsd", _LIBRARIES)
    command = ("unshare", "--mount", "sh", "-c", _CLIENT, "sh", *arguments)
    with _running(hosts.client, folder / "nss-tlsd.log", *command) as process:
        yield process


@contextmanager
def _running(namespace: str, log: Path, *command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command], env=_WITH_LIBRARIES, stdout=out, stderr=out
        )
    try:
        yield process
        assert process.poll() is None, log.read_text(errors="replace")
    finally:
        process.terminate()
        process.wait(PATIENCE)
