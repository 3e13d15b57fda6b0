"""Lookups of the fleet: hosts, names, askers and times; private addresses stay those of their hosts.

Tests of dnstrail_fleet.lookups.answers, dnstrail_fleet.lookups.requests, dnstrail_fleet.lookups.reading,
dnstrail_fleet.clickhouse.reading, dnstrail_fleet.private_address, dnstrail.protocol.lookup_thread.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.fleet import NOON, TODAY, entry, received, row
from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import fleet_address
from dnstrail.client import LookupClient
from dnstrail.errors import DataSourceError
from dnstrail.protocol.lookups import encode_request
from dnstrail_fleet.log.contract import StreamLag
from dnstrail_fleet.lookups import answers as answering
from dnstrail_fleet.lookups import reading
from dnstrail_fleet.lookups import server as serving
from dnstrail_fleet.lookups.answers import GONE, SILENT, answer_lookup
from dnstrail_fleet.lookups.contract import StoreUnavailableError
from dnstrail_fleet.lookups.reading import DAYS_BACK, MOST_STEPS, StoreReader
from dnstrail_fleet.lookups.requests import MOST_FOUND
from dnstrail_fleet.lookups.server import FleetServer
from dnstrail_fleet.private_address import is_private
from dnstrail_fleet.row import DAY, FleetEntry, FleetRow
from dnstrail_fleet.store.schema import NAME
from live.processes import run_dir
from live.workers import FakeClock

CURL = {"program": "/usr/bin/curl", "container": "web", "image": "shop:1"}


class Asking:
    """A store of a test, and its lookups."""

    def __init__(self, kept: Any) -> None:
        self.store = kept.open()
        self.reader = kept.reader()
        self.now = float(NOON)

    def write(self, *sent: FleetEntry) -> None:
        """Write entries."""
        self.store.write(map(received, sent), {}, NOON)

    def reply(self, op: str, **fields: object) -> dict[str, Any]:
        """Return the whole reply to a request."""
        return self.raw(encode_request(op, **fields))

    def raw(self, body: bytes, *, is_over: bool = False) -> dict[str, Any]:
        """Return the whole reply to any bytes."""
        return msgpack.unpackb(answer_lookup(body, self.reader, self.now, lambda: is_over))

    def data(self, op: str, **fields: object) -> dict[str, Any]:
        """Return the data of a reply."""
        reply = self.reply(op, **fields)
        assert reply["ok"], reply
        return reply["data"]


@pytest.fixture
def asking(kept: Any) -> Iterator[Asking]:
    """Return a store without rows."""
    found = Asking(kept)
    found.store.write([], {}, NOON)
    with closing(found.store), closing(found.reader):
        yield found


def chain(at: int = NOON) -> tuple[FleetRow, FleetRow]:
    """Return the rows of an alias and its address."""
    return (
        row("www.example", "cdn.example", type=5, at=at),
        row("www.example", "203.0.113.8", owner="cdn.example", at=at),
    )


def test_an_address_is_found_with_hosts_askers_and_times(asking: Asking) -> None:
    """Two hosts that know an address are both named, with the names, the askers, and since when, the newest first."""
    asking.write(entry("web1", row(at=NOON - 90)), entry("web2", *chain(NOON - 9), row("b.example", at=NOON - 60)))
    asking.write(entry("web2", row(at=NOON - 30, last=NOON - 20, count=2)))
    data = asking.data("get", key="203.0.113.7")
    assert data["dns_queries"] == ["b.example", "shop.example"]
    assert [one["host"] for one in data["hosts"]] == ["web2", "web1"]
    assert data["hosts"][0] == {
        "host": "web2",
        "ip_addresses": ["203.0.113.7"],
        "dns_queries": ["b.example", "shop.example"],
        "askers": [CURL],
        "first": NOON - 60,
        "last": NOON - 20,
        "end": NOON + 270,
        "answers": 3,
        "gaps": 0,
        "doubted": 0,
        "last_connection": 0,
    }
    assert asking.data("get", key="203.0.113.7", host="web1")["hosts"][0]["first"] == NOON - 90


def test_the_last_connection_is_that_of_all_rows_of_a_host(asking: Asking) -> None:
    """Of names and addresses the latest one by the engine's clock is stated, and none of another host."""
    asking.write(entry("web1", row(used=NOON + 5), row("a.example", used=NOON + 9)), entry("web2", row()))
    found = {one["host"]: one["last_connection"] for one in asking.data("get", key="203.0.113.7")["hosts"]}
    assert found == {"web1": NOON + 9, "web2": 0}
    assert asking.data("get", key="shop.example", host="web1")["hosts"][0]["last_connection"] == NOON + 5


def test_a_name_of_one_host_alone_is_found(asking: Asking) -> None:
    """The host, and the first time of all days; no host once another one asks on any day."""
    rows = [row("own.example", at=NOON - day * DAY, target=f"192.0.2.{day}") for day in (3, 1, 0)]
    asking.write(entry("web1", *rows, row()), entry("web2", row()))
    since = (TODAY - 3) * DAY
    assert asking.data("alone", name="own.example") == {
        "host": "web1", "first": NOON - 3 * DAY, "since": since, "behind": []
    }  # fmt: skip
    asking.write(entry("web2", row("own.example", at=NOON - DAY)))
    for name in ("own.example", "shop.example", "none.example"):
        assert asking.data("alone", name=name)["host"] == ""


def test_a_key_is_found_in_any_spelling(asking: Asking) -> None:
    """Capital letters and a final dot make no difference."""
    asking.write(entry("web1", *chain(), row()))
    assert asking.data("get", key="WWW.example.") == {**asking.data("get", key="www.example"), "key": "www.example"}


def test_private_addresses_are_never_merged(asking: Asking) -> None:
    """A private address of two hosts has no common names; a name with other private ones is a split horizon."""
    asking.write(
        entry("web1", row("db.example", "10.0.0.5"), row("api.example", "203.0.113.1")),
        entry("web2", row("printer.example", "10.0.0.5"), row("db.example", "203.0.113.2")),
    )
    data = asking.data("get", key="10.0.0.5")
    assert (data["ip_addresses"], data["dns_queries"]) == ([], [])
    assert {one["host"]: one["dns_queries"] for one in data["hosts"]} == {
        "web1": ["db.example"],
        "web2": ["printer.example"],
    }
    assert asking.data("get", key="10.0.0.5", host="web1")["dns_queries"] == ["db.example"]
    data = asking.data("get", key="db.example")
    assert (data["split_horizon"], data["ip_addresses"]) == (True, ["203.0.113.2"])
    assert not asking.data("get", key="api.example")["split_horizon"]
    top = asking.data("top", what="addresses")["top"]
    assert sorted((one["name"], one.get("host")) for one in top if one["name"] == "10.0.0.5") == [
        ("10.0.0.5", "web1"),
        ("10.0.0.5", "web2"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.1.2.3", True),
        ("172.31.0.1", True),
        ("172.32.0.1", False),
        ("169.254.169.254", True),
        ("fd00::1", True),
        ("::1", True),
        ("2001:db8::1", False),
        ("198.19.255.1", True),
        ("64:ff9b:1::1", True),
        ("64:ff9b::a00:1", True),
        ("64:ff9b::cb00:7107", False),
        ("a.example", False),
        ("[::1]", True),
        ("::1%a%b", True),
        ("[2001:db8::1]", False),
    ],
)
def test_private_addresses(text: str, *, expected: bool) -> None:
    """Addresses of RFC 1918, 6598, 3927, 1122, 2544, 4193 and 8215 are private, also behind NAT64."""
    assert is_private(text) is expected


@pytest.mark.parametrize("target", ["[::1]", "::1%a%b", "::1%", "[]", "1.2.3.256"])
def test_a_host_may_write_an_address_in_any_form(asking: Asking, target: str) -> None:
    """A target that a host writes with brackets or zones ends no lookup of others."""
    asking.write(entry("web1", row()), entry("evil", row(target=target)))
    assert {one["host"] for one in asking.data("get", key="shop.example")["hosts"]} == {"web1", "evil"}
    assert {one["name"] for one in asking.data("top", what="addresses")["top"]} == {"203.0.113.7", target}


def test_a_trail_has_the_steps_to_its_key(asking: Asking) -> None:
    """A trail leads from the question to the key; a key that is the question has all its steps."""
    asking.write(entry("web1", *chain(), row("www.example", "203.0.113.9", owner="cdn.example")))
    [one] = asking.data("trail", key="203.0.113.8")["trails"]
    assert one["steps"] == [["www.example", "CNAME", "cdn.example"], ["cdn.example", "A", "203.0.113.8"]]
    assert (one["host"], one["asker"], one["question"]) == ("web1", CURL, "www.example")
    [one] = asking.data("trail", key="www.example")["trails"]
    assert len(one["steps"]) == 3


def test_a_trail_is_bounded(asking: Asking) -> None:
    """A question with too many relations has a part of them, and the reply states it."""
    asking.write(entry("web1", *(row("big.example", f"203.0.{n // 256}.{n % 256}") for n in range(MOST_STEPS + 1))))
    reply = asking.data("trail", key="203.0.0.0")
    assert reply["truncated"]


def test_as_of_a_time_only_what_may_have_lived_counts(asking: Asking) -> None:
    """A past lookup finds rows with answers before and an end after the time, and states what the store cannot know."""
    asking.write(entry("web1", row(at=NOON - DAY), row("old.example", at=NOON - 3 * DAY)))
    asking.write(entry("web1", row("b.example", last=NOON + 50, end=NOON + 60)))
    assert asking.data("get", key="203.0.113.7", at=NOON - DAY + 100)["dns_queries"] == ["shop.example"]
    assert asking.reply("get", key="203.0.113.7", at=NOON - DAY + 400)["error"] == "data_not_found"
    assert asking.data("get", key="203.0.113.7", at=NOON + 55)["dns_queries"] == ["b.example"]
    early = asking.reply("get", key="203.0.113.7", at=NOON - 3 * DAY + 1)
    assert early["history"] is False
    assert "history" not in asking.reply("get", key="203.0.113.7", at=NOON + 55)
    asking.store.note_lag({"web1": StreamLag(0, 1)})
    assert asking.reply("get", key="203.0.113.7", at=NOON + 55)["history"] is False


def test_a_past_lookup_looks_back_for_some_days(asking: Asking) -> None:
    """A relation whose life is longer than the days that are read is not found after them."""
    long = row(at=NOON - DAYS_BACK * DAY, end=NOON + 9 * DAY)
    asking.write(entry("web1", long))
    assert asking.reply("get", key="shop.example", at=NOON)["ok"]
    assert not asking.reply("get", key="shop.example", at=NOON + DAY)["ok"]


def test_pages_lead_to_older_rows(asking: Asking) -> None:
    """A page has the newest rows, states that there are more, and `before` leads to the next one."""
    asking.write(entry("web1", *(row(f"n{number}.example", at=NOON - number * DAY // 2) for number in range(5))))
    data: dict[str, Any] = {"truncated": True}
    seen, before = [], float(NOON + 1)
    while data["truncated"]:
        data = asking.data("get", key="203.0.113.7", limit=2, before=before)
        seen += data["dns_queries"]
        before = data["hosts"][0]["first"]
    assert seen == [f"n{number}.example" for number in range(5)]


@pytest.mark.parametrize("op", ["get", "trail"])
def test_a_page_ends_with_its_second(asking: Asking, op: str) -> None:
    """Rows of one second stay together: following `next` leads to each row once."""
    ats = [NOON, NOON - 1, NOON - 1, NOON - 1, NOON - 2, NOON - 2]
    asking.write(entry("web1", *(row(f"n{number}.example", at=at) for number, at in enumerate(ats))))
    data = asking.data(op, key="203.0.113.7", limit=2)
    pages = [data]
    while data["next"] is not None:
        data = asking.data(op, key="203.0.113.7", limit=2, before=data["next"])
        pages.append(data)
    names = [one.get("dns_queries") or [each["question"] for each in one["trails"]] for one in pages]
    assert [sorted(one) for one in names] == [[f"n{number}.example" for number in part] for part in (range(4), (4, 5))]


@pytest.mark.parametrize(
    ("most", "expected"),
    [(1, [(0,)]), (2, [(0, 1), (2, 3), (4,)]), (3, [(0, 1), (2, 3, 4)]), (4, [(0, 1, 2, 3), (4,)])],
)
def test_a_page_of_trails_that_ends_early_skips_no_trail(
    asking: Asking, most: int, expected: list[tuple[int, ...]]
) -> None:
    """It ends with a second, and `next` leads to the trails after it; there is no `next` in the midst of a second."""
    ats = [NOON, NOON, NOON - 1, NOON - 1, NOON - 2]
    asking.write(entry("web1", *(row(f"n{number}.example", at=at) for number, at in enumerate(ats))))
    pages, before = list[tuple[int, ...]](), NOON + 1
    while before is not None:
        request, checks = encode_request("trail", key="203.0.113.7", before=before), itertools.count(1)
        reply = answer_lookup(request, asking.reader, NOON, lambda checks=checks: next(checks) >= most)
        data = msgpack.unpackb(reply)["data"]
        pages.append(tuple(sorted(int(one["question"][1]) for one in data["trails"])))
        before = data["next"]
    assert (pages, data["truncated"]) == (expected, most == 1)


def write_with_clocks_that_are_off(asking: Asking) -> None:
    """Write sixteen rows, whose days are those of their hosts."""
    for host, late, ages in (
        ("ahead", -20 * 3600, (3600, 7200, 10_800, 14_400)),
        ("right", 0, (60, 120, 7200, DAY // 2 + 60, 2 * DAY, 2 * DAY + 60)),
        ("behind", 20 * 3600, (30, 7200, 7201, DAY // 2 + 60)),
        ("far-behind", DAY, (60, 7200)),
    ):
        rows = (row(f"{host}-{age}.example", at=NOON - age - late) for age in ages)
        asking.store.write([received(entry(host, *rows, sent=NOON - late), late=late * 1000)], {}, NOON)


@pytest.mark.parametrize("limit", [1, 2, 3, 9])
def test_pages_have_all_rows_of_clocks_that_are_off(asking: Asking, limit: int) -> None:
    """Days are those of the hosts: rows of a later day may be older. Each is on one page, the newest first."""
    write_with_clocks_that_are_off(asking)
    found = asking.reader.touching("203.0.113.7", limit, before=NOON)
    seen = found.rows
    while not found.is_whole:
        assert len({one.last for one in found.rows[limit - 1 :]}) == 1
        found = asking.reader.touching("203.0.113.7", limit, before=seen[-1].last)
        seen += found.rows
    assert (len(seen), len({one.question for one in seen})) == (16, 16)
    assert [one.last for one in seen] == sorted((one.last for one in seen), reverse=True)


@pytest.mark.parametrize("days", [1, 2, 3])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_a_page_that_ends_early_skips_no_row(asking: Asking, limit: int, days: int) -> None:
    """A search whose time is over after some days has all rows until `next`, or no `next`: it never hides one."""
    write_with_clocks_that_are_off(asking)
    every = {one.question: one.last for one in asking.reader.touching("203.0.113.7", 100).rows}
    seen, before = set[str](), NOON
    while before is not None:
        request, checks = encode_request("get", key="203.0.113.7", limit=limit, before=before), itertools.count(1)
        reply = answer_lookup(request, asking.reader, NOON, lambda checks=checks: next(checks) >= days)
        data, earlier = msgpack.unpackb(reply)["data"], before
        seen |= {*data["dns_queries"]}
        before = data["next"]
        if before is not None:
            assert before < earlier
            assert seen == {name for name, last in every.items() if last >= before}
    assert (seen == {*every}) is not data["truncated"]


def test_the_rows_of_one_second_are_bounded(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that states one second for all rows lengthens a page only to a bound."""
    monkeypatch.setattr(reading, "MOST_OF_SECOND", 5)
    asking.write(entry("web1", *(row(f"n{number}.example") for number in range(9))))
    data = asking.data("get", key="203.0.113.7", limit=2)
    assert (len(data["dns_queries"]), data["truncated"]) == (5, True)


def test_the_texts_of_a_host_are_bounded(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts end a page of trails; a reply that stays too long is refused, and those of other hosts are not."""
    monkeypatch.setattr(answering, "MOST_REPLY", 1 << 16)
    monkeypatch.setattr(answering, "MOST_TEXT", 1 << 14)
    long = (row(f"{number}{'x' * 1000}.example", at=NOON - number) for number in range(99))
    asking.write(entry("web1", *long), entry("web2", row("b.example", at=NOON - 200)))
    data = asking.data("trail", key="203.0.113.7")
    assert (len(data["trails"]), data["truncated"], data["next"]) == (8, True, NOON - 7)
    refused = asking.reply("get", key="203.0.113.7")
    assert (refused["ok"], refused["error"]) == (False, "overloaded")
    assert asking.data("get", key="203.0.113.7", limit=9)["next"] == NOON - 8
    assert asking.data("get", key="203.0.113.7", host="web2")["dns_queries"] == ["b.example"]


def test_a_lookup_ends_in_the_midst_of_a_statement(
    asking: Asking, kept: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A statement that takes too long is interrupted, and its client is told so; the next one is answered."""
    asking.write(entry("web1", *(row(f"n{number}.example") for number in range(4000))))
    with run_dir() as run, closing(LookupClient(address := fleet_address(run), timeout=30)) as client:
        path, clock = tmp_path / NAME, FakeClock(NOON)
        server = FleetServer(partial(ZmqBus, None), address, path, clock, lambda _: kept.reader())
        with monkeypatch.context() as patch:
            patch.setattr(serving, "LONGEST", -1.0)
            with pytest.raises(DataSourceError, match="interrupted"):
                client.request("top", what="names")
        assert client.request("top", what="names")["data"]["top"]
        server.close()
    assert server.counters == {"answered": 1, "refused": 0, "unreadable": 1}


def test_a_host_that_is_behind_is_named(asking: Asking) -> None:
    """A host is behind while entries wait, while its sender is, and while it is silent; no reply is complete then."""
    asking.write(entry("idle"), entry("web1", row()), entry("web2", behind=1), entry("web3"))
    asking.store.note_lag({"web3": StreamLag(3, 0)})
    reply = asking.reply("get", key="shop.example")
    assert (reply["complete"], reply["data"]["behind"]) == (False, ["web2", "web3"])
    assert asking.reply("get", key="other.example") == {
        "v": 1,
        "ok": False,
        "error": "data_not_found",
        "message": "requested data was not found",
        "complete": False,
    }
    asking.now += SILENT + 1
    assert asking.data("hosts")["behind"] == ["idle", "web1", "web2", "web3"]
    asking.now += GONE
    assert asking.data("hosts")["behind"] == []


def test_new_names_are_those_that_no_host_asked_for_before(asking: Asking) -> None:
    """A name is new once for the fleet, with the host that asked first, whatever the order of the entries."""
    asking.write(entry("web1", row(at=NOON - 50)), entry("web2", row(at=NOON - 100), row("b.example", at=NOON - 10)))
    assert asking.data("new", since=NOON - 200)["names"] == [
        {"name": "b.example", "first": NOON - 10, "host": "web2"},
        {"name": "shop.example", "first": NOON - 100, "host": "web2"},
    ]
    assert [one["name"] for one in asking.data("new", since=NOON - 60)["names"]] == ["b.example"]


def test_top_counts_answers_of_the_newest_day(asking: Asking) -> None:
    """The most answers come first, with the number of hosts."""
    asking.write(entry("web1", row(count=3), row("b.example"), row("old.example", at=NOON - DAY, count=99)))
    asking.write(entry("web2", row(count=2)), entry("ahead", row(at=NOON + DAY), sent=NOON + DAY))
    assert asking.data("top", what="names")["top"] == [
        {"name": "shop.example", "answers": 5, "relations": 2, "hosts": 2},
        {"name": "b.example", "answers": 1, "relations": 1, "hosts": 1},
    ]
    assert [one["name"] for one in asking.data("top", what="hosts")["top"]] == ["web1", "web2"]
    assert asking.data("top", what="addresses")["top"][0]["answers"] == 6


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 9)), max_size=20), st.integers(1, 4))
def test_top_addresses_are_those_of_all_rows(
    make_kept: Callable[[Path], Any], given: list[tuple[int, int, int]], limit: int
) -> None:
    """A private address counts for each host by itself, however many hosts have it."""
    answers: Counter[tuple[str, str | None]] = Counter()
    rows: dict[str, list[FleetRow]] = {"web1": [row("z.example", "2001:db8::1")]}
    for number, (host, last, count) in enumerate(given):
        address = f"10.0.0.{last}" if last < 4 else f"203.0.113.{last}"
        rows.setdefault(f"web{host}", []).append(row(f"n{number}.example", address, count=count))
        answers[address, f"web{host}" if last < 4 else None] += count
    answers["2001:db8::1", None] = 1
    with TemporaryDirectory() as folder:
        asking = Asking(make_kept(Path(folder)))
        with closing(asking.store), closing(asking.reader):
            asking.write(*(entry(host, *some) for host, some in rows.items()))
            found = asking.data("top", what="addresses", limit=limit)["top"]
    assert [one["answers"] for one in found] == sorted(answers.values(), reverse=True)[:limit]
    assert all(answers[one["name"], one.get("host")] == one["answers"] for one in found)


@pytest.mark.parametrize("what", ["hosts", "names", "addresses"])
def test_counts_beyond_all_numbers_hide_nobody(asking: Asking, what: str) -> None:
    """A host that states the most answers for many rows leads; the others are counted as before."""
    most = (1 << 53) - 1
    for part in range(2):
        rows = (row("evil.example", "10.0.0.1", owner=f"n{part}-{one}.example", count=most) for one in range(600))
        asking.write(entry("evil", *rows))
    asking.write(entry("web1", row("shop.example", count=2)))
    found = asking.data("top", what=what)["top"]
    assert [one["answers"] for one in found] == [(1 << 63) - 1, 2]


def test_the_sums_of_a_host_are_bounded(asking: Asking) -> None:
    """A host that states the most answers for many rows of one second gets the largest sums that a reply can hold."""
    most = (1 << 53) - 1
    totals = {"count": most, "gaps": most, "doubted": most}
    rows = (row("evil.example", owner=f"n{number}.example", **totals) for number in range(2100))
    asking.write(entry("evil", *rows), entry("web1", row(count=2)))
    found = {one["host"]: one for one in asking.data("get", key="203.0.113.7", limit=5)["hosts"]}
    sums = {host: [one[name] for name in ("answers", "gaps", "doubted")] for host, one in found.items()}
    assert sums == {"evil": [(1 << 63) - 1] * 3, "web1": [2, 0, 0]}


def test_top_addresses_end_in_time(asking: Asking) -> None:
    """A lookup that takes too long is interrupted between two addresses, too."""
    asking.write(entry("web1", row()))
    with pytest.raises((sqlite3.OperationalError, StoreUnavailableError), match="interrupted"):
        asking.raw(encode_request("top", what="addresses"), is_over=True)


def test_hosts_state_losses_and_skew(asking: Asking) -> None:
    """Each host has its losses by reason, and its skew above a second."""
    asking.store.write([received(entry("web1"), late=-5_000)], {("web1", "form"): 2}, NOON)
    [one] = asking.data("hosts")["hosts"]
    assert (one["host"], one["skew"], one["refused"]) == ("web1", -5.0, {"form": 2})


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "bad_request"),
        (msgpack.packb({"v": 2, "op": "get", "key": "a.example"}), "unsupported_version"),
        (encode_request("drop"), "bad_request"),
        (encode_request("get"), "bad_request"),
        (encode_request("get", key=5), "key_not_supported"),
        (encode_request("get", key="x" * 2000), "bad_request"),
        (encode_request("get", key="a.example", limit=MOST_FOUND + 1), "bad_request"),
        (encode_request("get", key="a.example", at=float("nan")), "bad_request"),
        (encode_request("get", key="a.example", before=1e300), "bad_request"),
        (encode_request("top", what="passwords"), "bad_request"),
        (encode_request("new", since=-1), "bad_request"),
        (encode_request("get", key="'; DROP TABLE rows; --"), "data_not_found"),
        (encode_request("get", key="a.example", host="web9"), "data_not_found"),
    ],
)
def test_a_bad_request_is_refused_with_its_code(asking: Asking, body: bytes, error: str) -> None:
    """What is no request of ours has the error codes of the cache."""
    asking.write(entry("web1", row("a.example")))
    assert asking.raw(body)["error"] == error


@given(st.binary(max_size=100))
def test_any_bytes_get_a_reply(body: bytes) -> None:
    """No bytes raise an error before the store is read."""
    reply = msgpack.unpackb(answer_lookup(body, _NoRows(), 0.0, lambda: False))
    assert reply["ok"] is False


class _NoRows(StoreReader):
    """A store without hosts, which no request reaches."""

    def __init__(self) -> None:
        """Open nothing."""

    def behind(self, waiting: int, heard: float, gone: float) -> list[str]:
        """Return none."""
        return []
