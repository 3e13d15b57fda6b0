"""Every source keeps the contract that `Source` states.

Tests of dnstrail_probe.sources.demo.
"""

from __future__ import annotations

import os

import pytest

from dnstrail_probe.registry import open_source
from live.namespaces import live_or_skip

CAPTURES = ("demo", "dnstap:{folder}/dnstap.sock", "packet", "ebpf", "ebpf:getaddrinfo")
NEED_ROOT = ("packet", "ebpf", "ebpf:getaddrinfo")


@pytest.mark.filterwarnings("ignore:not a bytes object:DeprecationWarning")  # bcc's own
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


def test_a_source_stays_at_its_end():
    """After the first None every further read returns None."""
    source = open_source("demo")
    while source.read(0) is not None:
        pass
    assert source.read(0) is None
    source.close()
