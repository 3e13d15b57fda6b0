from __future__ import annotations

import json

import pytest

from builders.corpus import CORPUS, WHOLE_CORPUS, needs_corpus
from dnstrail.image import Bounds, Image
from dnstrail_probe.registry import open_source
from live.processes import dnstrail
from model.naive import NaiveModel

pytestmark = [
    *needs_corpus,
    pytest.mark.skipif(not WHOLE_CORPUS, reason="make test-corpus runs this"),
    pytest.mark.timeout(300),
]
FIELDS = ("ip_addresses", "dns_queries", "dns_root", "state")


def test_every_name_and_address_of_a_large_capture_is_answered_as_by_the_model():
    """`get --capture FILE -` equals the naive model for every name and address, in the middle and at the end."""
    path = str(CORPUS / "tracee-dnsperf.pcap")
    source = open_source(path)
    messages = []
    while (captured := source.read(1)) is not None:
        messages += [(event.timestamp / 10**9, event.payload) for _, event in captured]
    source.close()
    keys = all_keys(messages)
    assert len(keys) > 12_000
    end = max(stamp for stamp, _ in messages)
    middle = messages[len(messages) // 2][0]
    model = NaiveModel(grace=0)
    expected, fed = [], 0
    for at in (middle, end):
        later = next((place for place, (stamp, _) in enumerate(messages) if stamp > at), len(messages))
        for message in messages[fed:later]:
            model.feed(*message)
        fed = later
        expected += [model.get(key, at) for key in keys]
    asked = "".join(json.dumps({"key": key, "at": at}) + "\n" for at in (middle, end) for key in keys)
    done = dnstrail("get", "--capture", path, "--dnscache", "size=1000000,grace=0", "-", stdin=asked)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(expected) == 2 * len(keys)
    different = [
        (answer, wanted)
        for answer, wanted in zip(answers, expected, strict=True)
        if ({field: answer[field] for field in FIELDS} if answer["found"] else None) != wanted
    ]
    assert different == []


def all_keys(messages: list[tuple[float, bytes]]) -> list[str]:
    """Return every name and address that a relation of the messages touches."""
    image = Image(Bounds(size=10**6, grace=10**6))
    for message in messages:
        image.feed(*message)
    tables = (image.store.forward.out, image.store.forward.into, image.store.pointers.out, image.store.pointers.into)
    return sorted({node for table in tables for node in table})
