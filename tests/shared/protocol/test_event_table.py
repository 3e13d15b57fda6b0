"""Events in wire form: what they share travels once, and each is decoded on demand."""

from __future__ import annotations

import msgpack
import msgspec
import pytest

from dnstrail.captured import Captured, Flow, Process
from dnstrail.errors import BadMessage
from dnstrail.protocol.batches import Batch, decode, encode
from dnstrail.protocol.event_table import BatchTable, ReceivedEvents
from dnstrail_signatures.detection.subjects import actor_of_client

SHELL = Process(7, "sh", "/bin/sh", 1, 0, "c1", 70, 9, "web", "nginx", 3, 4, 5)
OTHER = Process(8, "sh", "/bin/sh", container_id="c1", container_name="web", container_image="nginx")
ON_HOST = Process(9, "ping", "/usr/bin/ping")
LABELS = (("app", "web"), ("team", "shop"))
FLOW = Flow(bytes(4), 1, bytes(4), 53)


def received(*events: Captured) -> Batch:
    """Return a batch of these events as a subscriber receives it."""
    return decode(encode(Batch("s", 0, 0, events)), Batch)


def wire(*events: object, processes: object = (), containers: object = (), labels: object = None) -> bytes:
    """Return a batch with a table and events of any shape, as an older probe sends it if it has no labels."""
    return msgpack.packb(["s", 0, 0, [containers, processes, events, *([] if labels is None else [labels])]])


def test_processes_and_containers_travel_once() -> None:
    """A process and its container are in a batch once, whatever objects and threads its events have."""
    events = [Captured(n, process=Process(7, "sh", "/bin/sh", container_id="c1", thread_id=n)) for n in range(9)]
    batch = [*events, Captured(9, b"x", FLOW, SHELL, {"a": 1}, 3), Captured(10, process=OTHER), Captured(11)]
    body = encode(Batch("s", 0, 0, batch))
    assert (body.count(b"/bin/sh"), body.count(b"nginx"), body.count(b"c1")) == (3, 1, 2)
    assert [*decode(body, Batch).events] == batch


def test_a_process_of_an_older_probe_has_no_unit() -> None:
    """A unit arrives as it was sent; a process without the last fields has none, and further fields are ignored."""
    sent = Process(9, "sh", unit="alice/a.service", slice="alice/app.slice")
    values = [*msgspec.structs.astuple(sent)]
    assert received(Captured(0, process=sent)).events[0].process == sent
    for fields, unit in ((values[:-3], ""), ([*values, "later"], "alice/a.service")):
        [event] = decode(wire([0, 1], processes=[[fields, -1]]), Batch).events
        assert (event.process.pid, event.process.unit) == (9, unit)


def test_labels_of_a_container_travel_once() -> None:
    """Labels are in a batch once for each container; containers that differ in them alone are two."""
    labelled = [msgspec.structs.replace(one, container_labels=LABELS) for one in (SHELL, OTHER)]
    sent = [Captured(number, process=one) for number, one in enumerate([SHELL, *labelled, ON_HOST])]
    body = encode(Batch("s", 0, 0, sent))
    assert [*decode(body, Batch).events] == sent
    assert (body.count(b"team"), body.count(b"nginx")) == (1, 2)


def test_a_batch_of_an_older_probe_has_no_labels() -> None:
    """A batch without the list of labels is read; one whose list lacks a container, or has another type, is bad."""
    table = {"processes": [[[7, "sh"], 0]], "containers": [["c1", "web", "nginx"]]}
    for labels, expected in ((None, ()), ([], ()), ([[["app", "web"]]], (("app", "web"),))):
        [event] = decode(wire([0, 1], **table, labels=labels), Batch).events
        assert (event.process.container_name, event.process.container_labels) == ("web", expected)
    two = {**table, "processes": [[[7, "sh"], 1]], "containers": [["c1", "", ""], ["c2", "", ""]]}
    for given, labels in ((two, [[]]), (table, [[["app"]]]), (table, [[["app", 5]]]), (table, {"app": "web"})):
        with pytest.raises(BadMessage):
            decode(wire([0, 1], **given, labels=labels), Batch)


def test_events_of_one_thread_share_their_process() -> None:
    """The process of a received event is made once for each thread, not once for each event."""
    threads = [Process(7, "sh", thread_id=thread) for thread in (70, 71, 70)]
    first, other, again = [event.process for event in received(*(Captured(0, process=one) for one in threads)).events]
    assert (first, other) == tuple(threads[:2])
    assert again is first


def test_events_are_a_sequence() -> None:
    """The events of a received batch have a length, places and slices, and equal the list of them."""
    events = [Captured(number, process=SHELL) for number in range(5)]
    found = received(*events).events
    assert (len(found), found[0], found[-1], found[1:3]) == (5, events[0], events[-1], events[1:3])
    assert found == events
    assert found != events[:-1]


def test_unwanted_origins_are_not_decoded() -> None:
    """Events of other origins are skipped by their process alone, even if the rest of them is bad."""
    events = [Captured(0, process=SHELL), Captured(1, process=ON_HOST), Captured(2), Captured(3, process=OTHER)]
    found = received(*events).events
    assert [event.timestamp for _, event in found.select({"container"})] == [0, 3]
    assert [event.timestamp for _, event in found.select({"host"})] == [1, 2]
    assert [event for _, event in found.select({"host", "container"})] == events
    bad = decode(wire([-1, "no time"]), Batch).events
    assert bad.select({"container"}) == []
    with pytest.raises(BadMessage):
        bad.select({"host"})


def test_further_elements_of_an_event_are_ignored() -> None:
    """An event with elements of a later version is read, and missing ones have their defaults."""
    later = [-1, 5, b"x", None, {}, 1, 0, "more"]
    assert decode(wire(later, [-1, 6]), Batch).events == [Captured(5, b"x", processor=1), Captured(6)]


@pytest.mark.parametrize(
    "event",
    [[0, 1], [1 << 60, 1], ["0", 1], [-1], 7, [-1, 1, "text"], [-1, 1, b"", None, {"a": msgpack.ExtType(5, b"")}]],
)
def test_a_bad_event_is_refused_when_it_is_read(event: object) -> None:
    """A bad event, or one of a process that the batch does not contain, raises BadMessage once it is read."""
    events = decode(wire([-1, 5], event), Batch).events
    assert (len(events), events[0]) == (2, Captured(5))
    with pytest.raises(BadMessage):
        events[1]


@pytest.mark.parametrize("process", [[[7], 0], [[7], 1 << 60], [7], [["7"]]])
def test_a_bad_process_is_refused(process: object) -> None:
    """A batch with a bad process, or one of a container that it does not contain, raises BadMessage."""
    with pytest.raises(BadMessage):
        decode(wire(processes=[process]), Batch)


class OfBerta:
    """Wants the process berta and the client 10.0.0.2."""

    def owns_process(self, process):
        return process.name == "berta"

    def owns_client(self, flow, payload):
        return actor_of_client(flow, payload, "") == " 0a000002"


def test_events_of_other_actors_are_skipped_without_being_decoded():
    """The place of each event in its batch is kept; a bad event of another process does no harm."""
    client, server = bytes((10, 0, 0, 2)), bytes((8, 8, 8, 8))
    query, answer = bytes(12), b"\0\0\x80" + bytes(9)
    events = [
        Captured(0, process=Process(1, "anton")),
        Captured(1, process=Process(2, "berta")),
        Captured(2, query, Flow(client, 4000, server, 53)),
        Captured(3, answer, Flow(server, 53, client, 4000)),
        Captured(4, query, Flow(server, 53, client, 4000)),
        Captured(5),
    ]
    wire = BatchTable(events).wire
    wire.events[0] = msgspec.Raw(msgspec.msgpack.encode((0, "no time")))
    found = ReceivedEvents(wire).select({"host", "container"}, OfBerta())
    assert found == [(place, events[place]) for place in (1, 2, 3)]


def test_a_container_can_be_named_after_its_events() -> None:
    """The containers without a name receive the one of their id, before the table is encoded; others keep theirs."""
    nameless = msgspec.structs.replace(SHELL, container_id="c2", container_name="", container_image="")
    table = BatchTable([Captured(0, process=SHELL), Captured(1, process=nameless), Captured(2, process=ON_HOST)])
    assert table.nameless == ["c2"]
    before = table.size
    table.name_containers(lambda container: (f"name of {container}", "redis", LABELS), before + 100)
    assert table.nameless == []
    assert table.size == before + len("name of c2") + len("redis") + len(msgpack.packb(LABELS)) - 1
    found = [one.process for one in ReceivedEvents(table.wire)]
    shown = [(one.container_name, one.container_image, one.container_labels) for one in found]
    assert shown == [("web", "nginx", ()), ("name of c2", "redis", LABELS), ("", "", ())]


def test_names_that_do_not_fit_are_left_out() -> None:
    """A name that makes the table exceed its bound is left out."""
    nameless = msgspec.structs.replace(SHELL, container_name="", container_image="")
    table = BatchTable([Captured(0, process=nameless)])
    table.name_containers(lambda _container: ("a" * 100, "", LABELS), table.size + 50)
    assert table.wire.labels == []
    assert (table.nameless, table.wire.containers) == (["c1"], [("c1", "", "")])
