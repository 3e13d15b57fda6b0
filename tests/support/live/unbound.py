"""A real resolver, Debian's unbound, that serves DNS over TLS and writes dnstap."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from live.certificate import make_certificate
from live.namespaces import SERVER, Hosts
from live.processes import PATIENCE, wait_until

TLS_PORT = 853
IDENTITY = "resolver.test"
_CONFIGURATION = """
server:
    directory: "{folder}"
    username: ""
    chroot: ""
    pidfile: ""
    use-syslog: no
    logfile: "{folder}/unbound.log"
    do-daemonize: no
    num-threads: 1
    interface: 127.0.0.1@{port}
    tls-port: {port}
    tls-service-key: "{folder}/key.pem"
    tls-service-pem: "{folder}/certificate.pem"
    module-config: "iterator"
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: {server}
dnstap:
    dnstap-enable: yes
    dnstap-socket-path: "{socket}"
    dnstap-send-identity: yes
    dnstap-identity: "{identity}"
    dnstap-log-client-query-messages: yes
    dnstap-log-client-response-messages: yes
    dnstap-log-forwarder-query-messages: yes
    dnstap-log-forwarder-response-messages: yes
"""


@contextmanager
def unbound(hosts: Hosts, folder: Path, socket: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a resolver on the client that forwards to the server's dnsmasq."""
    make_certificate(folder, IDENTITY, "127.0.0.1")
    configuration = folder / "unbound.conf"
    configuration.write_text(
        _CONFIGURATION.format(folder=folder, port=TLS_PORT, server=SERVER, socket=socket, identity=IDENTITY)
    )
    process = subprocess.Popen(["ip", "netns", "exec", hosts.client, "unbound", "-d", "-c", str(configuration)])
    try:
        wait_until(lambda: process.poll() is not None or ask(hosts, "google.com"), "unbound")
        assert process.poll() is None, (folder / "unbound.log").read_text()
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)


def ask(hosts: Hosts, name: str, *options: str) -> str:
    """Return the address of a name by the resolver, over TLS; "" without a reply."""
    return hosts.on_client(
        "kdig", "@127.0.0.1", "-p", str(TLS_PORT), "+tls", "+short", "+retry=0", "+time=15", *options, name
    ).stdout.strip()


_STUB = """
server:
    directory: "{folder}"
    username: ""
    chroot: ""
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    num-threads: 1
    interface: {address}
    do-not-query-localhost: no
    local-zone: "test." nodefault
    module-config: "iterator"
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: {server}
"""


@contextmanager
def unbound_stub(hosts: Hosts, folder: Path, address: str, server: str) -> Iterator[None]:
    """Run a resolver on the client that serves port 53 of an address, and forwards to a server."""
    configuration = folder / "stub.conf"
    configuration.write_text(_STUB.format(folder=folder, address=address, server=server))
    process = subprocess.Popen(["ip", "netns", "exec", hosts.client, "unbound", "-d", "-c", str(configuration)])
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)
