from __future__ import annotations

from dataclasses import replace
from typing import Any

import dns.message
import pytest

from dnstrail.captured import CLIENT, SERVER, Captured, Flow, Process
from dnstrail.events import NET_PACKET_DNS, SCHED_PROCESS_EXIT, Event
from dnstrail_cli.events.output import WINDOW as HELD
from dnstrail_cli.events.output import EventOutput, OutputSettings, SortWindow, parse_output
from dnstrail_cli.events.sightings import MOST, WINDOW, ClientSightings
from live.workers import FakeClock, response

HERE, STUB = bytes([127, 0, 0, 1]), bytes([127, 0, 0, 53])
QUERY = dns.message.make_query("a.example", "A", id=7).to_wire()
ANSWER = response("a.example", "a.example 60 A 192.0.2.1", id_=7)
APP, RESOLVER = Process(70, "app"), Process(53, "resolved")


def query(at: float, process: Process, *, port: int = 4000, payload: bytes = QUERY) -> Event:
    flow = Flow(HERE, port, STUB, 53, "udp", process.pid, 1, process is APP, role=CLIENT if process is APP else SERVER)
    return Event(NET_PACKET_DNS, Captured(round(at * 1e9), payload, flow, process))


def answer(at: float, process: Process) -> Event:
    flow = Flow(STUB, 53, HERE, 4000, "udp", process.pid, 1, process is not APP)
    return Event(NET_PACKET_DNS, Captured(round(at * 1e9), ANSWER, flow, process))


def from_file(at: float) -> Event:
    return Event(NET_PACKET_DNS, Captured(round(at * 1e9), QUERY, Flow(HERE, 4000, STUB, 53)))


def passed(*items: Any, now: float = 0.0, later: float = 0.0, everything: bool = False) -> list[int]:
    """Return the process ids of what is passed on, of items that came at `now`."""
    stage = ClientSightings()
    for item in items:
        stage.add(item, now)
    return [item.process_id for item in stage.ready(later, everything=everything)]


CASES = {
    "a query at both ends": ([query(5, APP), query(5.001, RESOLVER)], [70]),
    "an answer at both ends, the server's first": ([answer(5, RESOLVER), answer(5.001, APP)], [70]),
    "an answer at both ends, the client's first": ([answer(5, APP), answer(5.001, RESOLVER)], [70]),
    "a query and its answer": ([query(5, APP), answer(5.1, APP)], [70, 70]),
    "the same message again, later": ([query(5, APP), query(5.2, APP)], [70, 70]),
    "the same message from another port": ([query(5, APP), query(5, APP, port=4001)], [70, 70]),
    "another message from the same port": ([query(5, APP), query(5, APP, payload=QUERY + b"x")], [70, 70]),
    "an event that is no message": ([Event(SCHED_PROCESS_EXIT, Captured(5, process=APP))] * 2, [70, 70]),
    "an answer at both ends, with a step of the wall clock between": (
        [answer(5, RESOLVER), replace(answer(5.001, APP), difference=3600 * 10**9)],
        [70],
    ),
    "a packet that a file holds twice": ([from_file(5), from_file(5.001)], [0]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_sighting_of_a_message_is_passed_on(name):
    """A message that several ends saw is passed on once, as its client's end saw it."""
    items, expected = CASES[name]
    assert passed(*items) == expected


def test_the_only_end_is_passed_on_after_the_window():
    """A message that only a server's end saw waits for the window, and is passed on then."""
    assert passed(query(5, RESOLVER), later=WINDOW - 0.01) == []
    assert passed(query(5, RESOLVER), later=WINDOW) == [53]
    assert passed(query(5, RESOLVER), everything=True) == [53]


def test_nothing_overtakes_a_message_that_waits():
    """Events after a message that waits keep their place behind it."""
    assert passed(query(5, RESOLVER), query(6, APP, port=9), later=0.01) == []
    assert passed(query(5, RESOLVER), query(6, APP, port=9), later=WINDOW) == [53, 70]


def test_a_sighting_that_comes_too_late_is_dropped():
    """A client's end that comes after its message was passed on is not shown again."""
    stage = ClientSightings()
    stage.add(answer(5, RESOLVER), 0.0)
    assert [item.process_id for item in stage.ready(1.0)] == [53]
    stage.add(answer(5.01, APP), 1.0)
    assert list(stage.ready(2.0)) == []


def test_the_memory_of_messages_is_bounded():
    """At most so many messages wait, and are remembered; the oldest one goes first."""
    stage = ClientSightings()
    for number in range(MOST + 5):
        stage.add(query(5, RESOLVER, payload=QUERY + number.to_bytes(4)), 0.0)
    assert len(list(stage.ready(0.0))) == 5
    assert len(stage._recent) == MOST


def test_a_window_sorts_events_by_their_times():
    """Events are passed on in the order of their stamps, once they were held back long enough."""
    stage = SortWindow()
    for place, at in enumerate((3, 1, 2)):
        stage.add(query(at, APP, port=place), 0.0)
    stage.add({"timestamp": 0}, 0.1)
    assert list(stage.ready(HELD - 0.01)) == []
    in_order = [item if isinstance(item, dict) else item.timestamp for item in stage.ready(0.1 + HELD)]
    assert in_order == [{"timestamp": 0}, 10**9, 2 * 10**9, 3 * 10**9]


def test_a_window_holds_nothing_for_longer_than_it_is():
    """An item is passed on when its time is over, however many with older stamps keep coming."""
    stage, passed_on = SortWindow(), []
    stage.add({"timestamp": 100}, 0.0)
    for tick in range(1, 30):
        stage.add({"timestamp": tick}, tick / 100)
        passed_on += [(item["timestamp"], tick) for item in stage.ready(tick / 100)]
    assert passed_on[19:21] == [(20, 20), (100, 20)]
    assert [item["timestamp"] for item in stage.ready(1.0)] == [*range(21, 30)]


def test_output_passes_events_through_its_stages():
    """An output shows each message once, sorts, and prints the rest at its end."""
    clock, printed = FakeClock(), []
    output = EventOutput(lambda item: printed.append(item.process_id), clock, once=True, sort=True)
    output.emit(query(6, APP, port=9))
    output.emit(answer(5, RESOLVER))
    output.emit(answer(5.01, APP))
    assert printed == []
    clock.monotonic_time += HELD + WINDOW
    output.release()
    assert (printed, output.shown) == ([70, 70], 2)
    output.emit(answer(9, RESOLVER))
    output.release(everything=True)
    assert printed == [70, 70, 53]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], OutputSettings()),
        (["json"], OutputSettings("json")),
        (["table"], OutputSettings("table")),
        (["table=all"], OutputSettings("table", every_sighting=True)),
        (["table=all", "json,table"], OutputSettings("table")),
        (["option:sort-events,option:parse-arguments"], OutputSettings(sort=True, parse_arguments=True)),
    ],
)
def test_output_flags(values, expected):
    """All --output flags together make the settings; the last format wins."""
    assert parse_output(values) == expected
