"""The actor of an event: its container, else its process, else its client."""

from __future__ import annotations

from dnstrail.captured import Captured, Flow, Process
from dnstrail_signatures.detection.subjects import NOBODY, actor_of

CLIENT, SERVER = bytes((10, 0, 0, 1)), bytes((8, 8, 8, 8))
ANSWER = b"\0\0\x80" + bytes(9)


def test_the_processes_of_a_container_are_one_actor():
    """A container is the actor of all of its processes, on whichever host."""
    first, second = (Captured(1, process=Process(pid, container_id="c0ffee")) for pid in (1, 2))
    assert actor_of(first, "host") == actor_of(second, "other")


def test_a_process_of_the_host_is_an_actor():
    """Host, process id and start identify a process: a later one with the same id is another actor."""
    actors = {
        actor_of(Captured(1, process=Process(pid, start_time=start)), host)
        for pid, start, host in [(1, 1, "a"), (1, 2, "a"), (2, 1, "a"), (1, 1, "b")]
    }
    assert len(actors) == 4


def test_question_and_answer_have_the_same_client():
    """Without a process the client of the exchange is the actor, else the source of the connection."""
    query = Captured(1, bytes(12), Flow(CLIENT, 4000, SERVER, 53))
    answer = Captured(1, ANSWER, Flow(SERVER, 53, CLIENT, 4000))
    connect = Captured(1, b"", Flow(CLIENT, 4001, SERVER, 443))
    assert actor_of(query, "") == actor_of(answer, "") == actor_of(connect, "")
    assert actor_of(Captured(1), "") == NOBODY


def test_one_address_on_two_hosts_is_two_clients():
    """Private addresses of different hosts are never merged."""
    query = Captured(1, bytes(12), Flow(CLIENT, 4000, SERVER, 53))
    assert actor_of(query, "one") != actor_of(query, "other")
