"""Lookups recorded while captures and generated questions are played are asked again from disk: none differs."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from builders.corpus import CAPTURES, CORPUS, events_of, needs_corpus, touched_by
from builders.past import ANYBODY, Played, play_generated
from dnstrail.captured import Captured
from dnstrail.connection import Connection
from dnstrail.events import NET_PACKET_DNS
from dnstrail.image import Bounds

LOOKUPS, PARTS = 20_000, 16


def client_of(event: Captured) -> Connection:
    """Return the client that received a response."""
    return ANYBODY if event.flow is None else Connection(client=event.flow.destination_text)


def play(played: Played, path: Path, chance: Random, at_once: int) -> None:
    """Play a capture; once all messages of a time were applied, ask about names and addresses of the last answers."""
    keys: list[str] = []
    client = ANYBODY
    messages = (event for topic, event in events_of(path) if topic == NET_PACKET_DNS)
    for number, event in enumerate(messages):
        if event.timestamp > played.whole.now and keys:
            played.record(chance.sample(keys, min(at_once, len(keys))), [chance.choice([ANYBODY, client])])
        if number % 50 == 0:
            played.commit(played.whole.now)
        played.play(NET_PACKET_DNS, event)
        keys = [*touched_by(event), *keys][: 3 * at_once]
        client = client_of(event)


@pytest.mark.parametrize("path", [pytest.param(path, marks=needs_corpus, id=path.name) for path in CAPTURES])
def test_the_past_of_a_capture(path, tmp_path):
    """Of the lookups and trails of each capture none differs."""
    played = Played(tmp_path / "history", Bounds(size=100_000))
    play(played, path, Random(1), 3)
    assert played.differences() == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", [pytest.param(CORPUS and CORPUS / "tracee-dnsperf.pcap", marks=needs_corpus)])
def test_the_past_of_a_large_capture(path, tmp_path):
    """Of the lookups and trails of a load test none differs."""
    played = Played(tmp_path / "history", Bounds(size=100_000))
    play(played, path, Random(1), 1)
    assert len(played.asked) > 5000
    assert played.differences() == []


@pytest.mark.parametrize("seed", range(PARTS))
def test_generated_questions(seed, tmp_path):
    """Of a part of 20,000 lookups, by process, container and address, none differs: half of them are trails."""
    played = Played(tmp_path / "history", Bounds())
    play_generated(played, Random(seed), LOOKUPS // PARTS // 2 + 5)
    assert 2 * len(played.asked) >= LOOKUPS // PARTS
    assert played.differences() == []
