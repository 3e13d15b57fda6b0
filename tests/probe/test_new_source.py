"""A new source is one module and one line of the table: a source from outside the project, in the real probe."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from dnstrail.bus.ipc import events_address
from dnstrail.capture_options import CaptureOptions
from dnstrail.errors import SettingsError, SourceUnavailable
from dnstrail.events import NET_PACKET_DNS
from dnstrail.protocol.batches import TURN, Batch, decode
from dnstrail_probe import registry
from dnstrail_probe.check import check_host
from dnstrail_probe.registry import SourceEntry, best_source, is_file, open_source
from live.processes import run_dir, text_of, wait_until
from live.workers import open_bus

MODULE = """
import time
from collections import Counter
from dnstrail.captured import Captured
from dnstrail_probe.check import Check


class TickSource:
    live = True
    damage = ""
    descriptor = None
    capabilities = ()
    lost_by_cgroup = ()
    losses = {"tick_lost": "probe"}

    def __init__(self, argument):
        self.name, self.counters = f"ticks {argument}", Counter(tick_lost=2)

    def read(self, timeout):
        time.sleep(timeout)
        return [("net_packet_dns", Captured(time.time_ns(), self.name.encode()))]

    def close(self):
        pass


def open_source(opening):
    return TickSource(opening.argument)


def _look(host):
    raise OSError("it has stopped")


CHECKS = (Check("clock", "ticks", _look, "wind it up"),)
"""
LINE = 'SourceEntry("ticks", "tick_source", argument="NAME")'
# The one line is added from outside, since the test must not change the product.
PROBE = f"""
from dnstrail_probe import registry
from dnstrail_probe.registry import SourceEntry
registry.SOURCES = (*registry.SOURCES, {LINE})
from dnstrail.process.command import run_command
from dnstrail_probe.__main__ import command
run_command(command, "dnstrail probe")
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return the folder of a module with a source, which Python finds, and its line in the table."""
    (tmp_path / "tick_source.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = SourceEntry("ticks", "tick_source", argument="NAME")
    monkeypatch.setattr(registry, "SOURCES", (*registry.SOURCES, entry))
    monkeypatch.setattr("dnstrail_probe.check.SOURCES", registry.SOURCES)
    return tmp_path


@contextmanager
def probing(folder: Path, module: Path):
    """Yield the real probe, with one more line in its table."""
    command = [sys.executable, "-c", PROBE, "--capture", "ticks:tock", "--run-dir", str(folder)]
    paths = {**os.environ, "PYTHONPATH": str(module)}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=paths) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_the_real_probe_captures_from_it(module):
    """The probe publishes the events of a new source, with its losses by hop."""
    with run_dir() as folder, open_bus() as bus, probing(folder, module):
        subscriber = bus.subscriber([events_address(folder)], [NET_PACKET_DNS, TURN])
        batches = []

        def received():
            while (message := subscriber.receive()) is not None:
                batches.extend([decode(message[1], Batch)] if message[0] == NET_PACKET_DNS else [])
            return batches

        wait_until(received, "an event")
        assert batches[0].events[0].payload == b"ticks tock"
        assert batches[0].host == os.uname().nodename


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to lose")
def test_it_keeps_no_capability_that_it_does_not_name(module):
    """A source that names no capabilities keeps none, though the probe was started with all of them."""
    with run_dir() as folder, probing(folder, module) as process:
        wait_until((folder / "events.sock").exists, "the socket")
        status = dict(line.split(":\t") for line in text_of(Path(f"/proc/{process.pid}/status")).splitlines())
        assert (int(status["CapEff"], 16), int(status["CapPrm"], 16), status["NoNewPrivs"]) == (0, 0, "1")


def test_its_word_and_its_argument_are_understood(module):
    """The word of a new source opens it, its argument may follow a colon, and neither is taken for a file."""
    assert [open_source(word).name for word in ("ticks", "ticks:tock")] == ["ticks ", "ticks tock"]
    assert [is_file(word) for word in ("ticks", "ticks:tock", "tick", "./ticks")] == [False, False, True, True]


def test_the_help_names_it(module):
    """The help text of --capture lists a new source with its argument."""
    assert "dnstap[:PATH], demo, ticks[:NAME], a FILE, or -" in registry._help()


def test_its_checks_are_part_of_the_report(module, tmp_path, monkeypatch):
    """The report has the checks of a new source, with their remedies."""
    monkeypatch.setattr("dnstrail_probe.check.SOURCES", (registry.SOURCES[-2], registry.SOURCES[-1]))
    report = check_host(CaptureOptions(), tmp_path)
    assert (report.checks[-1].name, report.checks[-1].able) == ("clock", False)
    assert (report.checks[-1].reason, report.checks[-1].remedy) == ("it has stopped", "wind it up")


def refusing(name: str, **fields) -> SourceEntry:
    """Return the line of a source that cannot be opened."""
    return SourceEntry(name, f"{name}_source", automatic=True, **fields)


def test_auto_takes_the_first_that_can_be_opened(module, monkeypatch):
    """Auto opens the first automatic source that is available, and reports why each better one is not."""
    (module / "stone_source.py").write_text(
        "from dnstrail.errors import SourceUnavailable\n"
        "def open_source(opening):\n    raise SourceUnavailable('stone', 'is heavy', 'lift it')\n"
    )
    entries = (refusing("stone"), SourceEntry("ticks", "tick_source", automatic=True), refusing("unknown"))
    monkeypatch.setattr(registry, "SOURCES", entries)
    said: list[str] = []
    assert best_source(said.append).name == "ticks "
    assert said == ["no capture by stone: is heavy: lift it", "capturing by ticks"]
    monkeypatch.setattr(registry, "SOURCES", entries[:1])
    with pytest.raises(SourceUnavailable, match="stone: is heavy"):
        best_source(said.append)


def test_server_names_are_refused_where_a_source_has_none(module, monkeypatch):
    """A source without server names refuses --evidence sni by name; auto captures without them and says so."""
    entry = SourceEntry("ticks", "tick_source", automatic=True, server_names=False)
    monkeypatch.setattr(registry, "SOURCES", (entry,))
    wanted = CaptureOptions(server_names=True)
    with pytest.raises(SettingsError, match="--evidence sni: --capture ticks"):
        open_source("ticks", wanted)
    said: list[str] = []
    best_source(said.append, wanted)
    assert said == ["ticks captures no server names: without --evidence sni", "capturing by ticks"]


@pytest.mark.parametrize("capture", ["packet", "dnstap"])
def test_packet_and_dnstap_refuse_server_names(capture):
    """AF_PACKET and dnstap do not capture server names, and say so before they open anything."""
    with pytest.raises(SettingsError, match=f"--evidence sni: --capture {capture}"):
        open_source(capture, CaptureOptions(server_names=True))
