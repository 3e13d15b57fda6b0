"""One owner floods a real cache process with costly answers, over the bus: the others lose nothing."""

from __future__ import annotations

import struct
import time

from msgspec.structs import replace

from builders.dns_builders import A, asked, by_hand, record, wire
from dnstrail.bus.ipc import events_address, lookups_address
from dnstrail.captured import Captured, Flow, Process
from dnstrail.protocol.batches import TURN
from live.processes import PATIENCE, run_dir, started
from live.processes import wait_until as wait_for
from live.workers import Probe, asker, open_bus, wait_until_seen

FLOODER, OTHER = 11, 22  # their cgroups
COSTLY = 400  # answers with 4,000 addresses, in as many turns: seconds of work for any machine
POINTER = b"\xc0\x0c"


def exchange(number: int, cgroup: int, addresses: int) -> list[Captured]:
    """Return a query of a cgroup and its answer."""
    question, id_ = asked(wire(f"n{number}.of{cgroup}.example")), struct.pack("!H", number)
    records = [record(POINTER, A, struct.pack("!I", number << 16 | place)) for place in range(addresses)]
    client, server = (bytes([10, 0, 0, cgroup]), 40000), (bytes([10, 0, 0, 53]), 53)
    process = Process(cgroup, cgroup_id=cgroup)
    return [
        Captured(
            0,
            id_ + by_hand(question, flags=0x0100)[2:],
            Flow(*client, *server, socket=cgroup, namespace=1, egress=True),
            process,
        ),
        Captured(0, id_ + by_hand(question, *records)[2:], Flow(*server, *client, socket=cgroup, namespace=1), process),
    ]


def stamped(event: Captured) -> Captured:
    """Return an event as it is captured just now."""
    return replace(event, timestamp=time.time_ns())


def test_a_flood_of_costly_answers_costs_the_flooder_alone():
    """The names of another owner are found, its lookups are complete, and each answer of the flood is counted."""
    turns = [exchange(number, FLOODER, 4000) for number in range(COSTLY)]
    for number in range(0, COSTLY, 10):
        turns[number] += exchange(number, OTHER, 1)
    with run_dir() as folder, started("cache", "--run-dir", folder, "--user", "0:0"), open_bus() as bus:
        wait_for((folder / "lookups.sock").exists, "the cache")
        publisher = bus.publisher(events_address(folder), lossless=True)
        wait_for(lambda: publisher.subscribers(TURN), "the subscription of the cache")
        probe = Probe(publisher, "start", live=True)
        with asker(lookups_address(folder)) as client:
            wait_until_seen(client, probe.turn())
            marks = [probe.turn(*map(stamped, events)) for events in turns]

            def counted() -> tuple[int, int]:
                image = client.ask("stats")["data"]["image"]
                return image["related"], image.get("skipped_behind", 0)

            wait_for(lambda: sum(counted()) == COSTLY + COSTLY // 10, "all answers", 4 * PATIENCE)
            skipped = counted()[1]
            names = [f"n{number}.of{OTHER}.example" for number in range(0, COSTLY, 10)]
            found = client.ask("get_many", keys=names)["data"]
            replies = [client.ask("get", key=names[0], after=[mark], owner=["", OTHER]) for mark in marks]
            whole = [client.ask("get", key=names[0], after=[mark])["complete"] for mark in marks]
            stats = client.ask("stats")["data"]
    assert skipped > 0
    assert None not in found
    assert all(reply["complete"] for reply in replies)
    assert whole.count(False) == skipped  # one answer of the flood in each turn
    assert (stats["lost"]["cache"], stats["lost"]["total"]) == ({"skipped_behind": skipped}, skipped)
    assert stats["skipped_by_owner"] == {f"cgroup {FLOODER}": skipped}
