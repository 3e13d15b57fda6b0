"""What a fleet answers about a past time is what the reference model answers for the host, or `history` is false.

Tests of dnstrail_fleet.lookups.known_hosts, dnstrail_fleet.lookups.walk, dnstrail_fleet.lookups.reading,
dnstrail_fleet.clickhouse.reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.fleet import NOON, SECOND, TODAY, entry, received, row
from dnstrail.history.following import AnswerContent, SpooledAnswer
from dnstrail.protocol.facts import type_text
from dnstrail.protocol.lookups import encode_request
from dnstrail_fleet.lookups import reading
from dnstrail_fleet.lookups.answers import answer_lookup
from dnstrail_fleet.row import DAY, FleetEntry, FleetRow
from dnstrail_fleet.sender.totals import RelationTotals, by_asker
from model.naive_answers import Answer
from model.naive_lookup import Live, answer

A, CNAME, PTR, MX = 1, 5, 12, 15
GRACE = 60 * SECOND
MIDNIGHT = TODAY * DAY
NAMES = tuple(f"{letter}.example" for letter in "abc")
ADDRESSES = ("192.0.2.1", "192.0.2.2", "10.0.0.1")
OLD = row("old.example", "192.0.2.9", at=NOON - 5 * DAY)  # the store knows earlier days


class Fleet:
    """A store of a test, and its lookups."""

    def __init__(self, kept: Any) -> None:
        self.store = kept.open()
        self.reader = kept.reader()

    def write(self, *sent: FleetEntry) -> None:
        """Write entries."""
        self.store.write(map(received, sent), {}, NOON)

    def get(self, key: str, at: float | None, **fields: object) -> dict[str, Any]:
        """Return the whole reply about a key."""
        body = encode_request("get", key=key, limit=1000, **fields, **({} if at is None else {"at": at}))
        return msgpack.unpackb(answer_lookup(body, self.reader, NOON, lambda: False))


@pytest.fixture
def fleet(kept: Any) -> Iterator[Fleet]:
    """Return a store that knows a host since some days."""
    found = Fleet(kept)
    with closing(found.store), closing(found.reader):
        found.write(entry("web1", OLD))
        yield found


@st.composite
def answers(draw: st.DrawFn) -> SpooledAnswer:
    """Return an answer of one of two days: a chain to addresses or to a mail server, or a reverse one."""
    ended = draw(st.sampled_from([0, 200, 500, 900, -30, -50_000, 50_000])) + draw(st.integers(0, 90)) + MIDNIGHT
    relations: tuple[tuple[str, int, str], ...]
    if draw(st.booleans()):
        relations = ((NAMES[0], CNAME, NAMES[1]), (NAMES[1], A, ADDRESSES[draw(st.integers(0, 1))]))
    elif draw(st.integers(0, 3)):
        chain = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
        targets = draw(st.lists(st.sampled_from(ADDRESSES), max_size=2, unique=True))
        kind = MX if len(chain) > 1 and draw(st.booleans()) else CNAME
        aliases = [(owner, kind, target) for owner, target in pairwise(chain)]
        relations = tuple(aliases + [(chain[-1], A, target) for target in targets])
    else:
        relations = ((draw(st.sampled_from(ADDRESSES)), PTR, draw(st.sampled_from(NAMES))),)
    if not relations:
        relations = ((NAMES[0], A, ADDRESSES[0]),)
    ttls = draw(st.tuples(*(st.sampled_from([0, 5, 60, 100, 300, 100_000]) for _ in relations)))
    content = AnswerContent(relations[0][0], draw(st.sampled_from(["", "/usr/bin/curl"])), "", "", relations)
    part = draw(st.integers(0, SECOND - 1))
    return SpooledAnswer(ended * SECOND + part, content, ttls, draw(st.integers(0, 5)) == 0)


def sent_by(host: str, given: list[SpooledAnswer]) -> FleetEntry:
    """Return an entry with all rows of some answers, as a sender makes it."""
    totals = RelationTotals()
    for one in given:
        totals.add(one)
    return FleetEntry(1, host, (MIDNIGHT + 2 * DAY) * 1000, askers=by_asker(totals.due(MIDNIGHT + 2 * DAY)))


def expected(given: list[SpooledAnswer], key: str, second: int) -> dict[str, Any] | None:
    """Return what the reference model answers at the end of a second."""
    instant = second * SECOND + SECOND - 1
    stated = []
    for number, one in enumerate(sorted(given, key=lambda one: one.ended)):
        if one.ended > instant:
            continue
        ends = {
            (owner, type_text(rdtype), target): one.ended + ttl * SECOND
            for (owner, rdtype, target), ttl in zip(one.content.relations, one.ttls, strict=True)
        }
        stated.append(Answer(number, one.content.question, one.ended, one.ended, one.doubted, ends))
    return answer(Live(stated, instant, GRACE), key)


@settings(max_examples=min(60, settings().max_examples))
@given(st.lists(answers(), min_size=1, max_size=10), st.data())
def test_a_past_lookup_finds_what_the_host_found(
    make_kept: Callable[[Path], Any], given: list[SpooledAnswer], data: st.DataObject
) -> None:
    """With a known history the sets are those of the host; else they hold them, and maybe more."""
    width = data.draw(st.sampled_from([1, 100 * SECOND]))  # of a time within which answers arrive in any order
    given.sort(key=lambda one: one.ended // width)
    with TemporaryDirectory() as folder:
        found = Fleet(make_kept(Path(folder)))
        with closing(found.store), closing(found.reader):
            found.write(entry("web1", OLD), sent_by("web1", given), entry("web2", row("z.example", "192.0.2.3")))
            for key in (*NAMES, *ADDRESSES):
                later = data.draw(st.sampled_from([0, 1, 59, 70, 120]))
                second = data.draw(st.sampled_from(given)).ended // SECOND + later
                compare(found.get(key, second + 0.5, host="web1"), expected(given, key, second))


def compare(reply: dict[str, Any], model: dict[str, Any] | None) -> None:
    """Compare the sets of a reply with those of the model."""
    if not reply["ok"]:
        assert (reply["error"], model) == ("data_not_found", None)
        return
    addresses, names = ({*reply["data"][field]} for field in ("ip_addresses", "dns_queries"))
    if reply.get("history", True):
        assert model is not None
        assert (addresses, names) == ({*model["ip_addresses"]}, {*model["dns_queries"]})
    elif model is not None:
        assert addresses >= {*model["ip_addresses"]}
        assert names >= {*model["dns_queries"]} - {model["dns_root"]}


def chain(**times: int) -> tuple[FleetRow, FleetRow, FleetRow]:
    """Return the rows of two aliases and an address."""
    return (
        row("www.example", "mid.example", type=CNAME, **times),
        row("www.example", "cdn.example", owner="mid.example", type=CNAME, **times),
        row("www.example", "203.0.113.8", owner="cdn.example", **times),
    )


@pytest.mark.parametrize("at", [None, NOON + 5.0])
@pytest.mark.parametrize("key", ["www.example", "mid.example", "cdn.example", "203.0.113.8"])
def test_each_key_of_a_chain_leads_to_all_of_it(fleet: Fleet, key: str, at: float | None) -> None:
    """An alias in the midst of a chain has the names before it, and the names and the address behind it."""
    fleet.write(entry("web1", *chain()), entry("web2", row("www.example", "203.0.113.9")))
    reply = fleet.get(key, at, host="web1")
    names = ["cdn.example", "mid.example", "www.example"]
    assert (reply["data"]["dns_queries"], reply["data"]["ip_addresses"]) == (names, ["203.0.113.8"])
    assert "history" not in reply


def test_names_of_several_answers_are_joined_at_a_time(fleet: Fleet) -> None:
    """An alias and its address that were answered apart belong together while both were live, on the same host."""
    fleet.write(
        entry("web1", row("www.example", "cdn.example", type=CNAME), row("cdn.example", "203.0.113.8", at=NOON + 50)),
        entry("web2", row("cdn.example", "203.0.113.9")),
    )
    data = fleet.get("www.example", NOON + 100)["data"]
    assert data["ip_addresses"] == ["203.0.113.8"]
    assert fleet.get("www.example", NOON + 49)["data"]["ip_addresses"] == []


def test_a_gap_of_the_day_makes_the_history_unknown(fleet: Fleet) -> None:
    """Between the answers of a day with a gap nobody knows; after the last one, all is known."""
    fleet.write(entry("web1", row(at=NOON - 900, last=NOON, end=NOON + 300, count=2, gaps=1)))
    reply = fleet.get("shop.example", NOON - 400)
    assert (reply["history"], reply["data"]["hosts"][0]["history"]) == (False, False)
    assert reply["data"]["ip_addresses"] == ["203.0.113.7"]
    assert "history" not in fleet.get("shop.example", NOON)
    fleet.write(entry("web1", row(at=NOON - 900, last=NOON, end=NOON + 9, count=3), program="/usr/bin/wget"))
    assert "history" not in fleet.get("shop.example", NOON - 400)  # another program had it all the time


def test_a_reverse_record_counts_where_no_other_relation_may_be_left(fleet: Fleet) -> None:
    """In a gap of its alias, a name has the address whose reverse record names it: the host may have found this one."""
    fleet.write(
        entry(
            "web1",
            row("www.example", "cdn.example", type=CNAME, at=NOON - 900, last=NOON, end=NOON + 300, count=2, gaps=1),
            row("203.0.113.8", "www.example", type=PTR, at=NOON - 410),
        )
    )
    reply = fleet.get("www.example", NOON - 400)
    assert (reply["history"], reply["data"]["ip_addresses"]) == (False, ["203.0.113.8"])
    reply = fleet.get("www.example", NOON)  # the alias is certain
    assert ("history" in reply, reply["data"]["ip_addresses"]) == (False, [])


def test_a_question_whose_alias_has_ended_stays_a_name(fleet: Fleet) -> None:
    """The question of the last answer is a name of an address; if several may be the last one, nobody knows."""
    alias, address = (
        row("www.example", "cdn.example", type=CNAME, end=NOON + 11),
        row("www.example", "203.0.113.8", owner="cdn.example"),
    )
    fleet.write(entry("web1", alias, address))
    reply = fleet.get("203.0.113.8", NOON + 200)
    assert (reply["data"]["dns_queries"], "history" in reply) == (["cdn.example", "www.example"], False)
    other = row("img.example", "203.0.113.8", owner="cdn.example", last=NOON + 9, count=2)
    fleet.write(entry("web1", other))
    assert fleet.get("203.0.113.8", NOON + 200)["history"] is False


def test_losses_and_begin_count_by_host(fleet: Fleet) -> None:
    """With `host`, only what this host lost, and since when it is known, makes the history unknown."""
    fleet.write(entry("web2", row(), dropped=1), entry("web1", row()))
    assert fleet.get("shop.example", NOON + 5)["history"] is False
    assert "history" not in fleet.get("shop.example", NOON + 5, host="web1")
    fleet.write(entry("web3", row()))
    assert fleet.get("shop.example", NOON + 5, host="web3")["history"] is False


def test_the_relations_of_a_host_are_bounded(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a host with too many relations a part is found, and the reply states that; other hosts are found whole."""
    monkeypatch.setattr(reading, "MOST_RELATIONS", 3)
    many = [row("mid.example", f"203.0.113.{number}") for number in range(100, 120)]
    fleet.write(entry("evil", *chain(), *many), entry("web1", *chain()), entry("later", *chain(), *many))
    for at in (None, NOON + 5):
        reply = fleet.get("mid.example", at)
        assert (reply["data"]["truncated"], reply["data"]["next"]) == (True, None)
        [one] = [one for one in reply["data"]["hosts"] if one["host"] == "web1"]
        assert one["dns_queries"] == ["cdn.example", "mid.example", "www.example"]
        assert one["ip_addresses"] == ["203.0.113.8"]
    assert {one["host"]: one["history"] for one in reply["data"]["hosts"]} == {
        "evil": False,
        "web1": True,
        "later": False,
    }
    assert reply["history"] is False


def test_a_loop_of_aliases_ends(fleet: Fleet) -> None:
    """Aliases that lead to each other are walked once."""
    fleet.write(entry("web1", row("a.example", "b.example", type=CNAME), row("b.example", "a.example", type=CNAME)))
    assert fleet.get("a.example", NOON + 5)["data"]["dns_queries"] == ["a.example", "b.example"]
