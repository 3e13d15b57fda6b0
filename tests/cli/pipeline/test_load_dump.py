"""`dnstrail history load` stores what a dump of a cache holds, each answer once.

Tests of dnstrail_cli.pipeline.load_dump.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders.facts import stored
from dnstrail.events import OUTCOMES
from dnstrail.history.fact import LOADED, Fact
from dnstrail.image.record import MAX_SIGHTINGS
from live.processes import dnstrail
from live.workers import asker, cache, probe, response, seen, short_folder, wait_until_seen

CHAIN = response("www.a.com", "www.a.com 600 CNAME a.com.", "a.com 300 A 192.0.2.1")
ALIAS = response("alias.a.com", "alias.a.com 60 CNAME nowhere.example.")
REVERSE = response("1.2.0.192.in-addr.arpa", "1.2.0.192.in-addr.arpa 600 PTR a.com.", rdtype="PTR")
OFTEN = response("often.example", "often.example 5 A 192.0.2.9")
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def dumped() -> str:
    """Return a dump of a cache, of which one record has more answers than it holds."""
    with short_folder() as folder, cache(folder) as address, asker(address) as client, probe(folder) as publishing:
        often = (seen(OFTEN, 1100.0 + number) for number in range(MAX_SIGHTINGS + 5))
        mark = publishing.turn(seen(CHAIN, 1000.0), seen(ALIAS, 1003.0), seen(CHAIN, 1005.5), seen(REVERSE, 1006.0))
        mark = publishing.turn(*often)
        wait_until_seen(client, mark)
        return dnstrail("dump", "--run-dir", folder).stdout


@pytest.fixture
def dump(tmp_path: Path, dumped: str) -> Path:
    path = tmp_path / "image.ndjson"
    path.write_text(dumped)
    return path


def load(folder: Path, dump: Path) -> str:
    """Load a dump, and return what was stated."""
    done = dnstrail("history", "--folder", folder, "load", dump)
    assert done.returncode == 0, done.stderr
    return done.stderr


def shown(fact: Fact) -> tuple[float, str, str, tuple[tuple[str, int, str, int], ...]]:
    """Return time, name, outcome and relations of a fact."""
    return fact.ended / SECOND, fact.values.name, OUTCOMES[fact.values.outcome], (*fact.values.owned,)


def test_a_dump_has_the_answers_of_its_cache(tmp_path, dump):
    """Each answer is a transaction of its time, with the TTL of each relation; a second load adds none."""
    folder = tmp_path / "history"
    held = 4 + MAX_SIGHTINGS + 1
    for repeated in (0, held):
        assert f"{held} transactions, {repeated} of them loaded before" in load(folder, dump)
    chain = (("www.a.com", 5, "a.com", 600), ("a.com", 1, "192.0.2.1", 300))
    found = [*map(shown, stored(folder))]
    assert found[:4] == [
        (1000.0, "www.a.com", "answered", chain),
        (1003.0, "alias.a.com", "no_data", (("alias.a.com", 5, "nowhere.example", 60),)),
        (1005.5, "www.a.com", "answered", chain),
        (1006.0, "1.2.0.192.in-addr.arpa", "answered", (("192.0.2.1", 12, "a.com", 600),)),
    ]
    often = [(1104.0 + number, "often.example", "answered") for number in range(MAX_SIGHTINGS + 1)]
    assert [one[:3] for one in found[4:]] == often
    assert {fact.id.start[: len(LOADED)] for fact in stored(folder)} == {LOADED}


@pytest.mark.parametrize("output", ["table", "json", "zeek", "ecs", "ocsf"])
def test_what_was_loaded_is_shown(tmp_path, dump, output):
    """`log` prints the loaded answers in each form, also where the cache knew no port."""
    load(tmp_path / "history", dump)
    done = dnstrail("log", "--folder", tmp_path / "history", "--name", "*.a.com", "--since", "0", "--output", output)
    assert (done.returncode, "www.a.com" in done.stdout) == (0, True), done.stderr


def answered(**values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a change of the first answer of a record."""
    return lambda one: one | {"answers": [one["answers"][0] | values, *one["answers"][1:]]}


def evidence(**values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a change of the evidence of the first answer of a record."""
    return lambda one: answered(evidence=one["answers"][0]["evidence"] | values)(one)


HOSTILE = {
    "a time after all time": answered(stamp=1 << 62),
    "a client of three bytes": evidence(client="AQID", server="AQIDBA=="),
    "a server of three bytes": evidence(client="AQIDBA==", server="AQID"),
    "a process beyond 64 bits": evidence(process=[1 << 64]),
    "a user beyond 64 bits": evidence(process=[7, "curl", "", 0, -(1 << 63)]),
    "a type beyond 16 bits": evidence(type=1 << 16),
    "a type below 0": evidence(type=-1),
    "a life beyond seven days": lambda one: one | {"total": one["total"] | {"ends": [1 << 62]}},
    "a name that is half a character": lambda one: one | {"question": "\ud800"},
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_line_is_refused(tmp_path, dumped, change):
    """A record with a value that no cache holds ends the load with its line, and nothing of the file is stored."""
    lines = [json.loads(line) for line in dumped.splitlines()]
    [often] = [line for line in lines if line["total"]]
    bad = tmp_path / "bad.ndjson"
    bad.write_text("\n".join(map(json.dumps, [lines[0], change(often)])))
    done = dnstrail("history", "--folder", tmp_path / "history", "load", bad)
    assert (done.returncode, "line 2" in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr
    assert stored(tmp_path / "history") == []


def test_a_name_that_looks_like_an_address(tmp_path, dumped):
    """A stranger may ask for a name in brackets: it is loaded as it is."""
    odd = tmp_path / "odd.ndjson"
    odd.write_text(json.dumps(json.loads(dumped.splitlines()[0]) | {"question": "[1.2.3.4]"}))
    load(tmp_path / "history", odd)
    assert {fact.values.name for fact in stored(tmp_path / "history")} == {"[1.2.3.4]"}


@pytest.mark.parametrize("change", [lambda one: one | {"answers": []}, lambda one: one | {"edges": [["a", 1, 5]]}])
def test_a_line_of_no_dump_is_refused(tmp_path, dumped, change):
    """A record that contradicts itself ends the load with its line, and nothing of the file is stored."""
    lines = [json.loads(line) for line in dumped.splitlines()]
    bad = tmp_path / "bad.ndjson"
    bad.write_text("\n".join(map(json.dumps, [lines[0], change(lines[1])])))
    done = dnstrail("history", "--folder", tmp_path / "history", "load", bad)
    assert (done.returncode, "line 2" in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr
    assert stored(tmp_path / "history") == []
