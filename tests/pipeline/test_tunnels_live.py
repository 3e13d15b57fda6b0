"""Real tunnels on the real kernel: the built-in signatures report them, with the process that dug them."""

from __future__ import annotations

import pytest

from live.namespaces import hosts, live_or_skip
from live.pipelines import pipeline
from live.processes import wait_until
from live.tunnels import through_dns2tcp, through_iodine, tunnels_or_skip

pytestmark = pytest.mark.timeout(120)
SIGNATURES = "DNS_TUNNEL,DNS_TUNNEL_TOOL,DNS_RARE_TYPE,DNS_TXT_CODE"


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


def test_nobody_else_is_reported(run):
    """The servers of the tunnels, and the rest of the host, have no findings."""
    assert {event["processName"] for event in run.events} <= {"iodine", "dns2tcpc"}
