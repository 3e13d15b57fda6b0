"""`dnstrail seen` over a folder that the store wrote: for people, programs and passive DNS.

Tests of dnstrail_cli.seen.command, dnstrail_cli.seen.relations, dnstrail.history.folder.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from builders.facts import BEGIN, CURL, SECOND, fact_of, progress_of
from dnstrail.captured import Process
from dnstrail.dns.rdata import PTR, A
from dnstrail.history.lives import AskingProgram, RelationLife, merge_lives
from dnstrail_cli.seen.relations import bar, by_relation, cof_row
from dnstrail_history.store.store import FactStore
from live.processes import dnstrail, started, unprivileged, wait_until
from live.tapped_resolver import resolved, resolver
from live.terminal import on_terminal
from live.workers import FakeClock

DAY = 86_400
FIRST = BEGIN // SECOND
HOSTILE = Process(9, "\x1b]0;owned\x07", container_id="c", container_name="\u202eevil")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the lookups of curl on two days, and one of a program with a hostile name."""
    folder = tmp_path_factory.mktemp("seen") / "history"
    relations = (("shop.example", A, "192.0.2.10", 60),)
    told = [(0, CURL), (60, CURL), (DAY, CURL), (2 * DAY, HOSTILE)]
    with closing(FactStore(folder, FakeClock(wall=FIRST + 3 * DAY))) as store:
        for number, (passed, process) in enumerate(told):
            store.add(fact_of(number, ended=(FIRST + passed) * SECOND, process=process, relations=relations))
        assert store.commit(progress_of(1))
    return folder


def test_json_states_times_and_programs(folder):
    """A relation has its times and answers, and those of each program, the one seen last first."""
    done = dnstrail("seen", "192.0.2.10", "--json", "--folder", folder)
    assert done.returncode == 0, done.stderr
    [row] = map(json.loads, done.stdout.splitlines())
    curl = {"program": "/usr/bin/curl", "container": "web", "first": FIRST, "last": FIRST + DAY, "answers": 3}
    assert row["programs"].pop() == curl | {"user_id": 0}
    [hostile] = row.pop("programs")
    assert (hostile["program"], hostile["container"]) == (HOSTILE.name, HOSTILE.container_name)
    relation = {"owner": "shop.example", "type": "A", "target": "192.0.2.10"}
    assert row == relation | {"first": FIRST, "last": FIRST + 2 * DAY, "answers": 4}


def test_since_leaves_earlier_days_out(folder):
    """With --since the programs seen before are left out; a name in any spelling is found."""
    done = dnstrail("seen", "SHOP.Example.", "--json", "--since", str(FIRST + DAY + 1), "--folder", folder)
    [program] = json.loads(done.stdout)["programs"]
    assert (done.returncode, program["answers"]) == (0, 1)


def test_cof_has_the_fields_of_the_format(folder):
    """Each line has rrname, rrtype, rdata, both times and the count; an address in PTR is a reverse name."""
    done = dnstrail("seen", "shop.example", "--cof", "--folder", folder)
    [row] = map(json.loads, done.stdout.splitlines())
    times = {"time_first": FIRST, "time_last": FIRST + 2 * DAY, "count": 4}
    assert row == {"rrname": "shop.example", "rrtype": "A", "rdata": "192.0.2.10"} | times
    lives = [RelationLife(1, ("192.0.2.10", PTR, "host.example"), AskingProgram("", ""), 1, 2, 3, 1, 0)]
    assert cof_row(by_relation(lives)[0])["rrname"] == "10.2.0.192.in-addr.arpa"


def test_people_see_bars_and_no_control_bytes(folder):
    """A terminal shows a bar of the days, and names of strangers escaped; a pipe has no bar."""
    command = [sys.executable, "-m", "dnstrail_cli", "seen", "shop.example", "--folder", str(folder)]
    env = {**os.environ, "TERM": "xterm", "TZ": "UTC"}
    code, shown = on_terminal(command, stream="stdout", width=80, env=env)
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r", "")
    assert code == 0
    assert "\u2588" in text
    assert all(line.isprintable() for line in text.splitlines())
    assert "\\x1b]0;owned\\x07 in \\u202eevil" in text
    piped = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert piped.splitlines() == [
        "shop.example A 192.0.2.10",
        "  2026-11-20 11:06 to 2026-11-20 11:06, 1x  \\x1b]0;owned\\x07 in \\u202eevil",
        "  2026-11-18 11:06 to 2026-11-19 11:06, 3x  /usr/bin/curl in web",
    ]


def test_a_bar_spreads_answers_over_time():
    """A bar is as high as the answers of its cell; a life over several cells is spread, and an empty cell is blank."""
    lives = [RelationLife(0, ("a", A, "b"), AskingProgram("", ""), *times, 0, count, 0) for *times, count in [
        (0, 9, 8), (120, 129, 2), (230, 239, 1)]]  # fmt: skip
    drawn = bar(lives, 0, 239)
    assert (len(drawn), drawn[0], drawn[12], drawn[23], set(drawn[1:12])) == (24, "\u2588", "\u2582", "\u2581", {" "})
    assert set(bar([lives[0]._replace(last=239)], 0, 239)) == {"\u2588"}


def test_many_relations_are_left_out_in_words(tmp_path):
    """Where a bound leaves relations out, stderr states it, and the exit code stays 0."""
    lives = [RelationLife(20_000, (f"n{number}.example", A, "192.0.2.1"), AskingProgram("", ""), 1, 2, 3, 1, 0)
             for number in range(300)]  # fmt: skip
    merge_lives(tmp_path, "0000000001", lives)
    done = dnstrail("seen", "192.0.2.1", "--folder", tmp_path)
    assert (done.returncode, "left out" in done.stderr) == (0, True)


def test_a_service_answers_while_it_writes():
    """A real worker stores what a resolver answers, and a look finds it while the worker has the file open."""
    with resolver() as (run, client, writer):
        history = run.parent / "history"
        with started("history", "--run-dir", run, "--folder", history) as worker:
            # The cache publishes facts once it has noted the subscription.
            facts = "facts_published"
            wait_until(lambda: writer.send(resolved(0)) or client.ask("stats")["data"]["cache"].get(facts), "facts")
            for number in range(1, 41, 2):
                writer.send(resolved(number, "shop.example"))

            def answers() -> int:
                done = dnstrail("seen", "192.0.2.7", "--json", "--folder", history)
                return sum(json.loads(line)["answers"] for line in done.stdout.splitlines())

            wait_until(lambda: answers() == 20, "all answers")
            assert worker.poll() is None


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("other.example",), 1, "not found"),
        (("http://shop.example/",), 2, "key"),
        (("shop.example", "--since", "soon"), 2, "soon"),
    ],
    ids=["not found", "no key", "no time"],
)
def test_exit_codes(folder, arguments, code, error):
    """A key that was never seen exits with 1, and a wrong use with 2."""
    done = dnstrail("seen", *arguments, "--folder", folder)
    assert (done.returncode, error in done.stderr) == (code, True), done.stderr


def test_a_missing_folder_is_an_error_with_a_remedy(tmp_path):
    """Without a folder the command names it, and the worker that makes it."""
    done = dnstrail("seen", "shop.example", "--folder", tmp_path / "none")
    assert (done.returncode, "dnstrail history" in done.stderr) == (2, True), done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="drops the rights of root")
def test_another_user_is_refused_with_the_name_of_the_owner(folder):
    """A user who may not read the folder learns whose it is."""
    for parent in (folder.parent, *folder.parent.parents[:2]):
        parent.chmod(0o755)
    command = "from dnstrail_cli.__main__ import main; main()"
    os.chown(folder, 1, 1)
    try:
        arguments = [sys.executable, "-c", command, "seen", "a.example", "--folder", str(folder)]
        done = subprocess.run([*unprivileged(), *arguments], capture_output=True, text=True, check=False)
    finally:
        os.chown(folder, 0, 0)
    assert (done.returncode, "the user daemon" in done.stderr) == (2, True), done.stderr
