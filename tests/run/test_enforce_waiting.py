"""Questions that wait for the verdict of a person, in the kernel alone: nobody is asked here."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from ctypes import c_uint64
from pathlib import Path
from typing import NamedTuple

import pytest

from dnstrail.kernel.bpf import delete
from dnstrail_run.allow_list import parse_allow_list
from dnstrail_run.cgroup import CommandCgroup, make_cgroup
from dnstrail_run.enforce.hooks import MOST_DECIDED, MOST_WAITING, Enforcement
from dnstrail_run.enforce.rules import rules_of
from dnstrail_run.enforce.structures import UnaskedValue, WaitingValue
from dnstrail_run.namespaces import namespaces_of
from live import unlisted_questions
from live.namespaces import live_or_skip

RESOLVER, NARROW = "127.99.53.1", "127.99.53.2"
LIST = f"listed.test:80\n*.below.test\nresolver {RESOLVER}\nnarrow.test resolver {NARROW}\n"
ALLOWED = parse_allow_list(LIST)
RULES = rules_of(ALLOWED)
A, TXT, AAAA, CAA = 1, 16, 28, 257
SUPPORT = Path(unlisted_questions.__file__).parents[1]
ENTERS = ("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"')  # the cgroup in the first argument
# Asks each name by a socket that wants all errors (IP_RECVERR), as the C library does; prints what became of each.
ASKS = """
import errno, json, socket, sys
from live.unlisted_questions import message, wire
resolver, questions = json.loads(sys.argv[1])
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.setsockopt(socket.IPPROTO_IP, 11, 1)
made.connect((resolver, 53))
results = []
for name, kind in questions:
    try:
        made.send(message(wire(name), kind))
        results.append("sent")
    except OSError as error:
        results.append(errno.errorcode[error.errno])
print(json.dumps(results))
"""
# Asks two names in one segment, and waits for the end of the test.
ASKS_OVER_TCP = """
import socket, struct, sys
from live.unlisted_questions import message, wire
made = socket.create_connection((sys.argv[1], 53))
questions = [message(wire("a.other.test"), kind) for kind in (1, 28)]
made.sendall(b"".join(struct.pack("!H", len(each)) + each for each in questions))
sys.stdin.read()
"""


class Lock(NamedTuple):
    """A list that is enforced in a cgroup, and the sockets of its resolver."""

    enforcement: Enforcement
    cgroup: CommandCgroup
    datagrams: socket.socket
    server: socket.socket

    def python(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a script in the cgroup."""
        return subprocess.Popen(
            [*ENTERS, self.cgroup.path, sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SUPPORT)},
        )

    def ask(self, *questions: tuple[str, int], resolver: str = RESOLVER) -> list[str]:
        """Return what became of questions about names and types."""
        with self.python(ASKS, json.dumps([resolver, questions])) as asking:
            return json.loads(asking.communicate(timeout=60)[0])

    def arrived(self) -> int:
        """Return the number of questions that have arrived at the resolver since the last call."""
        found = 0
        while True:
            try:
                self.datagrams.recv(512)
            except BlockingIOError:
                return found
            found += 1


@pytest.fixture(scope="module")
def _lock() -> Iterator[Lock]:
    live_or_skip()
    cgroup = make_cgroup()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.create_server((RESOLVER, 53)) as server,
    ):
        datagrams.bind((RESOLVER, 53))
        datagrams.setblocking(False)
        try:
            namespaces = namespaces_of(ALLOWED.resolvers, ALLOWED.narrow)
            enforcement = Enforcement(
                cgroup.path, RULES, namespaces, allow_afterwards=False, any_question=False, ask=True
            )
            yield Lock(enforcement, cgroup, datagrams, server)
        finally:
            cgroup.remove()


@pytest.fixture
def lock(_lock) -> Iterator[Lock]:
    """Yield an enforced list, to which the names of earlier tests are unknown."""
    yield _lock
    enforcement = _lock.enforcement
    for waiting in enforcement.waiting():
        enforcement.refuse(waiting)
    tables = {"waiting": WaitingValue, "once": c_uint64, "denied": c_uint64, "unasked": UnaskedValue}
    for table, value in tables.items():
        for key, _ in enforcement._entries(table, c_uint64, value, MOST_DECIDED):
            delete(enforcement._maps[table], key.to_bytes(8, "little"))
    for prefix in ("", "a.", "b.", "www."):
        for name in ("other.test", "below.test"):
            key = f"{prefix}{name}"[::-1].encode() + b"\0"
            with suppress(FileNotFoundError):
                delete(enforcement._maps["names"], (len(key) * 8).to_bytes(4, "little") + key.ljust(256, b"\0"))
    enforcement._fill(RULES)
    _lock.arrived()


def test_an_unlisted_question_is_lost_without_an_error(lock):
    """It waits once, however often and with whichever usual type it is asked; listed ones pass."""
    assert lock.ask(("a.other.test", A), ("A.other.test", AAAA), ("listed.test", A)) == ["sent"] * 3
    assert lock.arrived() == 1
    (waiting,) = lock.enforcement.waiting()
    question = lock.enforcement.question(waiting)
    assert (question.asked, question.type, question.times, question.reason) == ("a.other.test", "A", 2, "name")
    assert lock.enforcement.attempts() == []
    assert lock.ask(("a.other.test", A)) == ["sent"]
    assert lock.enforcement.waiting() == [], "the person is asked once"


def test_a_name_is_allowed_until_the_end(lock):
    """After the verdict the questions about this name pass, and those about others wait."""
    lock.ask(("a.other.test", A))
    (waiting,) = lock.enforcement.waiting()
    lock.enforcement.allow(waiting, once=False)
    assert (
        lock.ask(("a.other.test", A), ("a.other.test", AAAA), ("b.a.other.test", A), ("a.other.test", TXT))
        == ["sent"] * 4
    )
    assert lock.arrived() == 2
    assert len(lock.enforcement.waiting()) == 2


def test_a_question_is_allowed_once(lock):
    """Both addresses pass one time each, as the C library asks for both; then the person is asked again."""
    lock.ask(("a.other.test", A))
    (waiting,) = lock.enforcement.waiting()
    lock.enforcement.allow(waiting, once=True)
    assert lock.ask(("a.other.test", A), ("a.other.test", AAAA)) == ["sent"] * 2
    assert (lock.arrived(), lock.enforcement.waiting()) == (2, [])
    assert lock.ask(("a.other.test", A), ("a.other.test", AAAA)) == ["sent"] * 2
    assert (lock.arrived(), lock.enforcement.waiting()) == (0, [waiting])
    lock.enforcement.allow(waiting, once=False)
    assert lock.ask(("a.other.test", A), ("a.other.test", A)) == ["sent"] * 2
    assert lock.arrived() == 2


def test_a_refused_name_is_an_error_at_once(lock):
    """After the verdict each question about the name gets EPERM; the refusal counts all that were asked."""
    lock.ask(("a.other.test", A), ("a.other.test", A))
    (waiting,) = lock.enforcement.waiting()
    refused = lock.enforcement.refuse(waiting)
    assert lock.enforcement.attempts() == [refused]
    assert (refused.asked, refused.times) == ("a.other.test", 2)
    assert lock.ask(("a.other.test", A), ("a.other.test", AAAA), ("b.other.test", A)) == ["EPERM", "EPERM", "sent"]
    assert (lock.arrived(), len(lock.enforcement.waiting())) == (0, 1)


@pytest.mark.parametrize("name", ["listed.test", "www.below.test"])
def test_a_type_that_its_entry_lacks_waits(lock, name):
    """The name keeps what its entry allows, and gets the type; other types still wait."""
    assert lock.ask((name, TXT), (name, A)) == ["sent"] * 2
    assert lock.arrived() == 1
    (waiting,) = lock.enforcement.waiting()
    assert lock.enforcement.question(waiting).reason == "type"
    lock.enforcement.allow(waiting, once=True)
    assert lock.ask((name, TXT), (name, TXT), (name, A)) == ["sent"] * 3
    assert lock.arrived() == 2
    assert lock.enforcement.waiting() == [waiting]
    lock.enforcement.allow(waiting, once=False)
    assert lock.ask((name, TXT), (name, A), (name, 33)) == ["sent"] * 3
    assert (lock.arrived(), len(lock.enforcement.waiting())) == (2, 1)


def test_what_no_line_could_allow_does_not_wait(lock):
    """A type beyond those of a list, and a resolver of other names alone, are refused at once."""
    assert lock.ask(("a.other.test", CAA)) == ["EPERM"]
    assert lock.ask(("a.other.test", A), ("listed.test", TXT), resolver=NARROW) == ["EPERM", "EPERM"]
    assert lock.enforcement.waiting() == []


def test_more_names_than_the_queue_holds_are_refused(lock):
    """Further names get EPERM, and are counted; after a verdict the next name finds room."""
    full = lock.enforcement.limits().queue_full
    results = lock.ask(*((f"n{number}.other.test", A) for number in range(MOST_WAITING + 3)))
    assert results == ["sent"] * MOST_WAITING + ["EPERM"] * 3
    waiting = lock.enforcement.waiting()
    assert [lock.enforcement.question(each).asked for each in waiting] == [
        f"n{number}.other.test" for number in range(MOST_WAITING)
    ]
    assert lock.enforcement.limits().queue_full == full + 3
    assert len(lock.enforcement.attempts()) == 3
    lock.enforcement.refuse(waiting[0])
    assert lock.ask(("late.other.test", A)) == ["sent"]


def test_too_many_decisions(lock):
    """No more questions are allowed once than the map holds; of the refused names the oldest may be asked again."""
    lock.ask(*((f"{letter}.other.test", A) for letter in "abc"))
    first, second, third = lock.enforcement.waiting()
    for number in range(MOST_DECIDED - 1):  # one of the two families finds room
        lock.enforcement._put("once", number.to_bytes(8, "little"), bytes(8))
    with pytest.raises(OSError, match=os.strerror(errno.E2BIG)):
        lock.enforcement.allow(first, once=True)
    lock.enforcement.refuse(first)
    assert lock.ask(("a.other.test", A), ("a.other.test", AAAA)) == ["EPERM"] * 2
    lock.enforcement.refuse(second)
    for number in range(2 * MOST_DECIDED):
        lock.enforcement._put("denied", number.to_bytes(8, "little"), bytes(8))
    lock.enforcement.refuse(third)
    assert lock.ask(("b.other.test", A), ("c.other.test", A)) == ["sent", "EPERM"]
    assert lock.enforcement.waiting() == [second]


@pytest.mark.parametrize("once", [False, True])
def test_questions_over_tcp_are_repeated_by_the_kernel(lock, once):
    """A segment with two questions is lost while they wait, and arrives after the verdict."""
    with lock.python(ASKS_OVER_TCP, RESOLVER) as asking:
        connection, _ = lock.server.accept()
        with connection:
            connection.settimeout(60)
            while not (waiting := lock.enforcement.waiting()):
                assert asking.poll() is None
            (question,) = waiting
            lock.enforcement.allow(question, once=once)
            assert b"\1a\5other\4test\0\0\x1c" in connection.recv(4096)
            asking.communicate()
