"""Domains, programs, resolvers and servers are new if no file of the folder has them before."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

import pytest
from msgspec.structs import replace

from builders.facts import BEGIN, CURL, FLOW, SECOND, TO_WEB, fact_of, progress_of, stage_of
from dnstrail.captured import Process
from dnstrail.dns.rdata import A
from dnstrail.history import segment as segments
from dnstrail.history.fact import Fact, StageFact
from dnstrail.history.first_seen import new_since
from dnstrail.history.lives import AskingProgram, RelationLife, merge_lives
from dnstrail_history.store import store as stores
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock

FIRST, DAY = BEGIN // SECOND, 86_400
PING = Process(9, "ping", "/usr/bin/ping")


def asked(number: int, name: str, process: Process = CURL, server: int = 53, port: int = 53) -> Fact:
    """Return an answer on a day: the number of the fact is that of the day."""
    ended = (FIRST + number * DAY) * SECOND
    fact = fact_of(number, ended=ended, process=process, relations=((name, A, "192.0.2.1", 60),))
    return replace(fact, flow=replace(FLOW, destination=bytes([10, 0, 0, server]), destination_port=port))


def keep(folder: Path, *facts: Fact | StageFact) -> None:
    """Store facts, each by a commit of its own."""
    with closing(FactStore(folder, FakeClock(wall=FIRST))) as store:
        for number, fact in enumerate(facts):
            assert store.add(fact)
            assert store.commit(progress_of(number))


def new(folder: Path, day: int) -> list[tuple]:
    """Return day, kind, name and program of each thing that is new since a day."""
    found = new_since(folder, FIRST + day * DAY, pytest.fail).found
    return [((one.first - FIRST) // DAY, one.kind, one.name, one.program.program) for one in found]


def connected(number: int, day: int, address: str, stage: str = "opened") -> StageFact:
    """Return a stage of a connection to an address on a day."""
    destination = ip_address(address).packed
    return stage_of(number, stage, time=(FIRST + day * DAY) * SECOND, flow=replace(TO_WEB, destination=destination))


def test_a_domain_has_the_first_name_below_it(tmp_path):
    """A domain names the owner of its first answer, also of an alias; an address is no domain."""
    folder = tmp_path / "history"
    keep(folder, asked(1, "cdn.shop.example"), asked(2, "www.shop.example"), asked(3, "192.0.2.10"))
    found = new_since(folder, FIRST, pytest.fail).found
    domains = [(one.name, one.owner) for one in found if one.kind == "domain"]
    assert domains == [("shop.example", "cdn.shop.example")]


def test_the_receivers_of_connections_are_no_resolvers(tmp_path):
    """A connection to a server adds no resolver, and one to a known resolver changes no time."""
    folder = tmp_path / "history"
    keep(folder, stage_of(0), asked(1, "shop.example"))
    assert [one for one in new(folder, -1) if one[1] == "resolver"] == [(1, "resolver", "10.0.0.53", "/usr/bin/curl")]


@pytest.mark.parametrize("most", [1, 2, 100], ids=["a segment each", "two in a segment", "one open segment"])
def test_what_is_stored_later_may_be_earlier(tmp_path, monkeypatch, most):
    """A capture of last week that is loaded today moves the first use of resolvers and servers to its own times."""
    monkeypatch.setattr(segments, "MOST_TRANSACTIONS", most)
    monkeypatch.setattr(stores, "MOST_TRANSACTIONS", most)
    folder = tmp_path / "history"
    uses = asked(5, "a.example"), connected(6, 6, "192.0.2.7"), asked(9, "a.example")
    keep(folder, *uses, asked(2, "a.example", PING), connected(3, 3, "192.0.2.7"))
    found = [one for one in new(folder, -1) if one[1] in ("resolver", "server")]
    assert [one[:3] for one in found] == [(2, "resolver", "10.0.0.53"), (3, "server", "192.0.2.7")]


@pytest.mark.parametrize("most", [1, 100], ids=["a segment each", "one open segment"])
def test_a_server_is_new_with_its_first_connection(tmp_path, monkeypatch, most):
    """An address is new once, however many connections and stages follow; one that is only asked is no server."""
    monkeypatch.setattr(segments, "MOST_TRANSACTIONS", most)
    monkeypatch.setattr(stores, "MOST_TRANSACTIONS", most)
    folder = tmp_path / "history"
    keep(
        folder,
        connected(0, 1, "192.0.2.7"),
        connected(0, 1, "192.0.2.7", "end"),
        asked(1, "shop.example"),
        connected(1, 2, "192.0.2.7"),
        connected(2, 2, "2001:db8::7"),
        connected(3, 2, "::ffff:192.0.2.7"),
    )
    curl = "/usr/bin/curl"
    assert [one for one in new(folder, 0) if one[1] == "server"] == [
        (1, "server", "192.0.2.7", curl),
        (2, "server", "2001:db8::7", curl),
    ]
    assert new_since(folder, FIRST, pytest.fail).begins["server"] == FIRST + DAY


@pytest.mark.parametrize("most", [1, 2, 100], ids=["each alone", "in pairs", "one open segment"])
def test_things_are_new_once(tmp_path, monkeypatch, most):
    """A thing is new with its first lookup, wherever the segments end: a further name of a known domain is not."""
    monkeypatch.setattr(segments, "MOST_TRANSACTIONS", most)
    monkeypatch.setattr(stores, "MOST_TRANSACTIONS", most)
    folder = tmp_path / "history"
    keep(
        folder,
        asked(0, "www.shop.example"),
        asked(1, "cdn.shop.example"),
        asked(2, "www.other.example", server=54),
        asked(3, "www.shop.example", PING, port=5353),
        asked(4, "other.example", PING),
    )
    curl, ping = "/usr/bin/curl", "/usr/bin/ping"
    assert new(folder, 1) == [
        (2, "domain", "other.example", curl),
        (2, "resolver", "10.0.0.54", curl),
        (3, "program", ping, ping),
        (3, "resolver", "10.0.0.53 port 5353", ping),
    ]
    assert new(folder, 4) == []
    assert {one for one in new(folder, 0) if one[0] == 0} == {
        (0, "domain", "shop.example", curl),
        (0, "program", curl, curl),
        (0, "resolver", "10.0.0.53", curl),
    }


def test_a_program_is_new_in_each_container(tmp_path):
    """A known program in another container is new; a client without a program is none."""
    folder = tmp_path / "history"
    other = replace(CURL, container_id="c1", container_name="db")
    keep(folder, asked(0, "shop.example"), asked(1, "shop.example", other), asked(2, "shop.example", Process()))
    found = new_since(folder, FIRST + DAY, pytest.fail).found
    assert [one.program for one in found] == [AskingProgram("/usr/bin/curl", "db")]


def test_a_year_knows_earlier_domains(tmp_path):
    """A domain of the year before is not new, and the history states from when it knows each kind."""
    folder = tmp_path / "history"
    keep(folder, asked(1, "www.shop.example"), asked(1000, "next.example"))
    early = RelationLife(20_000, ("old.shop.example", A, "192.0.2.1"), AskingProgram("", ""), 7, 8, 9, 1, 0)
    merge_lives(folder, "0000000008", [early])
    found, begins = new_since(folder, FIRST, pytest.fail)
    assert [one.name for one in found if one.kind == "domain"] == ["next.example"]
    assert begins == {"domain": 7, "program": FIRST + DAY, "resolver": FIRST + DAY}


def test_damaged_files_are_left_out(tmp_path):
    """A segment with a wrong value is named, and the year answers."""
    folder = tmp_path / "history"
    keep(folder, asked(1, "www.shop.example"))
    [segment] = folder.glob("*.open")
    with closing(sqlite3.connect(segment)) as database, database:
        database.execute("UPDATE answers SET relations = x'c1'")
        database.execute("UPDATE paths SET destination = 'text'")
    life = RelationLife(20_700, ("a.next.example", A, "192.0.2.1"), AskingProgram("", ""), FIRST, FIRST, FIRST, 1, 0)
    merge_lives(folder, "0000000008", [life])
    warned: list[str] = []
    assert [one.name for one in new_since(folder, FIRST, warned.append).found] == ["next.example"]
    assert len(warned) == 2
    assert all(segment.name in text for text in warned)


@pytest.mark.parametrize("wrong", ["connections SET time = 'text'", "paths SET destination = 7"])
def test_a_damaged_connection_is_named(tmp_path, wrong):
    """A segment whose connections have a wrong value is named and left out, whatever the value."""
    folder = tmp_path / "history"
    keep(folder, connected(0, 1, "192.0.2.7"))
    [segment] = folder.glob("*.open")
    with closing(sqlite3.connect(segment)) as database, database:
        database.execute(f"UPDATE {wrong}")
    warned: list[str] = []
    assert new_since(folder, 0, warned.append).found == []
    assert [segment.name in text for text in warned] == [True]


def test_a_thing_is_new_since_its_own_time(tmp_path):
    """The time at which the log has the first use selects it, to its last digit."""
    folder = tmp_path / "history"
    keep(folder, replace(asked(1, "a.example"), ended=(FIRST + DAY) * SECOND + 700_000_000))
    for since, kinds in ((FIRST + DAY + 0.7, ["domain", "program", "resolver"]), (FIRST + DAY + 1, [])):
        assert [one.kind for one in new_since(folder, since, pytest.fail).found] == kinds
