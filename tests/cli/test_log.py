"""`dnstrail log`: what its options select, its use of a folder, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builders.facts import BEGIN, OF_UNIT, SECOND, fact_of, stage_of
from builders.log_entries import fill
from dnstrail.captured import Captured
from dnstrail.events import DNS_TRANSACTION, NET_CONNECTION, Event
from dnstrail_cli.log import _once
from live.processes import dnstrail, run_dir

SLOW, FAST = 2 * SECOND, 3_000_000
FACTS = (
    fact_of(0, ended=BEGIN, name="a.example", relations=(("a.example", 1, "192.0.2.1", 60),), waited=FAST),
    fact_of(1, ended=BEGIN, name="a.example", type=28, relations=(("a.example", 28, "2001:db8::1", 60),), waited=FAST),
    fact_of(2, ended=BEGIN + SECOND, name="b.example", relations=(), outcome=2, rcode=3, waited=SLOW, process=OF_UNIT),
    fact_of(3, ended=BEGIN + 2 * SECOND, name="c.example", relations=(), outcome=6, rcode=None, process=None, hop=2),
    fact_of(4, ended=BEGIN + 2 * SECOND, name="of.forwarder.example", relations=(), hop=1, asked_for="s/0/0"),
    fact_of(6, ended=BEGIN + 4 * SECOND, name="d.example", relations=(), hop=1, process=None),
    stage_of(5, time=BEGIN + 3 * SECOND),
    stage_of(5, "end", time=BEGIN + 5 * SECOND, why="closed", lasted=2 * SECOND, name="web.example"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a history of a connection and six questions: of two a forwarder asked one for a client."""
    found = tmp_path_factory.mktemp("log") / "history"
    fill(found, FACTS)
    return found


def names(folder: Path, *arguments: object) -> list[str]:
    """Return the names that the command prints."""
    done = dnstrail("log", "--folder", folder, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["name"] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "aabcd"),
        (("--last", 2), "cd"),
        (("--since", BEGIN / SECOND + 1, "--until", BEGIN / SECOND + 1.5), "b"),
        (("--outcome", "nxdomain", "--outcome", "unanswered"), "bc"),
        (("--slower", "1.5s"), "b"),
        (("--slower", "2000ms"), "b"),
        (("--address", "192.0.2.0/24"), "a"),
        (("--address", "2001:db8::/32", "--name", "A.*"), "a"),
        (("--process", "curl", "--container", "web", "--name", "b.*"), "b"),
        (("--process", "*"), "aab"),
        (("--unit", "web.serv*"), "b"),
        (("--unit", "*/web.service"), ""),
        (("--name", "none.example"), ""),
        (("--name", "B.example."), "b"),
        (("--address", "::ffff:192.0.2.1"), "a"),
        (("--address", "::ffff:192.0.2.0/120"), "a"),
        (("--address", "[2001:db8::1]"), "a"),
        (("--since", "2795000000000"), ""),
        (("--since", "1e300"), ""),
        (("--since", "0001-01-01T00:00:00Z", "--name", "b.*"), "b"),
        (("--since=-1e300", "--name", "b.*"), "b"),
        (("--until=-1e300",), ""),
        (("--connections",), ("web",)),
        (("--connections", "--address", "198.51.0.0/16"), ()),
    ],
    ids=str,
)
def test_options_select(folder, arguments, expected):
    """All options that are given have to fit; what a forwarder asked for a known client is left out."""
    assert names(folder, *arguments) == [f"{letter}.example" for letter in expected]


def test_an_entry_is_selected_by_its_printed_time(tmp_path):
    """The time of an entry selects it, as --since and as --until, to the last digit that a format prints."""
    stored = [fact_of(n, ended=BEGIN + 123_450_789 + n * 1000, name=f"n{n}.example", relations=()) for n in range(6)]
    fill(tmp_path / "history", stored)
    done = dnstrail("log", "--folder", tmp_path / "history", "--output", "ecs")
    times = [json.loads(line)["@timestamp"] for line in done.stdout.splitlines()]
    assert times[0].endswith(".123450Z")
    for number, time in enumerate(times):
        assert names(tmp_path / "history", "--since", time, "--until", time) == [f"n{number}.example"]


def test_a_name_is_found_as_it_was_asked(tmp_path):
    """A reverse name is found by itself, and a name in Unicode, also by a pattern in Unicode."""
    stored = ["1.2.0.192.in-addr.arpa", "www.xn--mnchen-3ya.de"]
    fill(tmp_path / "history", [fact_of(number, name=name, relations=()) for number, name in enumerate(stored)])
    asked = (stored[0], "1.2.0.192.IN-ADDR.ARPA.", "www.m\u00fcnchen.de", "*.m\u00fcnchen.de", "*.XN--*")
    found = [names(tmp_path / "history", "--name", name) for name in asked]
    assert found == [stored[:1], stored[:1], stored[1:], stored[1:], stored[1:]]


def test_the_table_has_a_line_for_a_call(folder):
    """Without a format there is a table, with one line for A and AAAA of a call."""
    done = dnstrail("log", "--folder", folder)
    lines = done.stdout.splitlines()
    assert len(lines) == 6, done.stdout
    assert lines[2].endswith("A, AAAA a.example (3 ms) -> 192.0.2.1, 2001:db8::1")
    assert "no such name (NXDOMAIN) (2 s)" in lines[3]
    assert "10.0.0.2" in lines[4]


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("--folder", "/nowhere/history"), 2, "makes it"),
        (("--folder", "/dev/null"), 2, "/dev/null"),
        (("--follow", "--outcome", "lost"), 2, "lost"),
        (("--follow", "--until", "1"), 2, "--until goes without --follow"),
        (("--since", "2", "--until", "1"), 2, "--since is after --until"),
        (("--connections", "--outcome", "failed"), 2, "--outcome"),
        (("--connections", "--follow", "--slower", "0ms"), 2, "--slower"),
        (("--slower", "fast"), 2, "no duration"),
        (("--slower", "999999999m"), 2, "no duration"),
        (("--json", "--output", "zeek"), 2, "--output zeek"),
        (("--address", "a.example"), 2, "neither an address nor a network"),
        (("--follow",), 3, "no cache answered"),
        (("--follow", "--connections"), 3, "no cache answered"),
    ],
    ids=str,
)
def test_exit_codes(arguments, code, error):
    """A wrong use, or a missing folder, exits with 2, and a missing cache with 3."""
    with run_dir() as runs:
        done = dnstrail("log", *arguments, "--run-dir", runs)
    assert (done.returncode, error in done.stderr) == (code, True), done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_root_reads_as_the_owner_of_the_folder(tmp_path):
    """Root becomes the owner of the folder: a hard link in it shows nothing that the owner may not read."""
    folder, secret = tmp_path / "history", tmp_path / "secret"
    secret.mkdir(mode=0o700)
    fill(secret, FACTS)
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    folder.mkdir(mode=0o700)
    link = folder / "0000000001.open"
    link.hardlink_to(secret / link.name)
    os.chown(folder, 12345, 12345)
    done = dnstrail("log", "--folder", folder)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == f"dnstrail: {link}: this user may not read it, and it is left out\n"


def test_a_reader_that_ends_early_is_no_error(folder):
    """`dnstrail log | head` ends without an error."""
    command = f"{sys.executable} -m dnstrail_cli log --folder {folder} --json | head -n1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("last", [(), ("--last", "5")])
def test_a_full_disk_is_no_fault_of_the_history(folder, last):
    """Where stdout is full, the exit code and the error are those of all commands."""
    command = [sys.executable, "-m", "dnstrail_cli", "log", "--folder", folder, *last, "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*command], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (4, "Error: No space left on device\n")


def test_a_damaged_file_is_named(tmp_path):
    """A damaged segment, and a pipe in place of one, are named on stderr, and the command prints the others."""
    fill(tmp_path / "history", FACTS)
    os.mkfifo(tmp_path / "history/0000000009.open")
    (tmp_path / "history/0000000000.segment").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    done = dnstrail("log", "--folder", tmp_path / "history", "--json")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 5)
    assert "0000000000.segment" in done.stderr
    assert "0000000009.open: it is no file" in done.stderr


def test_a_fact_that_is_published_again_is_shown_once():
    """A cache that starts anew publishes the facts of the last 90 s again: none is shown twice, at 2,000 a second."""
    batches, shown = 90 * 2_000 // 500, []
    places = [f"a/net_packet_dns_base/{batch}/{place}/end" for batch in range(batches) for place in range(500)]
    stages = [f"a/net_tcp_connect/7/1/{stage}" for stage in ("opened", "end")]
    facts = [(DNS_TRANSACTION, one) for one in places] + [(NET_CONNECTION, one) for one in stages]
    take = _once(shown.append)
    for topic, identity in facts * 2:
        take(Event(topic, Captured(1, b"", None, None, {"id": identity})))
    assert [one.id for one in shown] == places + stages
