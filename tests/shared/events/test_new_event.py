"""A new event takes three files and its program, and a new field two: this file adds both to a copy of the product."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

ROOT = Path(__file__).parents[3]
SPECIFICATION = "shared/dnstrail/events/connections.py"
PROCESSES = "shared/dnstrail/events/processes.py"
RECORDS = "services/probe/dnstrail_probe/ebpf/records.py"
TRANSLATOR = "services/probe/dnstrail_probe/ebpf/record_translator.py"
EVENT = (
    (SPECIFICATION, "DST_DNS: Final", 'NET_SCTP_CONNECT: Final = "net_sctp_connect"\nDST_DNS: Final'),
    (
        SPECIFICATION,
        "CONNECTIONS: Final = (",
        """_STREAMS = Field("streams", "u16", "the streams that the client offers", "streams")
CONNECTIONS: Final = (
    _event(NET_SCTP_CONNECT, 7100, "eBPF", "an association", (*_ATTEMPT, _STREAMS), "connect", _connection),""",
    ),
    (RECORDS, "CLOSED, DNS_CLOSED = 11, 12", "CLOSED, DNS_CLOSED, ASSOCIATED = 11, 12, 13"),
    (TRANSLATOR, "from dnstrail.events import (", "from dnstrail.events import (\n    NET_SCTP_CONNECT,"),
    (
        TRANSLATOR,
        "records.CLOSED: self._connection,",
        "records.CLOSED: self._connection,\n            records.ASSOCIATED: self._association,",
    ),
    (
        TRANSLATOR,
        "    def _dns_close(self",
        """    def _association(self, record: bytes) -> Captures:
        packet, _ = records.read_packet(record)
        process, _ = self._attribution.process_of(packet)
        flow = _flow(packet, "")
        args = {"streams": 10, **connection_args(flow)}
        return [(NET_SCTP_CONNECT, Captured(packet.ts + self._epoch, b"", flow, process, args, packet.processor))]

    def _dns_close(self""",
    ),
)
FIELD = (
    (PROCESSES, '"a program starts", ()', '"a program starts", (Field("user", "u32", "the id of the user"),)'),
    (TRANSLATOR, "records.read_process(record), process, {})", 'records.read_process(record), process, {"user": 7})'),
)
# Follows an event from its record to the bus, a client, the terminal, the image and the completion.
FOLLOW = """
import json, sys
from collections import Counter
from dnstrail import events
from dnstrail.events import EFFECTS, EVENTS, Event
from dnstrail.image import Image
from dnstrail.image.apply import apply_event
from dnstrail.protocol.batches import Batch, decode, encode
from dnstrail.capture_options import CaptureOptions
from dnstrail.tracee.event_shape import event_map
from dnstrail_cache.feed.feeder import TOPICS
from dnstrail_cli.pipeline.selection import select
from dnstrail_cli.events.words import event_words
from dnstrail_cli.pipeline.options import _complete_event_names
from dnstrail_probe.ebpf import records
from dnstrail_probe.ebpf.attribution import Attribution
from dnstrail_probe.ebpf.record_translator import RecordTranslator
from dnstrail_probe.packets.assembly import Assembly

options, counters = CaptureOptions(), Counter()
translator = RecordTranslator(
    epoch=0,
    ports=options.ports,
    attribution=Attribution(sys.argv[1], 0),
    assembly=Assembly(options, counters),
    counters=counters,
)
[(name, captured)] = translator.events(eval(sys.argv[2]))
[received] = decode(encode(Batch("s", 1, 0, [captured])), Batch).events
event, image = Event(name, received), Image()
apply_event(image, EFFECTS[name], received, live=True)
shaped = event_map(event)
print(json.dumps({
    "file": events.__file__,
    "id": shaped["eventId"],
    "args": [(one["name"], one["type"], one["value"]) for one in shaped["args"]],
    "line": event_words(event).fitted(None),
    "bound": len(image.binder.bindings),
    "constant": getattr(events, name.upper()),
    "selected": select([name], (), ()).events,
    "subscribed": name in TOPICS,
    "completed": [item.value for item in _complete_event_names(None, None, name[:-1])],
    "meanings": [field.meaning for field in EVENTS[name].fields],
}))
"""
CONNECT = """records._PACKET.pack(5, 13, 0, 77, 7, 9, 5, 8388608, 8388609, 1000, 2, 0, 443, 0, 0, 4, 6, 1, 0, 0, 0,
    bytes(4), bytes([192, 0, 2, 53]), b"", b"curl")"""
EXEC = 'records._PROCESS.pack(5, records.EXEC, 8388608, 9, 5, 1, 1000, 0, 0, 1, 1, 3, b"dig")'


@pytest.fixture
def follow(tmp_path):
    """Return a function that changes a copy of the product, and follows a record through it."""
    for folder in ("shared", "services"):
        copytree(ROOT / folder, tmp_path / folder, ignore=ignore_patterns("__pycache__", "*.so"))

    def change_and_follow(changes, record):
        for file, old, new in changes:
            text = (tmp_path / file).read_text()
            assert text.count(old) == 1, (file, old)
            (tmp_path / file).write_text(text.replace(old, new))
        path = os.pathsep.join(map(str, (tmp_path / "shared", *(tmp_path / "services").iterdir())))
        command = [sys.executable, "-c", FOLLOW, str(tmp_path), record]
        ran = subprocess.run(
            command, check=False, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, ran.stderr
        found = json.loads(ran.stdout)
        assert Path(found.pop("file")).is_relative_to(tmp_path)
        return found

    return change_and_follow


def test_a_new_event_is_three_files_and_its_program(follow):
    """An event that the specification, the records and the translator have is known everywhere else."""
    found = follow(EVENT, CONNECT)
    assert len({file for file, *_ in EVENT}) == 3
    assert found["args"] == [
        ["dst", "const char*", "192.0.2.53"],
        ["dst_port", "int", 443],
        ["socket", "int", 77],
        ["streams", "u16", 10],
    ]
    assert (found["id"], found["line"], found["bound"]) == ("7100", "-> 192.0.2.53:443", 1)
    assert found["constant"] == "net_sctp_connect"
    assert found["selected"] == found["completed"] == ["net_sctp_connect"]
    assert found["subscribed"]


def test_a_new_field_is_two_files(follow):
    """A field that the specification and the translator have reaches every client, with its type and meaning."""
    found = follow(FIELD, EXEC)
    assert len({file for file, *_ in FIELD}) == 2
    assert (found["args"], found["meanings"]) == ([["user", "u32", 7]], ["the id of the user"])
