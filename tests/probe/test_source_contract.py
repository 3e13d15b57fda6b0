"""Every source keeps the contract that `Source` states.

Tests of dnstrail_probe.sources.demo.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from contextlib import ExitStack, closing

import dns.message
import pytest

from dnstrail_probe.registry import open_source
from live.namespaces import live_or_skip
from live.processes import PATIENCE

CAPTURES = ("demo", "dnstap:{folder}/dnstap.sock", "packet", "ebpf", "ebpf:getaddrinfo")
LATER = 0.1  # seconds after which an event comes
NEED_ROOT = ("packet", "ebpf", "ebpf:getaddrinfo")


@pytest.mark.parametrize("capture", CAPTURES)
def test_a_second_close_has_no_effect(capture, tmp_path):
    """A second close raises no error, and closes no descriptor that was opened since the first one."""
    if capture in NEED_ROOT:
        live_or_skip()
    source = open_source(capture.format(folder=tmp_path))
    source.close()
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(64)]
    try:
        source.close()
    finally:
        for descriptor in opened:
            os.close(descriptor)


@pytest.mark.parametrize("capture", ["dnstap:{folder}/dnstap.sock", "packet", "ebpf"])
def test_the_descriptor_of_a_live_source_shows_events(capture, tmp_path):
    """Who waits at the descriptor is woken once an event comes, each time that all events before were read."""
    if capture in NEED_ROOT:
        live_or_skip()
    source = open_source(capture.format(folder=tmp_path))
    with closing(source), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking, ExitStack() as writers:

        def act() -> None:
            if capture.startswith("dnstap"):
                writers.enter_context(socket.socket(socket.AF_UNIX)).connect(f"{tmp_path}/dnstap.sock")
            else:
                asking.sendto(dns.message.make_query("a.com", "A").to_wire(), ("127.0.0.1", 53))

        for _ in range(2):
            source.read(0)
            later = threading.Timer(LATER, act)
            later.start()
            ready, _, _ = select.select([source.descriptor], [], [], PATIENCE)
            later.join()
            assert ready


def test_a_source_stays_at_its_end():
    """After the first None every further read returns None."""
    source = open_source("demo")
    while source.read(0) is not None:
        pass
    assert source.read(0) is None
    source.close()
