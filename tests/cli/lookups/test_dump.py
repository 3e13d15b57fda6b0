"""`dnstrail dump` and `dnstrail load`."""

from __future__ import annotations

import json
import os

import pytest

from dnstrail.image import Bounds, Image
from dnstrail_cache.state.cache_state import CacheState
from dnstrail_cache.state.snapshots import Snapshots
from live.processes import dnstrail
from live.workers import FakeClock, asker, cache, probe, response, seen, short_folder, wait_until_seen

CHAIN = response("www.a.com", "www.a.com 600 CNAME a.com.", "a.com 600 A 192.0.2.1")
REVERSE = response("1.2.0.192.in-addr.arpa", "1.2.0.192.in-addr.arpa 600 PTR a.com.", rdtype="PTR")


@pytest.fixture(scope="module")
def dumps():
    """Return a dump in both forms of a cache with two answers."""
    with short_folder() as folder, cache(folder) as address, asker(address) as client, probe(folder) as publishing:
        mark = publishing.turn(seen(CHAIN, 1000.0), seen(CHAIN, 1005.5), seen(REVERSE, 1006.0))
        wait_until_seen(client, mark)
        yield [dnstrail("dump", *options, "--run-dir", folder) for options in ([], ["--cof"])]


def test_a_dump_has_one_record_on_each_line(dumps):
    """Each line is a JSON object: a question with the relations that its answers state."""
    assert dumps[0].returncode == 0, dumps[0].stderr
    records = [json.loads(line) for line in dumps[0].stdout.splitlines()]
    assert sorted(record["question"] for record in records) == ["192.0.2.1", "www.a.com"]
    assert {len(record["answers"]) for record in records} == {1, 2}


def test_passive_dns_has_one_relation_on_each_line(dumps):
    """--cof prints the mandatory fields of the format, and reverse records under their reverse name."""
    lines = [json.loads(line) for line in dumps[1].stdout.splitlines()]
    twice = {"time_first": 1000, "time_last": 1005, "count": 2}
    once = {"time_first": 1006, "time_last": 1006, "count": 1}
    assert sorted(lines, key=lambda line: line["rrtype"]) == [
        {"rrname": "a.com", "rrtype": "A", "rdata": "192.0.2.1", **twice},
        {"rrname": "www.a.com", "rrtype": "CNAME", "rdata": "a.com", **twice},
        {"rrname": "1.2.0.192.in-addr.arpa", "rrtype": "PTR", "rdata": "a.com", **once},
    ]


def test_a_dump_is_loaded(dumps):
    """A cache that starts with the file of a loaded dump finds the names."""
    with short_folder() as folder:
        done = dnstrail("load", "--state", folder / "image", "-", stdin=dumps[0].stdout)
        assert (done.returncode, done.stderr) == (0, "2 records\n")
        state = CacheState(Image(Bounds()), FakeClock(wall=1010.0))
        Snapshots(folder / "image", state).load()
        assert state.image.get("192.0.2.1", now=state.now).dns_root == "www.a.com"


@pytest.mark.parametrize("line", ["x", "{}", '{"question": "a"}', "[" * 100000, "\udcff"])
def test_a_bad_line_is_refused(line, dumps):
    """A line that is no record is refused with its number, and no file is written."""
    with short_folder() as folder:
        text = dumps[0].stdout.splitlines()[0] + "\n" + line.encode("utf-8", "surrogateescape").decode("latin-1") + "\n"
        done = dnstrail("load", "--state", folder / "image", stdin=text)
        assert done.returncode == 2
        assert "line 2: " in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not (folder / "image").exists()


def test_a_dump_replaces_nothing_but_a_file():
    """A path that holds a pipe is refused, and the pipe stays."""
    with short_folder() as folder:
        os.mkfifo(folder / "image")
        done = dnstrail("load", "--state", folder / "image", stdin="")
        assert (done.returncode, done.stderr) == (2, f"Error: --state {folder}/image: it is no regular file\n")
        assert (folder / "image").is_fifo()
