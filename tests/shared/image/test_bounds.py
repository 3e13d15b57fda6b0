"""The bounds of the image: each table is filled to its bound and one past it; each window is met at both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import dns.message
import pytest
from dnstrail.image.trails.connection_history import ConnectionHistory

from builders.dns_builders import A, T, asked, by_hand, record, response_to
from builders.trail_helpers import CLIENT, packed, query, to_client, to_server
from dnstrail.captured import Process
from dnstrail.connection import Connection
from dnstrail.dns import decode
from dnstrail.image import Bounds, Circumstances, Image, ServerNameSighting
from dnstrail.image.admission import Admission, conflicts
from dnstrail.image.trails.server_names import ServerNameTable

DAY = 86_400
ADDRESS = "1.1.1.1"
SENT, CAME = to_server(socket=7, namespace=1, egress=True), to_client(socket=7, namespace=1)


def ipv4(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def answered(
    count: int, name: Callable[[int], str], record: Callable[[int], str], bounds: Bounds | None = None
) -> Image:
    image = Image(bounds)
    for number in range(count):
        image.feed(T + number / 1000, response_to(name(number), record(number), ttl=DAY))
    return image


def question(name: str, id_: int = 1) -> bytes:
    """Return a query of type A, written by hand since dnspython is slow for thousands."""
    return id_.to_bytes(2, "big") + by_hand(asked(bytes([len(name)]) + name.encode() + b"\0"), flags=0x0100)[2:]


def answer(name: str, address: str) -> bytes:
    """Return the answer to a question of type A, written by hand."""
    return by_hand(question(name)[12:], record(b"\xc0\x0c", A, packed(address), DAY))


def roots(count: int) -> tuple[int, Counter[str]]:
    image = Image()
    for number in range(count):
        image.feed(T, answer(f"n{number}", ipv4(number)))
    return len(image), image.counters


def relations_of_an_owner(count: int) -> tuple[int, Counter[str]]:
    image = Image()
    for number in range(count):
        image.feed(T, answer("a", ipv4(number)))
    return len(image.store.forward.out["a"]), image.counters


def relations(count: int) -> tuple[int, Counter[str]]:
    image = answered(count, "n{}".format, lambda n: f"n{n} A {ipv4(n)}", Bounds(relations=50))
    return image.store.held, image.counters


def sightings(count: int) -> tuple[int, Counter[str]]:
    image = answered(count + 1, lambda _: "a", lambda _: f"a A {ADDRESS}", Bounds(sightings=50))
    return len(image.store._sighted), image.counters


def answers_of_a_root(count: int) -> tuple[int, Counter[str]]:
    image = answered(count, lambda _: "a", lambda _: f"a A {ADDRESS}")
    return len(image.store.roots["a"].answers), image.counters


def roots_of_a_relation(count: int) -> tuple[int, Counter[str]]:
    image = answered(count, "n{}".format, lambda n: f"n{n} CNAME s", Bounds(size=50))
    return sum(len(relation.roots) for relation in image.store.forward.into["s"]), image.counters


def nodes_of_a_lookup(count: int) -> tuple[int, Counter[str]]:
    found = answered(count, lambda _: "a", lambda n: f"a A {ipv4(n)}", Bounds(nodes=50)).get("a")
    return len(found.ip_addresses), Counter(truncated=int(found.truncated))


def trails(count: int) -> tuple[int, Counter[str]]:
    found = answered(count, "n{}".format, lambda n: f"n{n} A {ADDRESS}").trails(ADDRESS)
    return len(found.trails), Counter(truncated=int(found.truncated))


def steps_of_a_path(count: int) -> tuple[int, Counter[str]]:
    found = answered(count, "n{}".format, lambda n: f"n{n} CNAME n{n + 1}").trails(f"n{count}")
    return max(len(trail.steps) for trail in found.trails), Counter(truncated=int(found.truncated))


def pending_queries(count: int) -> tuple[int, Counter[str]]:
    admission = Admission()
    for number in range(count):
        admission.asked(T, question("a", number), SENT)
    return len(admission), admission.counters


def sightings_of_a_query(count: int) -> tuple[int, Counter[str]]:
    admission = Admission()
    for number in range(count):
        admission.asked(T + number / 4, query("a"), SENT)
    [waiting] = admission._waiting
    return len(waiting.unanswered), admission.counters


def packets_of_a_query(count: int) -> tuple[int, Counter[str]]:
    admission = Admission()
    for number in range(count):
        message = dns.message.make_query("a", "A", id=1, use_edns=0, payload=512 + number)
        admission.asked(T, message.to_wire(), SENT)
    [waiting] = admission._waiting
    return len(waiting.packets), admission.counters


def targets_of_a_first_response(count: int) -> tuple[int, Counter[str]]:
    admission = Admission()
    admission.asked(T, query("a"), SENT)
    verdict = admission.answered(T, decode(response_to("a", f"a A {ADDRESS}")), CAME, live=True)
    conflicts(verdict, frozenset(map(str, range(count))))
    return len(verdict.query.targets), admission.counters


def addresses_of_an_answer(count: int) -> tuple[int, Counter[str]]:
    image = Image()
    records = (f"a A {ipv4(number)}" for number in range(count))
    image.feed(T, response_to("a", *records), Circumstances(CAME, Process(70)))
    return sum(bool(image.uses.of(70, ipv4(number))) for number in range(count)), image.counters


def uses(count: int) -> tuple[int, Counter[str]]:
    history = ConnectionHistory(Counter())
    for number in range(count):
        history.note_answer([7], ipv4(number), "a", T)
    return len(history), history.counters


def questions_of_a_pair(count: int) -> tuple[int, Counter[str]]:
    history = ConnectionHistory(Counter())
    for number in range(count):
        history.note_answer([7], ADDRESS, f"n{number}", T)
    return len(history.of(7, ADDRESS)), history.counters


def ports_of_a_use(count: int) -> tuple[int, Counter[str]]:
    history = ConnectionHistory(Counter())
    history.note_answer([7], ADDRESS, "a", T)
    for port in range(count):
        history.note_connection([7], ADDRESS, port, T)
    return len(history.of(7, ADDRESS)["a"].led), history.counters


def server_names(count: int) -> tuple[int, Counter[str]]:
    table = ServerNameTable(Counter())
    for number in range(count):
        table.note(ipv4(number), ServerNameSighting(T, "a", "sni", CLIENT, 443))
    return len(table), table.counters


def server_names_of_an_address(count: int) -> tuple[int, Counter[str]]:
    table = ServerNameTable(Counter())
    for _ in range(count):
        table.note(ADDRESS, ServerNameSighting(T, "a", "sni", CLIENT, 443))
    return len(table), table.counters


@dataclass(frozen=True)
class Table:
    """A table, its bound, and the counter of what exceeds it; `emptied`: past its bound nothing is held."""

    fill: Callable[[int], tuple[int, Counter[str]]]
    bound: int
    counter: str = ""
    emptied: bool = False


TABLES = [
    Table(roots, 5000, "evicted_roots"),
    Table(relations_of_an_owner, 4096, "evicted_owned"),
    Table(relations, 50, "evicted_relations"),
    Table(sightings, 50),
    Table(answers_of_a_root, 32),
    Table(roots_of_a_relation, 50, "evicted_roots"),
    Table(nodes_of_a_lookup, 50, "truncated"),
    Table(trails, 100, "truncated"),
    Table(steps_of_a_path, 32, "truncated"),
    Table(pending_queries, 16_384, "pending_full"),
    Table(sightings_of_a_query, 64, "pending_full"),
    Table(packets_of_a_query, 4),
    Table(targets_of_a_first_response, 64, emptied=True),
    Table(addresses_of_an_answer, 64),
    Table(uses, 65_536, "evicted_uses"),
    Table(questions_of_a_pair, 32, "evicted_uses"),
    Table(ports_of_a_use, 16),
    Table(server_names, 65_536, "evicted_server_names"),
    Table(server_names_of_an_address, 64, "evicted_server_names"),
]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.fill.__name__)
def test_a_table_keeps_its_bound(table: Table) -> None:
    """A table holds as many entries as its bound, no more, and counts the first entry beyond it."""
    held, counters = table.fill(table.bound)
    assert (held, counters[table.counter]) == (table.bound, 0)
    held, counters = table.fill(table.bound + 1)
    assert held == (0 if table.emptied else table.bound)
    assert counters[table.counter] == (1 if table.counter else 0)


def is_matched(after: float) -> bool:
    admission = Admission("reject")
    admission.asked(T, query("a"), SENT)
    return admission.answered(T + after, decode(response_to("a", f"a A {ADDRESS}")), CAME, live=True).matched


def is_copy_of_a_response(after: float) -> bool:
    admission = Admission("reject")
    admission.asked(T, query("a"), SENT)
    message = decode(response_to("a", f"a A {ADDRESS}"))
    verdicts = [admission.answered(T + at, message, CAME, live=True) for at in (0, after)]
    return verdicts[1].copy


def is_copy_of_a_query(after: float) -> bool:
    admission = Admission("reject")
    for at in (0, after):
        admission.asked(T + at, query("a"), SENT)
    [waiting] = admission._waiting
    return len(waiting.unanswered) == 1


def is_sent_by_the_client(after: float) -> bool:
    admission = Admission("reject")
    admission.asked(T, query("a"), SENT, Process(70))
    admission.asked(T + after, query("a"), to_server(socket=9, namespace=1))
    at_server = to_client(socket=9, namespace=1, egress=True)
    message = decode(response_to("a", f"a A {ADDRESS}"))
    return admission.answered(T + after, message, at_server, live=True).asker == Process(70)


def is_in_doubt(after: float) -> bool:
    admission = Admission("auto")
    admission.gap(T)
    return admission.answered(T + after, decode(response_to("a", f"a A {ADDRESS}")), CAME, live=True).admitted


def is_found(after: float) -> bool:
    return answered(1, lambda _: "a", lambda _: f"a A {ADDRESS} ttl=10").get("a", now=T + 10 + after) is not None


def is_remembered(after: float) -> bool:
    image = answered(1, lambda _: "a", lambda _: f"a A {ADDRESS} ttl=10")
    return image.trails("a", now=T + 10 + 60 + after) is not None


def is_held_for_a_week(after: float) -> bool:
    image = answered(1, lambda _: "a", lambda _: f"a A {ADDRESS} ttl={30 * DAY}")
    return image.get("a", now=T + after) is not None


def is_fresh(after: float) -> bool:
    image = Image()
    image.feed(T, response_to("a", f"a A {ADDRESS}"), Circumstances(CAME))
    trail = image.trails(ADDRESS, Connection(client=CLIENT), now=T + after).trails[0]
    return "answered within the last second" in trail.reasons


@dataclass(frozen=True)
class Window:
    """A window of time: what holds within it and no longer past it, and the seconds after which it ends."""

    holds: Callable[[float], bool]
    seconds: float


WINDOWS = [
    Window(is_matched, 30.0),
    Window(lambda before: is_matched(-before), 1.0),
    Window(is_copy_of_a_response, 0.1),
    Window(is_copy_of_a_query, 0.1),
    Window(is_sent_by_the_client, 0.1),
    Window(is_in_doubt, 30.0),
    Window(is_found, 60.0),
    Window(is_remembered, 300.0),
    Window(is_held_for_a_week, 7.0 * DAY + 60),
    Window(is_fresh, 1.0),
]


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: f"{window.holds.__name__}-{window.seconds:g}")
def test_a_window_ends_in_time(window: Window) -> None:
    """A rule for a window of time applies just before its end, and no longer just after."""
    assert window.holds(window.seconds - 0.001)
    assert not window.holds(window.seconds + 0.001)


@pytest.mark.parametrize(("size", "relations"), [(10, 131_072), (5000, 131_072), (5042, 131_092), (10**6, 26 * 10**6)])
def test_the_bound_on_relations_follows_the_size(size: int, relations: int) -> None:
    """The bound on all relations is 26 for each root, and never less than 131,072."""
    assert Bounds(size=size).most_relations == relations


def test_the_default_bounds_are_as_documented() -> None:
    """A lookup walks 4,096 nodes, and 131,072 sightings are held one by one, unless other bounds are given."""
    assert (Bounds().nodes, Bounds().sightings) == (4096, 131_072)


def test_copies_are_found_among_the_last_packets() -> None:
    """A packet of a query is a copy of any of its last four packets, and of none before them."""
    wires = [dns.message.make_query("a", "A", id=1, use_edns=0, payload=512 + n).to_wire() for n in range(5)]
    for count, sent in ((4, 4), (5, 6)):
        admission = Admission()
        for wire in [*islice(wires, count), wires[0]]:
            admission.asked(T, wire, SENT)
        [waiting] = admission._waiting
        assert len(waiting.unanswered) == sent


def test_a_sweep_removes_no_more_than_its_steps() -> None:
    """One sweep removes at most as many ended relations as it is given steps."""
    image = answered(50, "n{}".format, lambda n: f"n{n} A {ipv4(n)}")
    image.sweep(T + 2 * DAY, 20)
    assert image.store.relations == 30


def test_the_address_of_the_client_is_the_one_of_the_flow() -> None:
    """The helpers of this file describe one client: its query, its response and its address agree."""
    assert (SENT.source, CAME.destination) == (packed(CLIENT), packed(CLIENT))
