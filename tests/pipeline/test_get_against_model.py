from __future__ import annotations

import json

import pytest

from builders.corpus import CORPUS, WHOLE_CORPUS, needs_corpus
from dnstrail_probe.registry import open_source
from live.processes import dnstrail
from model.instants import SECOND
from model.naive import NaiveModel, Result
from model.naive_relate import stated_by

pytestmark = [
    *needs_corpus,
    pytest.mark.skipif(not WHOLE_CORPUS, reason="make test-corpus runs this"),
]
FIELDS = ("ip_addresses", "dns_queries", "dns_root", "state")


def test_every_name_and_address_of_a_large_capture_is_answered_as_by_the_model():
    """`get --capture FILE -` equals the naive model for every name and address, in the middle and at the end."""
    path = str(CORPUS / "tracee-dnsperf.pcap")
    source = open_source(path)
    messages = []
    while (captured := source.read(1)) is not None:
        messages += [(event.timestamp, event.payload) for _, event in captured]
    source.close()
    keys = all_keys(messages)
    assert len(keys) > 12_000
    middle, end = (next_second(stamp) for stamp in (messages[len(messages) // 2][0], max(messages)[0]))
    questions = [(at, key) for at in (middle, end) for key in keys]
    asked = "".join(json.dumps({"key": key, "at": at // SECOND}) + "\n" for at, key in questions)
    done = dnstrail("get", "--capture", path, "--dnscache", "size=1000000,grace=0", "-", stdin=asked)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(questions)
    model = NaiveModel(grace=0)
    for message in messages:
        model.feed(*message)
    different = []
    for (at, key), answer in zip(questions, answers, strict=True):
        given = {field: answer[field] for field in FIELDS} if answer["found"] else None
        wanted = model.get(key, at=at, like=given)
        if given != wanted and (model.meets_a_sum(key, at) or model.depends_on_sums(key, at=at)):
            given, wanted = unordered(given), unordered(wanted)
        different += [(key, at, given, wanted)] * (given != wanted)
    assert different == []


def next_second(stamp: int) -> int:
    """Return the next whole second, which JSON and floats hold exactly."""
    return (stamp // SECOND + 1) * SECOND


def unordered(result: Result | None) -> Result | None:
    """Return what is exact of a result that depends on a sum."""
    return result and {field: sorted(result[field]) for field in ("ip_addresses", "dns_queries")}


def all_keys(messages: list[tuple[int, bytes]]) -> list[str]:
    """Return every name and address that a relation of the messages touches."""
    relations = [one.relation for _, payload in messages for one in stated_by(payload)[1]]
    return sorted({node for owner, _, target in relations for node in (owner, target)})
