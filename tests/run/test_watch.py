"""The pipeline that watches a command: when it counts as silent, and whether one runs already."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from dnstrail.bus.ipc import lookups_address
from dnstrail.protocol.lookups import encode_data
from dnstrail_run.watch import _SILENCE, Joined, SilentProbe, serves_live
from live.workers import FakeClock, answering, short_folder


@pytest.mark.parametrize(("every", "silent"), [(2, False), (100, True)])
def test_a_probe_without_turns_is_silent(every, silent):
    """A running pipeline whose probe ends no turn for ten seconds has failed; one that is slow has not."""
    clock = FakeClock()
    began = clock.monotonic()
    looks = []

    def wait(_timeout):
        looks.append(clock.advance(1))

    def take(_clock):
        view.last = len(looks) // every

    view = SimpleNamespace(last=0, wait=wait, take=take)
    watch = Joined(view, clock)
    if silent:
        with pytest.raises(SilentProbe):
            watch.work(threading.Event(), lambda: False)
        assert clock.monotonic() - began > _SILENCE
    else:
        watch.work(threading.Event(), lambda: len(looks) > 50)


@pytest.mark.parametrize(
    ("status", "probe", "serves"),
    [
        ("ok", {"live": True, "sockets_found": 1}, True),
        ("silent", {"live": True, "sockets_found": 1}, False),
        ("ok", {"live": False, "sockets_found": 1}, False),
        ("ok", {"live": True, "packets": 1}, False),
    ],
)
def test_only_a_live_probe_by_ebpf_is_used(status, probe, serves):
    """A cache without a live probe, or with one that captures no processes, cannot watch a command."""
    reply = encode_data({"status": status, "probes": {"start": probe}})
    with short_folder() as folder, answering(lookups_address(folder), lambda _: reply):
        assert serves_live(folder) is serves


def test_without_a_cache_nothing_is_used():
    """A folder without a cache serves nothing."""
    with short_folder() as folder:
        assert not serves_live(folder)
