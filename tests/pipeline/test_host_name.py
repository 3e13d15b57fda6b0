"""The name of the watched host in the events of a real run."""

from __future__ import annotations

import json
import os

from builders.dnstap_builders import START, WHOLE, Writer, framed, tap
from live.processes import run_dir, started, wait_until
from live.workers import response


def test_a_live_event_names_the_host_of_the_probe():
    """An event of a live source has the name of the host on which it was captured."""
    with run_dir() as folder:
        socket = folder / "dnstap.sock"
        options = ("--capture", f"dnstap:{socket}", "--run-dir", folder, "--output", "json")
        with started(*options, "--events", "net_packet_dns") as run:
            wait_until(socket.exists, "the dnstap socket")
            assert "ready" in run.stderr.readline()
            writer = Writer(socket)
            writer.send(START + framed(tap(response_message=response("a.example", "a.example 9 A 192.0.2.1"), **WHOLE)))
            event = json.loads(run.stdout.readline())
            writer.close()
    assert event["hostName"] == os.uname().nodename


def test_an_event_of_a_file_names_no_host():
    """The host of a capture file is unknown, so its events have an empty host name."""
    with run_dir() as folder, started("--capture", "demo", "--run-dir", folder, "--output", "json") as run:
        assert json.loads(run.stdout.readline())["hostName"] == ""
