"""Claims: one event has each subject, however often and from where it comes again.

Tests of dnstrail_fleet.lookups.claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.fleet import NOON
from dnstrail.errors import SettingsError
from dnstrail.protocol.lookups import encode_request
from dnstrail_fleet.files import open_to_read
from dnstrail_fleet.lookups.answers import answer_lookup
from dnstrail_fleet.lookups.claims import KEPT, NAME, ClaimStore
from dnstrail_fleet.lookups.reading import StoreReader
from dnstrail_fleet.row import DAY
from dnstrail_fleet.store.store import FleetStore


@pytest.fixture
def claims(tmp_path: Path) -> Iterator[ClaimStore]:
    """Return claims of a new store."""
    with closing(ClaimStore(tmp_path)) as found:
        yield found


def test_the_first_event_of_a_subject_keeps_it(claims: ClaimStore, tmp_path: Path) -> None:
    """An event that comes again has its subject again, also from another process; all others do not have it."""
    assert claims.claim("A", "a.example", "web1/1-0/1", NOON)
    assert not claims.claim("A", "a.example", "web2/1-0/1", NOON)
    assert claims.claim("B", "a.example", "web2/1-0/1", NOON)
    assert claims.claim("A", "b.example", "web2/1-0/1", NOON)
    with closing(ClaimStore(tmp_path)) as other:
        assert other.claim("A", "a.example", "web1/1-0/1", NOON)
        assert not other.claim("A", "a.example", "web1/2-0/1", NOON)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("ABC"), st.sampled_from("xyz"), st.sampled_from("123"))))
def test_two_stores_agree(tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[bool, str, str, str]]) -> None:
    """In any order, from two processes, the first event of each subject has it."""
    folder, first = tmp_path_factory.mktemp("claims"), dict[tuple[str, str], str]()
    with closing(ClaimStore(folder)) as one, closing(ClaimStore(folder)) as other:
        for which, *key, event in asked:
            expected = first.setdefault((key[0], key[1]), event) == event
            assert (one if which else other).claim(key[0], key[1], event, NOON) == expected


def test_a_subject_is_forgotten_once_nobody_asks(tmp_path: Path) -> None:
    """A subject stays for a time since it was asked about last."""
    most = KEPT - 2 * DAY
    with closing(ClaimStore(tmp_path, most=2)) as claims:  # it looks at each second new claim
        assert claims.claim("A", "a.example", "1", NOON)
        assert not claims.claim("A", "a.example", "2", NOON + most)
        for number in range(2):
            assert claims.claim("A", f"b{number}.example", "3", NOON + 2 * most + number)
        assert claims.claim("A", "a.example", "1", NOON + 2 * most + 9)
        for number in range(2):
            assert claims.claim("A", f"c{number}.example", "4", NOON + 4 * most + number)
        assert claims.claim("A", "a.example", "5", NOON + 4 * most + 9)


def test_claims_are_bounded(tmp_path: Path) -> None:
    """Of more subjects than the bound, those that were asked about least recently are forgotten."""
    with closing(ClaimStore(tmp_path, most=4)) as claims:
        for number in range(40):
            assert claims.claim("A", f"n{number}.example", "1", NOON + number)
        assert not claims.claim("A", "n39.example", "2", NOON + 40)
        assert claims.claim("A", "n0.example", "2", NOON + 40)
        [[count]] = claims._database.execute("SELECT count(*) FROM claims")
        assert count <= 8


def test_a_host_that_claims_too_much_loses_its_own_claims(tmp_path: Path) -> None:
    """One host makes names without end: the claims of other hosts stay, however old they are."""
    with closing(ClaimStore(tmp_path, most=8)) as claims:
        for number in range(3):
            assert claims.claim("A", f"calm{number}.example", f"web{number}/1", NOON)
        for number in range(100):
            assert claims.claim("A", f"n{number}.example", f"bad/{number}", NOON + number)
        for number in range(3):
            assert not claims.claim("A", f"calm{number}.example", "web9/1", NOON + 100)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """A file that is no such file is named, with the remedy."""
    (tmp_path / NAME).write_bytes(b"no database" * 1000)
    with pytest.raises(SettingsError, match=r"claims\.db"):
        ClaimStore(tmp_path)


@pytest.mark.parametrize(
    "fields",
    [{}, {"subject": "a" * 2000}, {"subject": 7}, {"event": None}, {"signature": ["A"]}, {"signature": "A" * 2000}],
    ids=["nothing", "long", "a number", "no event", "a list", "a long signature"],
)
def test_a_bad_claim_is_refused(claims: ClaimStore, tmp_path: Path, fields: dict[str, object]) -> None:
    """A request without a text, or with a long one, is refused, and nothing is written."""
    with closing(FleetStore(tmp_path)) as store, closing(StoreReader(open_to_read(store.path))) as reader:
        whole = {"signature": "A", "subject": "a.example", "event": "1"}
        body = encode_request("claim", **(whole | fields if fields else {}))
        reply = msgpack.unpackb(answer_lookup(body, reader, NOON, lambda: False, claims))
        assert reply["error"] == "bad_request"
        assert claims.claim("A", "a.example", "2", NOON)
        sent = encode_request("claim", **whole)
        assert msgpack.unpackb(answer_lookup(sent, reader, NOON, lambda: False, claims))["data"]["is_first"] is False
