"""`dnstrail new` over a folder that the store wrote."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from builders.facts import BEGIN, SECOND, fact_of, progress_of
from builders.shop_history import keep_shop
from dnstrail.captured import Process
from dnstrail_history.store.store import FactStore
from live.processes import dnstrail
from live.workers import FakeClock


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the history of the shop, which begins on 3 November."""
    folder = tmp_path_factory.mktemp("new") / "history"
    keep_shop(folder)
    return folder


def test_json_has_kind_name_time_and_program(folder):
    """Each line has one thing that is new; nothing is noted on stderr if the history knows the time before."""
    done = dnstrail("new", "--since", "2026-11-10T00:00:00Z", "--json", "--folder", folder)
    assert (done.returncode, done.stderr) == (0, "")
    expected = {"kind": "program", "name": "/usr/bin/curl", "first": 1795528740, "program": "/usr/bin/curl"}
    assert [json.loads(line) for line in done.stdout.splitlines()] == [expected | {"container": "web", "user_id": 0}]


def test_a_short_history_is_stated(folder):
    """Since a time before the history begins all is new, and stderr states it."""
    done = dnstrail("new", "--since", "2026-11-01T00:00:00Z", "--folder", folder, TZ="UTC")
    assert "domains since 2026-11-03 09:12:00" in done.stderr
    assert done.stdout.splitlines()[:2] == [
        "2026-11-03 09:12  domain    cdn.example  by /usr/lib/firefox/firefox",
        "2026-11-03 09:12  domain    shop.example  by /usr/lib/firefox/firefox",
    ]


def test_without_since_a_day_counts(folder):
    """The last day is the default, in which the shop was not looked up."""
    done = dnstrail("new", "--folder", folder)
    assert (done.returncode, done.stdout) == (0, "")


def test_names_of_strangers_are_escaped(tmp_path):
    """A program with control bytes in its name is one line of printable text."""
    folder = tmp_path / "history"
    with closing(FactStore(folder, FakeClock(wall=BEGIN / SECOND))) as store:
        store.add(fact_of(1, process=Process(9, "\x1b[2J\nevil", container_name="\u202e")))
        assert store.commit(progress_of(1))
    done = dnstrail("new", "--since", "0", "--folder", folder)
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert "\\x1b[2J\\nevil" in done.stdout


def test_a_missing_folder_exits_with_2(tmp_path):
    """Without a folder the command names the worker that makes it."""
    done = dnstrail("new", "--folder", tmp_path / "none")
    assert (done.returncode, "dnstrail history" in done.stderr) == (2, True)
