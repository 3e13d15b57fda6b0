"""The resolvers that a client host can use: one function for each, which sets it up and runs its daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from daemons import UNBOUND, daemon
from hosts import Host
from internet import READY, RESOLVER
from live.namespaces import dnsmasq
from live.processes import wait_until

Resolver = Callable[[Host, Path], AbstractContextManager[None]]
_UNBOUND = (
    UNBOUND
    + """\
    interface: 127.0.0.1
    module-config: "iterator"
    outgoing-interface: {address}
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: {resolver}
"""
)


@contextmanager
def _direct(host: Host, _folder: Path) -> Iterator[None]:
    _ask(host, RESOLVER)
    wait_until(lambda: _resolves(host), "the resolver")
    yield


@contextmanager
def _behind_dnsmasq(host: Host, _folder: Path) -> Iterator[None]:
    _ask(host, "127.0.0.1")
    options = (f"--server={RESOLVER}", "--cache-size=1000", "--interface=lo")
    with dnsmasq(host.namespace, "127.0.0.1", 53, "/unused.invalid/", *options):
        wait_until(lambda: _resolves(host), "dnsmasq")
        yield


@contextmanager
def _behind_unbound(host: Host, folder: Path) -> Iterator[None]:
    _ask(host, "127.0.0.1")
    configuration = folder / "client-unbound.conf"
    configuration.write_text(_UNBOUND.format(folder=folder, address=host.addresses[0], resolver=RESOLVER))
    command = ("unbound", "-d", "-c", configuration)
    with daemon(host, folder / "client-unbound.log", lambda: _resolves(host), *command):
        yield


@contextmanager
def _behind_nscd(host: Host, folder: Path) -> Iterator[None]:
    _ask(host, RESOLVER)
    host.write("/etc/nscd.conf", "enable-cache hosts yes\nenable-cache passwd no\nenable-cache group no\n")
    wait_until(lambda: _resolves(host), "the resolver")
    listens = ("nscd", "--statistics")
    with daemon(host, folder / "nscd.log", lambda: host.run(*listens).returncode == 0, "nscd", "--foreground"):
        yield


@contextmanager
def _behind_resolved(host: Host, folder: Path) -> Iterator[None]:
    """Resolve by systemd-resolved over DNS, at the address of its stub."""
    with _resolved(host, folder, "127.0.0.53", "dns"):
        yield


@contextmanager
def _behind_nss_resolve(host: Host, folder: Path) -> Iterator[None]:
    """Resolve by systemd-resolved over its own socket, which the module of the C library uses."""
    with _resolved(host, folder, "127.0.0.53", "resolve [!UNAVAIL=return] dns"):
        yield


@contextmanager
def _resolved(host: Host, folder: Path, address: str, service: str) -> Iterator[None]:
    _ask(host, address, service)
    user = "getent passwd systemd-resolve || echo systemd-resolve:x:64990:64990::/:/bin/false >> /etc/passwd"
    group = "getent group systemd-resolve || echo systemd-resolve:x:64990: >> /etc/group"
    host.run("sh", "-c", f"{user}; {group}; chown -R 64990:64990 /run/systemd/resolve")
    lines = (f"DNS={RESOLVER}", "FallbackDNS=", "Domains=~.", "LLMNR=no", "MulticastDNS=no", "DNSSEC=no")
    host.write("/etc/systemd/resolved.conf", "\n".join(("[Resolve]", *lines, "")))
    command = ("/usr/lib/systemd/systemd-resolved",)
    with daemon(host, folder / "resolved.log", lambda: _resolves(host), *command):
        yield


RESOLVERS: dict[str, tuple[str, Resolver]] = {  # by its name: the program that it needs, and the function
    "direct": ("sh", _direct),
    "dnsmasq": ("dnsmasq", _behind_dnsmasq),
    "unbound": ("unbound", _behind_unbound),
    "nscd": ("nscd", _behind_nscd),
    "resolved": ("/usr/lib/systemd/systemd-resolved", _behind_resolved),
    "nss-resolve": ("/usr/lib/systemd/systemd-resolved", _behind_nss_resolve),
}


def _ask(host: Host, address: str, service: str = "dns") -> None:
    host.write("/etc/resolv.conf", f"nameserver {address}\n")
    host.write("/etc/nsswitch.conf", f"passwd: files\ngroup: files\nhosts: files {service}\n")


def _resolves(host: Host) -> bool:
    return host.run("getent", "ahosts", READY).returncode == 0
