"""Real attacks on the real kernel: the built-in signatures report them, with the process behind them."""

from __future__ import annotations

import pytest

from live.namespaces import SENDER, SERVER, dnsmasq, hosts, live_or_skip
from live.pipelines import pipeline
from live.processes import wait_until
from live.tunnels import through_dns2tcp, through_iodine, tunnels_or_skip

SIGNATURES = "DNS_TUNNEL,DNS_TUNNEL_TOOL,DNS_RARE_TYPE,DNS_TXT_CODE,DNS_REBINDING,ENCRYPTED_DNS"
PUBLIC = "93.184.215.14"
# Asks a server for a name, then connects to an address: as a browser does that was rebound.
REBOUND = """
import os, socket, sys
server, address = sys.argv[1:]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(10)
udp.sendto(bytes.fromhex("00010100000100000000000006726562696e6404746573740000010001"), (server, 53))
udp.recv(4096)
socket.socket().connect_ex((address, 80))
print(os.getpid())
"""
OVER_TLS = """
import os, socket, sys
socket.socket().connect_ex((sys.argv[1], 853))
print(os.getpid())
"""


@pytest.fixture(scope="module")
def network():
    live_or_skip()
    tunnels_or_skip()
    with hosts() as both:
        yield both


@pytest.fixture(scope="module")
def run(network):
    with pipeline("--events", SIGNATURES, "--output", "json") as running:
        yield running


@pytest.mark.parametrize(
    ("through", "program", "expected"),
    [
        (through_iodine, "iodine", {"DNS_TUNNEL", "DNS_TUNNEL_TOOL", "DNS_RARE_TYPE"}),
        (through_dns2tcp, "dns2tcpc", {"DNS_TUNNEL", "DNS_TUNNEL_TOOL", "DNS_TXT_CODE"}),
    ],
    ids=["iodine", "dns2tcp"],
)
def test_a_tunnel_is_reported_with_its_process(network, run, tmp_path, through, program, expected):
    """Each signature reports the tunnel once, and names the program of the client."""

    def reported():
        return sorted(event["eventName"] for event in run.events if event["processName"] == program)

    through(network, tmp_path)
    wait_until(lambda: {*reported()} >= expected, f"{expected}")
    assert reported() == sorted(expected)


def of_program(network, run, event_name, *command):
    """Run a program on the client; return the arguments of its finding."""
    done = network.on_client("python3", "-c", *command)
    assert done.returncode == 0, done.stderr

    def found():
        return [event for event in run.named(event_name) if event["processId"] == int(done.stdout)]

    wait_until(found, f"{event_name} of {done.stdout}")
    [event] = found()
    return {argument["name"]: argument["value"] for argument in event["args"]}


def test_a_connection_to_a_rebound_name_is_reported(network, run):
    """The answer has a public and an inner address; the program that received it connects to the inner one."""
    both = ("--local-ttl=5", f"--address=/rebind.test/{SERVER}")
    with dnsmasq(network.server, SENDER, 53, f"/rebind.test/{PUBLIC}", *both):
        wait_until(lambda: network.on_client("dig", f"@{SENDER}", "rebind.test").returncode == 0, "dnsmasq")
        found = of_program(network, run, "DNS_REBINDING", REBOUND, SENDER, SERVER)
    assert (found["name"], found["public_address"], found["inner_address"]) == ("rebind.test", PUBLIC, SERVER)


def test_dns_over_tls_is_reported(network, run):
    """A connection to port 853 is encrypted DNS, whatever its end."""
    found = of_program(network, run, "ENCRYPTED_DNS", OVER_TLS, SERVER)
    assert (found["address"], found["port"]) == (SERVER, 853)


def test_servers_are_not_reported(run):
    """The servers that answer the tunnels have no findings."""
    assert {event["processName"] for event in run.events}.isdisjoint({"iodined", "dns2tcpd", "dnsmasq"})
