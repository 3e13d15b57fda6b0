from __future__ import annotations

import re

import pytest

from builders.corpus import CAPTURES, WHOLE_CORPUS, needs_corpus, ports_of, tsharks
from live.processes import dnstrail, run_dir

pytestmark = needs_corpus
REPLAYED = CAPTURES if WHOLE_CORPUS else CAPTURES[::54]  # each starts four processes; `make test-corpus` replays all


@pytest.mark.parametrize("path", REPLAYED, ids=lambda path: path.name)
def test_capture_goes_through_the_pipeline(path):
    """A real capture goes through all workers to the end, nothing is lost, and tshark's messages reach the image."""
    with run_dir() as folder:
        ports = ",".join(map(str, ports_of(path)))
        done = dnstrail(
            "replay", path, "--run-dir", folder, "--events", "net_packet_dns,WATCHED_NAME", "--dns-ports", ports
        )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    counted = re.search(r"(\d+) messages, .* (\d+) lost; (\d+) events shown", done.stderr)
    assert counted, done.stderr
    messages, lost, shown = map(int, counted.groups())
    assert lost == 0
    assert shown == messages
    assert messages == len(tsharks(path))
