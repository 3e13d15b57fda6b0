"""The events of `dnstrail run`: which belong to the command, which to a container, and in which order they count."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from builders.dns_builders import A
from builders.talk import packed, query
from dnstrail.captured import Captured, Flow, Process
from dnstrail.events import (
    NET_PACKET_DNS,
    NET_TCP_CLOSE,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    SCHED_PROCESS_EXEC,
    SCHED_PROCESS_EXIT,
    SCHED_PROCESS_FORK,
    Event,
)
from dnstrail.protocol.batches import Turn
from dnstrail_run import followed as module
from dnstrail_run.followed import Followed

CGROUP, RESOLVER = 7, packed("10.0.0.53")
APP, CHILD, STRANGER = Process(70, "app", cgroup_id=CGROUP), Process(71, "child", cgroup_id=8), Process(90, cgroup_id=9)
SECOND = 10**9


@pytest.fixture
def followed():
    found = Followed(CGROUP, frozenset({RESOLVER}))
    found.begin(70)
    found.containers.begin({"older"}, 100.0)
    return found


def event(name, process=APP, at=200 * SECOND, turn=0, flow=None, payload=b"", **args):
    return Event(name, Captured(at, payload, flow, process, args), mark=("start", turn), args=args)


def flow(address="192.0.2.1", port=443, socket=1):
    return Flow(b"", 0, packed(address), port, "tcp", socket, 1, egress=True)


def connects(process=APP, address="192.0.2.1", **fields):
    return event(NET_TCP_CONNECT, process, flow=flow(address), dst=address, dst_port=443, dst_dns=[], **fields)


def concludes(**fields):
    return event(NET_TCP_CONNECT_RESULT, flow=flow(), connected=True, error="", **fields)


def closes(process=APP, **fields):
    return event(NET_TCP_CLOSE, process, flow=flow(), bytes_sent=1, bytes_received=2, **fields)


def asks(name, process, server="10.0.0.53"):
    asked = Flow(packed("10.0.0.2"), 40000, packed(server), 53, "udp", 1, 1, egress=True, role="client")
    return event(NET_PACKET_DNS, process, flow=asked, payload=query(name, A))


LABELS = (("app", "web"),)


def container(of, pid=500, name="", image="", labels=()):
    named = {"container_name": name, "container_image": image, "container_labels": labels}
    return Process(pid, "app", container_id=of, cgroup_id=50, **named)


def take(followed, *events):
    for one in events:
        followed.take(one)
    followed.apply()


def test_a_container_of_a_user_is_not_listed(followed):
    """A user who names a cgroup like a container adds nothing to the report: its process is one of the host."""
    followed.containers.begin(set(), 0.0)
    take(followed, asks("stranger.example", container(f"alice/{'c' * 64}")), asks("own.example", container("c" * 64)))
    assert [one.id for one in followed.containers.reports()] == ["c" * 64]


def test_what_others_do_is_not_reported(followed):
    """Only the processes of the cgroup, and what they forked, belong to the command."""
    take(followed, asks("stranger.example", STRANGER), connects(STRANGER), connects(CHILD))
    assert (followed.command.names, followed.command.connections) == ([], [])
    take(followed, event(SCHED_PROCESS_FORK, child_pid=71), connects(CHILD))
    assert [one.program.pid for one in followed.command.connections] == [71]
    take(followed, event(SCHED_PROCESS_EXIT, CHILD), connects(CHILD, "192.0.2.2"))
    assert len(followed.command.connections) == 1
    assert {*followed.ended} == {71}


def test_the_events_of_a_turn_are_applied_in_the_order_of_time(followed):
    """The events of a turn come by their names: an end and a result before the connection and the fork."""
    fork = event(SCHED_PROCESS_FORK, child_pid=71, at=1, turn=9)
    for one in (closes(CHILD, at=4, turn=9), concludes(at=3, turn=9), connects(CHILD, at=2, turn=9), fork):
        followed.take(one)
    followed.end_turn(None)
    followed.end_turn(Turn(start="start", turn=8, last={}, live=True, now=0))
    assert followed.command.connections == []
    followed.end_turn(Turn(start="start", turn=9, last={}, live=True, now=0))
    [one] = followed.command.connections
    assert (one.results, one.bytes_sent, one.bytes_received) == ({"connected": 1}, 1, 2)


@pytest.mark.parametrize(("start", "turn"), [("start", 10), ("later", 0)])
def test_a_later_turn_ends_a_turn(followed, start, turn):
    """A turn whose end was lost on the bus ends with a later turn, or with the first one of another start."""
    followed.take(connects(turn=9))
    followed.end_turn(Turn(start=start, turn=turn, last={}, live=True, now=0))
    assert len(followed.command.connections) == 1


def test_an_event_of_the_next_turn_ends_a_turn(followed):
    """A turn whose end was lost on the bus ends with the first event of the next turn."""
    followed.take(connects(turn=1))
    followed.take(connects(turn=2))
    assert followed.command.connections[0].results == {"unknown": 1}


def test_an_end_may_come_after_its_process(followed):
    """The end of a connection comes after the end of its process, whose id another process may then have."""
    take(followed, event(SCHED_PROCESS_FORK, child_pid=71), connects(CHILD, turn=1), concludes(turn=2))
    assert not followed.is_closing
    take(followed, event(SCHED_PROCESS_EXIT, CHILD))
    assert followed.is_closing
    take(followed, closes(CHILD))
    assert not followed.is_closing
    take(followed, asks("stranger.example", CHILD))
    assert followed.command.names == []
    assert followed.command.connections[0].bytes_sent == 1


def test_the_ends_of_many_processes_are_bounded(followed, monkeypatch):
    """The ends of the last processes are remembered, of a command that runs for days, too."""
    monkeypatch.setattr(module, "MOST_ENDED", 3)
    take(followed, *(event(SCHED_PROCESS_EXIT, Process(pid, cgroup_id=CGROUP), at=pid) for pid in range(71, 80)))
    assert [*followed.ended] == [77, 78, 79]


def test_the_end_of_the_command_stays_known(followed, monkeypatch):
    """However many processes end after the command, its own end was seen."""
    monkeypatch.setattr(module, "MOST_ENDED", 3)
    take(followed, *(event(SCHED_PROCESS_EXIT, Process(pid, cgroup_id=CGROUP), at=pid) for pid in range(70, 80)))
    assert [*followed.ended] == [70, 78, 79]


def test_the_cgroups_of_the_command_are_known(followed, monkeypatch):
    """Losses count in each cgroup in which a process of the command was; in all, if there are too many."""
    take(followed, event(SCHED_PROCESS_FORK, child_pid=71), connects(CHILD), connects(STRANGER))
    assert followed.cgroups == {CGROUP, 8}
    monkeypatch.setattr(module, "_MOST_CGROUPS", 2)
    assert followed.cgroups is None


@pytest.mark.parametrize(("below", "left"), [({8}, False), (set(), True)])
def test_a_process_that_leaves_the_cgroup_is_noted(below, left):
    """A process of the command in a cgroup that is not below its own has left it."""
    followed = Followed(CGROUP, frozenset(), lambda: below)
    take(followed, connects(), connects(STRANGER), event(SCHED_PROCESS_FORK, child_pid=71))
    assert not followed.has_left
    take(followed, connects(CHILD))
    assert followed.has_left is left


def test_a_container_that_starts_meanwhile_is_listed(followed):
    """A container has its names and connections apart from the command; none that ran before, or started before."""
    take(followed, event(SCHED_PROCESS_EXEC, container("early"), at=99 * SECOND))
    take(followed, event(SCHED_PROCESS_EXEC, container("new")), connects(container("older")))
    take(followed, asks("one.example", container("new")), connects(container("new", 500, "web", "nginx", LABELS)))
    take(followed, asks("one.example", container("new")))
    assert (followed.command.names, followed.command.connections) == ([], [])
    [one] = followed.containers.reports()
    assert (one.id, one.name, one.image, one.labels) == ("new", "web", "nginx", dict(LABELS))
    assert ([name.name for name in one.names], [end.address for end in one.connections]) == (
        ["one.example"],
        ["192.0.2.1"],
    )


def test_a_container_that_the_command_forked_is_its_own(followed):
    """A container whose process the command forked is a part of the command, whatever its cgroup."""
    take(followed, event(SCHED_PROCESS_FORK, child_pid=500), connects(container("new")))
    assert followed.containers.reports() == []
    assert followed.command.connections[0].program.container == "new"


def test_the_resolver_of_docker_in_a_container_is_no_other_server(followed):
    """A container that asks the host's resolvers, or Docker's at 127.0.0.11, asks no other server."""
    take(followed, *(asks("one.example", container("new"), at) for at in ("10.0.0.53", "127.0.0.11", "192.0.2.9")))
    assert [one.address for one in followed.containers.reports()[0].foreign_dns] == ["192.0.2.9"]


def test_containers_are_bounded(followed, monkeypatch):
    """Beyond the bounds, events of further containers and of a busy one are counted, and do not touch the command."""
    monkeypatch.setattr(module, "MOST", 2)
    monkeypatch.setattr(module, "MOST_OF_ONE", 2)
    for number in range(4):
        take(followed, event(SCHED_PROCESS_EXEC, container(f"c{number}")))
    assert (len(followed.containers.reports()), followed.containers.left_out) == (2, 2)
    for number in range(4):
        take(followed, asks(f"n{number}.example", container("c0")))
    assert len(followed.containers.reports()[0].names) == 2
    assert (followed.containers.left_out, followed.command.left_out) == (4, 0)


def test_the_first_programs_are_kept(followed, monkeypatch):
    """The programs of the command are kept in their order, each once, up to the bound; those of others are not."""
    monkeypatch.setattr(module, "MOST_EXECUTED", 2)
    ran = [replace(APP, path=f"/bin/{name}", user_id=5, mount_namespace=3) for name in ("b", "a", "b", "c")]
    take(followed, *(event(SCHED_PROCESS_EXEC, process) for process in (replace(STRANGER, path="/bin/x"), *ran)))
    assert [*followed.executed] == [("/bin/b", 5, 3), ("/bin/a", 5, 3)]
