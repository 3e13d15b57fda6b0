"""`dnstrail run --enforce --ask`: a person at a terminal decides about the names that the list lacks.

Tests of dnstrail_run.asking.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from dnstrail_run.enforce.hooks import MOST_WAITING
from live import hostile_terminal
from live.enforced import LISTED_RUN, watched
from live.listed_network import ALLOW_LIST, RESOLVER, RESOLVER6, ListedNetwork, listed_network, serving
from live.namespaces import live_or_skip
from live.person import Person, person_at
from live.processes import PATIENCE, children_of, command_line, run_dir, wait_until
from live.run_commands import within

SUPPORT = Path(hostile_terminal.__file__).parents[1]
MODULE = ("env", f"PYTHONPATH={SUPPORT}", sys.executable, "-m")
ASKING = (*LISTED_RUN, "--ask", "--report", "r.json", "--quiet")
UNLISTED = "google.com"  # below it, all names are those of the server
CONNECTS = f"{sys.executable} -c 'import socket, sys; socket.create_connection((sys.argv[1], 80), 60)'"

# Writes until the terminal has taken nothing for a while.
FILLS = """
import os, time
terminal, full = os.open("/dev/tty", os.O_WRONLY | os.O_NONBLOCK), 0
while full < 100:
    try:
        os.write(terminal, bytes(500))
        full = 0
    except BlockingIOError:
        full += 1
        time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def network() -> Iterator[ListedNetwork]:
    """Yield a client with the list, and its resolvers."""
    live_or_skip("dig")
    with run_dir() as made:
        made.chmod(0o755)
        with listed_network(made, 1) as both, watched():
            both.ask(RESOLVER)
            yield both


@pytest.fixture
def arrived(network, folder) -> Iterator[Path]:
    """Yield the file of what arrives at the resolvers."""
    watch = (*MODULE, "live.unlisted_questions", "watch")
    with serving(network.hosts, folder / "arrived", *watch) as file:
        yield file


def asking(
    network: ListedNetwork, folder: Path, *command: str, options: str = "timeout:1 attempts:5"
) -> AbstractContextManager[Person]:
    """Start a command with --ask on a terminal; a name is asked every second."""
    return person_at(within(network.hosts, *ASKING, "--", *command), folder, RES_OPTIONS=options)


def report_in(folder: Path) -> dict:
    return json.loads((folder / "r.json").read_text())


def without_objection(folder: Path) -> int:
    """Return the exit code of a run to which nobody objects: 4 on a host that is too busy for a complete capture."""
    report = report_in(folder)
    assert report["not_allowed"] == []
    return 0 if report["coverage"]["complete"] else 4


def has_arrived(file: Path, label: str) -> bool:
    """Return whether a question with a label reached a resolver."""
    return label.encode().hex() in file.read_text()


def test_each_answer_of_the_person(network, folder, arrived):
    """Once, this run, the list, no: the C library asks again, and gets the verdict; a connection follows from it."""
    names = {word: f"{word}.{UNLISTED}" for word in ("once", "later", "list", "never")}
    script = "; ".join(
        [
            f"{CONNECTS} {names['once']} && echo reached the first",
            f"getent ahostsv4 {names['once']}",
            f"{CONNECTS} {names['later']} && echo reached the second",
            f"getent ahostsv4 {names['later']}",
            f"{CONNECTS} {names['list']} && echo reached the third",
            f"getent ahostsv4 {names['never']} || echo the fourth is refused",
        ]
    )
    with asking(network, folder, "sh", "-c", script) as person:
        person.answers(names["once"], "o\n")
        person.sees("allowed once")
        person.sees("reached the first")
        person.answers(names["once"], "NO\n")
        seen = person.answers(names["later"], "r\n")
        assert re.search(r"dnstrail: python\S*\(\d+\) of sh\(\d+\) wants to ask", seen)
        person.sees("reached the second")
        person.answers(names["list"], "list\n")
        person.sees(f"allowed, and in the list: {names['list']}")
        person.sees("reached the third")
        person.answers(names["never"], "n\n")
        person.sees("the fourth is refused")
        assert person.waits() == 10
    listed = (folder / "allowed").read_text()
    assert listed.startswith(f"{ALLOW_LIST}{names['list']}  # allowed at a question of dnstrail on 2")
    assert not has_arrived(arrived, "never")
    report = report_in(folder)
    assert {one["name"] for one in report["refused"]} == {names["once"], names["never"]}
    assert len(report["not_allowed"]) == 2
    assert report["enforcement"][:3] == [
        f"At the terminal, allowed once: {names['once']}.",
        f"At the terminal, allowed for this run: {names['later']}.",
        f"At the terminal, allowed, and in the list: {names['list']}.",
    ]


def test_ipv6_tcp_and_types(network, folder):
    """Questions over IPv6 and TCP, and for a type that an entry lacks, are repeated, and then answered.

    A list that the command has replaced does not get a line.
    """
    script = "\n".join(
        [
            "cp allowed copy && mv copy allowed",
            f"dig +short +tries=20 +time=1 @{RESOLVER6} six.{UNLISTED}",
            f"dig +short +tcp +tries=1 +time=60 @{RESOLVER} stream.{UNLISTED}",
            f"dig +tries=20 +time=1 @{RESOLVER} known.allowed.test TXT | grep -o 'status: '",
            f"RES_OPTIONS=use-vc getent ahosts both.{UNLISTED}",
        ]
    )
    network.ask(RESOLVER, RESOLVER6)
    with asking(network, folder, "sh", "-c", script) as person:
        person.answers(f"six.{UNLISTED}", "r\n")
        person.sees("10.99.0.1\r\n")
        person.answers(f"stream.{UNLISTED}", "o\n")
        person.sees("10.99.0.1\r\n")
        seen = person.answers("known.allowed.test", "l\n")
        assert "the list has *.allowed.test:80,8080" in seen
        person.sees("allowed for this run: known.allowed.test:80,8080 TXT (not in the list: the file was replaced)")
        person.sees("status: ")
        person.answers(f"both.{UNLISTED}", "o\n")  # the C library asks for both addresses in one segment
        person.sees("10.99.0.1 ")
        assert person.waits() == without_objection(folder)
    network.ask(RESOLVER)


def test_other_keys_refuse(network, folder, arrived):
    """Enter, the end of the file, and what is none of the answers refuse; keys typed before do not count."""
    refused = {f"default{number}.{UNLISTED}": keys for number, keys in enumerate(["\n", "\x04", "yes\n"])}
    script = "echo asking; read line; " + "; ".join(f"getent ahostsv4 {name} || echo refused it" for name in refused)
    with asking(network, folder, "sh", "-c", script) as person:
        person.sees("asking")
        person.types("go\nr\nr\nr\n")
        for name, keys in refused.items():
            person.answers(name, keys)
            person.sees("refused it")
        assert person.waits() == 10
    assert not has_arrived(arrived, "default")


def test_a_full_queue(network, folder):
    """Names beyond the bound are refused without a question, and counted; Ctrl-C refuses those that wait."""
    count = MOST_WAITING + 5
    script = (
        f"import socket, sys; from live.unlisted_questions import message, wire; made = socket.socket(2, 2)\n"
        f"print('begun', flush=True); input()\n"
        f"def ask(n):\n"
        f"    try: made.sendto(message(wire(f'n{{n}}.{UNLISTED}')), ('{RESOLVER}', 53)); return 1\n"
        f"    except PermissionError: return 0\n"
        f"print('lost', sum(map(ask, range({count}))), flush=True)\n"
        f"input()"
    )
    with asking(network, folder, "env", f"PYTHONPATH={SUPPORT}", sys.executable, "-c", script) as person:
        person.sees("begun")
        launcher = launcher_of(person.command.pid)
        os.kill(launcher, signal.SIGSTOP)
        person.types("\n")
        person.sees(f"lost {MOST_WAITING}\r\n")
        os.kill(launcher, signal.SIGCONT)
        person.sees(f"ask n0.{UNLISTED} ")
        person.sees("[N]o? ")
        person.types("n\n")
        person.sees(f"ask n1.{UNLISTED} ")
        person.sees("[N]o? ")
        person.types("\x03")
        assert person.waits() == 10
    report = report_in(folder)
    assert report["exit_code"] == 128 + signal.SIGINT
    assert "5 questions were refused unasked, since too many names waited for a verdict." in report["enforcement"]
    assert len(report["refused"]) == count


def launchers(process: int) -> list[int]:
    """Return the launchers below a process whose command contains `input()`."""
    return [one for one in children_of(process) if any("input()" in command_line(each) for each in children_of(one))]


def launcher_of(process: int) -> int:
    """Wait for the launcher of the only command; during an exec the command has no arguments."""
    found: list[int] = []
    wait_until(lambda: found.extend(launchers(process)) or found, "the launcher")
    return found[0]


def test_a_terminal_that_is_closed(network, folder, arrived):
    """The name is refused, and each further one; a command that ignores the hangup goes on."""
    script = f"trap '' HUP; getent ahostsv4 d.{UNLISTED}; getent ahostsv4 e.{UNLISTED}; echo $? > ended"
    with asking(network, folder, "sh", "-c", script) as person:
        person.sees("[N]o? ")
        person.leaves()
        assert person.waits() == 10
    assert (folder / "ended").read_text() == "2\n"
    assert {one["name"] for one in report_in(folder)["refused"]} == {f"d.{UNLISTED}", f"e.{UNLISTED}"}


def test_without_a_terminal_nothing_starts(network, folder):
    """Who has no terminal learns it at once."""
    run = within(network.hosts, *ASKING, "--", "touch", "begun")
    done = subprocess.run(
        run, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True, check=False
    )
    assert done.returncode == 2
    assert "--ask needs a terminal: /dev/tty: No such device or address" in done.stderr
    assert not (folder / "begun").exists()


def test_a_command_cannot_answer_itself(network, folder, arrived):
    """It types, forges the question, takes keys and modes, and hides the true question in a string: all in vain."""
    name = f"attack.{UNLISTED}"
    with asking(network, folder, *MODULE, "live.hostile_terminal", name) as person:
        seen = person.sees(f"ask {name} ")
        assert "\x18\x1b\\" in seen.rpartition("dnstrail: ")[0], "the string of the command has ended"
        person.sees("[N]o? ")
        person.types("n\n")
        assert "refused" in person.sees(f"refused: {name}")
        assert person.waits() == 10
    typed, _, results = (folder / "results").read_text().partition(" ")
    assert int(typed) > 0
    assert "10.99" not in results
    assert not has_arrived(arrived, "attack")
    assert (folder / "allowed").read_text() == ALLOW_LIST


def test_a_hostile_name_is_not_shown(network, folder):
    """No list can contain it: it is refused without a question, and its bytes are escaped."""
    script = (
        f"import socket; from live.unlisted_questions import message, wire; made = socket.socket(2, 2)\n"
        f"made.sendto(message(wire('\\x1b[2J\\nroot.{UNLISTED}')), ('{RESOLVER}', 53))\n"
        f"while True:\n"
        f"    try: made.sendto(message(wire('\\x1b[2J\\nroot.{UNLISTED}')), ('{RESOLVER}', 53))\n"
        f"    except PermissionError: break"
    )
    with asking(network, folder, "env", f"PYTHONPATH={SUPPORT}", sys.executable, "-c", script) as person:
        assert person.waits() == 10
        assert "\x1b[2J" not in person.shown
        assert "[N]o?" not in person.shown


def test_in_the_background_nobody_is_asked(network, folder):
    """A job in the background refuses at once: its question would take the keys of another command."""
    run = " ".join(map(repr, (*ASKING, "--", "getent", "ahostsv4", f"bg.{UNLISTED}")))
    with person_at(within(network.hosts, "bash", "-c", f"set -m; {run} & wait $!; echo ended $?"), folder) as person:
        person.sees("ended 10")
        assert "[N]o?" not in person.shown
    assert [one["name"] for one in report_in(folder)["refused"]] == [f"bg.{UNLISTED}"]


def test_a_command_with_process_groups_of_its_own(network, folder):
    """A shell with job control brings its jobs to the foreground; the person is asked, and the job goes on there."""
    script = f"set -m; getent ahostsv4 fg.{UNLISTED}; read line; echo read $line"
    with asking(network, folder, "bash", "-ic", script) as person:
        person.answers(f"fg.{UNLISTED}", "r\n")
        person.sees("10.99.0.1 ")
        person.types("on\n")
        person.sees("read on")
        assert person.waits() == without_objection(folder)


@pytest.mark.parametrize("kills_both", [False, True])
def test_a_killed_dnstrail_does_not_leave_the_command_stopped(network, folder, kills_both):
    """Its processes continue when the launcher ends, or at the next run; nothing passes that was refused."""
    script = f"trap '' HUP; getent ahostsv4 k.{UNLISTED}; echo $? > ended  # input()"
    with asking(network, folder, "sh", "-c", script) as person:
        person.sees("[N]o? ")
        launcher = launcher_of(person.command.pid)
        if kills_both:
            os.kill(person.command.pid, signal.SIGSTOP)
        os.kill(launcher, signal.SIGKILL)
        if kills_both:
            os.kill(person.command.pid, signal.SIGKILL)
            person.command.wait(PATIENCE)
            wait_until(lambda: not Path(f"/proc/{launcher}").exists(), "the end of the launcher")
            assert not (folder / "ended").exists()
            run = within(network.hosts, *LISTED_RUN, "--quiet", "--", "true")
            subprocess.run(run, cwd=folder, check=True, timeout=PATIENCE)
        wait_until((folder / "ended").exists, "the end of the command")
        wait_until(lambda: (folder / "ended").read_text() == "2\n", "its exit code")


def test_a_command_that_cannot_be_stopped(network, folder, arrived):
    """What could forge a question meanwhile is not asked: the name is refused."""
    with asking(network, folder, *MODULE, "live.unstoppable", f"u.{UNLISTED}") as person:
        person.sees("refused")
        person.sees("refused")
        assert person.waits() == 10
        assert "[N]o?" not in person.shown
    assert [one["name"] for one in report_in(folder)["refused"]] == [f"u.{UNLISTED}"]


def test_a_terminal_that_takes_no_text(network, folder):
    """A command that has filled the terminal is refused, since nobody would see the question."""
    (folder / "fill.py").write_text(FILLS)
    script = f"{sys.executable} fill.py; getent ahostsv4 f.{UNLISTED} > /dev/null; echo $? > ended"
    with asking(network, folder, "sh", "-c", script) as person:
        wait_until((folder / "ended").exists, "the end of the command")
        assert person.waits() == 10
        assert "[N]o?" not in person.shown
    assert (folder / "ended").read_text() == "2\n"
