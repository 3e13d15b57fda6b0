"""Events as tracee v0.22 itself wrote them, against ours of the same messages."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from builders.corpus import CORPUS, needs_corpus
from dnstrail.capture_options import CaptureOptions
from dnstrail.events import NET_PACKET_DNS, Event
from dnstrail.tracee.event_shape import event_map
from dnstrail_probe.registry import open_source

pytestmark = [
    *needs_corpus,
    pytest.mark.skipif(
        CORPUS is not None and not (CORPUS / "tracee-events.jsonl.gz").exists(),
        reason="the corpus has no tracee-events.jsonl.gz",
    ),
]
MESSAGES = 24_010


@pytest.fixture(scope="module")
def pairs() -> list[tuple[dict[str, Any], Event]]:
    """Each event of tracee with ours of the same message."""
    assert CORPUS is not None
    with gzip.open(CORPUS / "tracee-events.jsonl.gz") as lines:
        theirs = [json.loads(line) for line in lines]
    source = open_source(str(CORPUS / "tracee-dnsperf.pcap"), CaptureOptions())
    ours = []
    while (batch := source.read(1)) is not None:
        ours += [Event(topic, captured) for topic, captured in batch if topic == NET_PACKET_DNS]
    source.close()
    return list(zip(theirs, ours, strict=True))


def without_options(args: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Arguments without the options of OPT records, which the capture does not have."""
    for record in args[-1]["value"]["additionals"]:
        record["OPT"] = []
    return args


@pytest.mark.parametrize("parse_arguments", [False, True])
def test_the_arguments_are_tracees(pairs: list[tuple[dict[str, Any], Event]], parse_arguments: bool) -> None:
    """Every message has tracee's arguments, key by key and in its order, with and without parse-arguments."""
    equal = 0
    for theirs, event in pairs:
        ours = event_map(event, parse_arguments=parse_arguments)
        expected, args = without_options(theirs["args"]), without_options(ours["args"])
        equal += json.dumps(args) == json.dumps(expected) and ours["argsNum"] == theirs["argsNum"]
    assert equal == MESSAGES


def test_the_keys_of_an_event_are_tracees(pairs: list[tuple[dict[str, Any], Event]]) -> None:
    """Every event has tracee's keys in its order before ours, and its values where both know nothing."""
    same = ("eventId", "eventName", "matchedPolicies", "returnValue", "stackAddresses", "contextFlags")
    same = (*same, "executable", "container", "kubernetes", "containerId")
    for theirs, event in pairs:
        ours = event_map(event)
        assert list(ours) == [*theirs, "networkNamespace", "unit", "slice"]
        assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
