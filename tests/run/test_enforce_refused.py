"""The refusals of a report: joined with the connection events, and named by what the command asked."""

from __future__ import annotations

from dnstrail_run.enforce.refusals import (
    BIND,
    OTHER,
    REACH,
    SOCKET,
    STATE,
    UNSTATED,
    Attempt,
    Limits,
    refusals,
    transport_of,
    with_names,
    without_refused,
)
from dnstrail_run.report import Program, ReachedAddress
from dnstrail_run.verdict import attempt_of

TOOL = Program(7, "tool", "/usr/bin/tool")


def attempt(**fields: object) -> Attempt:
    usual = {"action": REACH, "address": "192.0.2.1", "port": 80, "transport": "tcp", "pid": 7, "name": "t", "times": 2}
    return Attempt(**usual | fields)


def reached(name: str, **fields: object) -> ReachedAddress:
    usual = {"address": "192.0.2.1", "port": 80, "transport": "tcp", "program": TOOL, "results": {"unknown": 2}}
    return ReachedAddress(name, **usual | fields)


def test_a_refusal_has_the_name_of_its_event():
    """The event of the same process, address, port and transport gives name and program."""
    (one,) = refusals([attempt()], [reached("other", port=81), reached("a.test")])
    assert (one.name, one.program, one.times) == ("a.test", TOOL, 2)
    (one,) = refusals([attempt(pid=8)], [reached("a.test")])
    assert (one.name, one.program) == ("", Program(8, "t", ""))


def test_refused_attempts_are_no_connections():
    """The attempts that were refused are taken from the connections of the same end, and from nothing else."""
    connections = [
        reached("a.test"),
        reached("b.test", results={"connected": 1, "unknown": 3}),
        reached("c.test", transport="udp", results={"unknown": 1}),
        reached("d.test", port=81),
    ]
    left = without_refused([attempt(times=4), attempt(transport="udp")], connections)
    assert [(one.name, one.results) for one in left] == [
        ("b.test", {"connected": 1, "unknown": 1}),
        ("c.test", {"unknown": 1}),
        ("d.test", {"unknown": 2}),
    ]


def test_an_address_without_an_event_is_named_by_the_cache():
    """Of the names that the cache ranks, the first that the command asked counts; sockets are not asked for."""
    asked_for = []

    def rank(connections):
        asked_for.extend(connections)
        return [["strange.test", "a.test", "b.test"] for _ in connections]

    attempts = [attempt(transport="udp"), attempt(action=SOCKET, address="", port=0, transport="raw")]
    named = with_names(refusals(attempts, []), rank, ["b.test", "a.test"])
    assert [one.name for one in named] == ["a.test", ""]
    assert [(to.address, to.port) for to in asked_for] == [("192.0.2.1", 80)]


def test_many_addresses_are_named():
    """Each of many addresses gets its own name."""
    attempts = [attempt(address=f"192.0.2.{last}", transport="udp") for last in range(200)]
    names = [f"n{last}.test" for last in range(200)]
    named = with_names(
        refusals(attempts, []), lambda some: [[f"n{to.address.rpartition('.')[2]}.test"] for to in some], names
    )
    assert [one.name for one in named] == names


def test_the_words_of_a_refusal():
    """The text states what was tried."""
    tried = [
        attempt(),
        attempt(action=BIND, port=53, address="::1"),
        attempt(action=SOCKET, address="", transport="raw"),
    ]
    texts = [attempt_of(one) for one in refusals(tried, [reached("a.test")])]
    assert texts == ["reach a.test (192.0.2.1:80/tcp)", "bind [::1]:53/tcp", "open a socket of raw"]
    stated = [attempt(action=STATE, asked="b.test", reason=OTHER), attempt(action=STATE, reason=UNSTATED)]
    others, unstated = refusals(stated, [reached("a.test")])
    named = with_names([unstated], lambda _: [["a.test"]], ["a.test"])
    assert [attempt_of(one) for one in (others, unstated, *named)] == [
        "reach 192.0.2.1:80/tcp as b.test",
        "reach 192.0.2.1:80/tcp without a name",
        "reach a.test (192.0.2.1:80/tcp) without a name",
    ]
    assert [transport_of(*each) for each in ((6, 1), (6, 3), (262, 1), (99, 2))] == [
        "tcp",
        "raw",
        "mptcp",
        "protocol 99",
    ]


def test_the_limits_in_words():
    """Only what exceeded its bound is stated."""
    assert Limits().notes == []
    assert [note.split()[0] for note in Limits(1, 0, 3).notes] == ["1", "3"]
    assert [note.split()[0] for note in Limits(1, 2, 3, 4, 5, 6, 7).notes] == [*"1234567"]
