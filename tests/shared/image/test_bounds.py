"""The bounds of the image: each table is filled to its bound and one past it; each window is met at both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import pytest

from builders.binding_helpers import APP, OTHER, SHARED, SHARED6, Host, thread
from builders.dns_builders import A, response_to, t
from builders.talk import OWN, Talk, answer, back, query, there
from builders.trail_helpers import CLIENT
from dnstrail.captured import Process
from dnstrail.connection import Connection
from dnstrail.image import Bounds, Circumstances, Image, ServerNameSighting
from dnstrail.image.admission import Copies
from dnstrail.image.binding.processes import Namespaces
from dnstrail.image.binding.waiting import ReceivedAnswer
from dnstrail.image.parties import Doubts
from dnstrail.image.queries import ANY, MAX_ALL_EDGES, Queries, Query
from dnstrail.image.trails.server_names import ServerNameTable

DAY = 86_400
ADDRESS = "1.1.1.1"
CAME = back(OWN)
PARTY = (("", "", 0, 0), True)


def ipv4(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def answered(
    count: int, name: Callable[[int], str], record: Callable[[int], str], bounds: Bounds | None = None
) -> Image:
    image = Image(bounds)
    for number in range(count):
        image.feed(t(number / 1000), response_to(name(number), record(number), ttl=DAY))
    return image


def roots(count: int) -> tuple[int, Counter[str]]:
    image = Image()
    for number in range(count):
        image.feed(t(0), answer(ipv4(number), name=f"n{number}", ttl=DAY))
    return len(image), image.counters


def relations_of_a_root(count: int) -> tuple[int, Counter[str]]:
    image = Image()
    for number in range(count):
        image.feed(t(0), answer(ipv4(number), name="a", ttl=DAY))
    return len(image.store.graph.out["a"]), image.counters


def relations_of_an_answer(count: int) -> tuple[int, Counter[str]]:
    image = Image(Bounds(owned=50))
    image.feed(t(0), answer(*map(ipv4, range(count)), name="a", ttl=DAY))
    return image.store.places.relations, image.counters


def relations(count: int) -> tuple[int, Counter[str]]:
    image = answered(count, "n{}".format, lambda n: f"n{n} A {ipv4(n)}", Bounds(relations=50))
    return image.store.places.relations, image.counters


def sightings_of_a_record(count: int) -> tuple[int, Counter[str]]:
    image = answered(count, lambda _: "a", lambda _: f"a A {ADDRESS}")
    [record] = image.store.places.roots["a"].records()
    return len(list(record.sightings())), image.counters


def ports_of_a_record(count: int) -> tuple[int, Counter[str]]:
    image = Image()
    image.feed(t(0), response_to("a", f"a A {ADDRESS}"), Circumstances(CAME, Process(70)))
    for port in range(count):
        image.note_connection(t(0), Connection(process=70, port=port), ADDRESS)
    [record] = image.store.places.roots["a"].records()
    return len(record.led), image.counters


def records_in_which_an_answer_is_sought(count: int) -> tuple[int, Counter[str]]:
    image = Image()
    for number in range(count):
        image.feed(t(0), answer(ADDRESS, name=f"n{number}"), Circumstances(CAME, Process(number + 1)))
    image.note_connection(t(0), Connection(process=1, port=443), ADDRESS)
    return count if image.store.places.roots["n0"].latest.led else 0, image.counters


def nodes_of_a_lookup(count: int) -> tuple[int, Counter[str]]:
    found = answered(count, lambda _: "a", lambda n: f"a A {ipv4(n)}", Bounds(nodes=50)).get("a")
    return len(found.ip_addresses), Counter(truncated=int(found.truncated))


def trails(count: int) -> tuple[int, Counter[str]]:
    found = answered(count, "n{}".format, lambda n: f"n{n} A {ADDRESS}").trails(ADDRESS)
    return len(found.trails), Counter(truncated=int(found.truncated))


def steps_of_a_path(count: int) -> tuple[int, Counter[str]]:
    found = answered(count, "n{}".format, lambda n: f"n{n} CNAME n{n + 1}").trails(f"n{count}")
    return max(len(trail.steps) for trail in found.trails), Counter(truncated=int(found.truncated))


def queries_of_a_party(count: int) -> tuple[int, Counter[str]]:
    talk = Talk()
    for number in range(count):
        talk.ask(0, query(f"n{number}"))
    return talk.waiting, talk.image.admission.counters


def waiting_queries(count: int) -> tuple[int, Counter[str]]:
    talk = Talk()
    for number in range(count):
        talk.ask(0, query(), there(socket=number + 1, namespace=number + 1, egress=True))
    return talk.waiting, talk.image.admission.counters


def sightings_of_a_query(count: int) -> tuple[int, Counter[str]]:
    talk = Talk()
    for number in range(count):
        talk.ask(number / 4)
    [waiting] = talk.image.admission.queries._by_key.values()
    return len(waiting.waits), talk.image.admission.counters


def doubts_of_an_owner(count: int) -> tuple[int, Counter[str]]:
    doubts = Doubts(Counter(), 1)
    for number in range(count):
        doubts.note((("", "cgroup", number, 1), True), t(0))
    [owner] = doubts._owners.values()
    return len(owner.parties), doubts.counters


def answered_queries(count: int) -> tuple[int, Counter[str]]:
    queries = Queries(Doubts(Counter(), 1), Counter())
    for number in range(count):
        query = Query((number,), (number,), PARTY, queries.side(PARTY), None)
        queries.note(query, t(0), 0, (ANY,))
        query.end_wait(t(0), ANY)
        queries.end(query, t(0))
    assert len(queries._by_key) == len(queries._by_client) == queries.answered
    return queries.answered, Counter()


def responses_with_copies(count: int) -> tuple[int, Counter[str]]:
    copies = Copies()
    for number in range(count):
        copies.find_or_add(number, t(0))
    return len(copies), Counter()


def targets_of_a_first_answer(count: int) -> tuple[int, Counter[str]]:
    talk = Talk("reject")
    talk.ask(0)
    talk.hear(0, answer(*map(ipv4, range(count))))
    conflict = talk.hear(0.5, answer("192.0.2.1")).conflict
    return count if conflict else 0, Counter()


def server_names(count: int) -> tuple[int, Counter[str]]:
    table = ServerNameTable(Counter())
    for number in range(count):
        table.note(ipv4(number), ServerNameSighting(t(0), "a", "sni", CLIENT, 443))
    return len(table), table.counters


def server_names_of_an_address(count: int) -> tuple[int, Counter[str]]:
    table = ServerNameTable(Counter())
    for _ in range(count):
        table.note(ADDRESS, ServerNameSighting(t(0), "a", "sni", CLIENT, 443))
    return len(table), table.counters


def connections(count: int) -> tuple[int, Counter[str]]:
    host = Host(connections=50)
    for number in range(count):
        host.opens(number / 1000)
    return len(host.image.binder.bindings), host.image.counters


def processes(count: int) -> tuple[int, Counter[str]]:
    host = Host(processes=50)
    for number in range(count):
        host.execs(0, Process(number + 1, start_time=t(0)))
    return len(host.image.binder.processes), host.image.counters


def waiting_questions(count: int) -> tuple[int, Counter[str]]:
    host = Host(questions=50)
    for number in range(count):
        host.queries(0, f"n{number}", A, Process(number + 1, start_time=t(0)))
    return host.image.binder.waits.held, host.image.counters


def queries_of_a_process(count: int) -> tuple[int, Counter[str]]:
    host = Host()
    for number in range(count):
        host.queries(0, f"n{number}", A, APP)
    return host.image.binder.waits.held, host.image.counters


def names_that_a_process_asked(count: int) -> tuple[int, Counter[str]]:
    host = Host()
    for number in range(count):
        host.asks(0, f"n{number}", SHARED)
    host.connects(1, OTHER)
    return host.image.binder.waits.held, host.image.counters


def questions_for_one_name(count: int) -> tuple[int, Counter[str]]:
    host = Host()
    for number in range(count):
        host.asks(0, "a", SHARED, by=thread(APP, number + 1))
    host.connects(1, OTHER)
    return host.image.binder.waits.held, host.image.counters


def namespaces(count: int) -> tuple[int, Counter[str]]:
    found = Namespaces(Counter())
    for number in range(count):
        found.connected("", number, SHARED6)
    return len(found), found.counters


@dataclass(frozen=True)
class Table:
    """A table, its bound, and the counter of what exceeds it.

    `emptied` states that nothing is held past the bound, and `halves` that as much again may be held.
    """

    fill: Callable[[int], tuple[int, Counter[str]]]
    bound: int
    counter: str = ""
    emptied: bool = False
    halves: bool = False


TABLES = [
    Table(roots, 5000, "evicted_roots"),
    Table(relations_of_a_root, 4096, "evicted_owned"),
    Table(relations_of_an_answer, 50, "evicted_owned"),
    Table(relations, 50, "evicted_relations"),
    Table(sightings_of_a_record, 16),
    Table(ports_of_a_record, 16),
    Table(records_in_which_an_answer_is_sought, 64, emptied=True),
    Table(nodes_of_a_lookup, 50, "truncated"),
    Table(trails, 100, "truncated"),
    Table(steps_of_a_path, 32, "truncated"),
    Table(queries_of_a_party, 1024, "pending_full"),
    Table(waiting_queries, 16_384, "pending_full"),
    Table(sightings_of_a_query, 64, "pending_full"),
    Table(doubts_of_an_owner, 64, "evicted_doubts"),
    Table(answered_queries, 32_768),
    Table(responses_with_copies, 32_768, halves=True),
    Table(targets_of_a_first_answer, 64, emptied=True),
    Table(connections, 50, "evicted_bindings"),
    Table(processes, 50, "evicted_processes"),
    Table(waiting_questions, 50, "evicted_questions"),
    Table(names_that_a_process_asked, 256, "evicted_questions"),
    Table(questions_for_one_name, 64, "evicted_questions"),
    Table(queries_of_a_process, 2048, "evicted_questions"),
    Table(namespaces, 4096, "evicted_namespaces"),
    Table(server_names, 65_536, "evicted_server_names"),
    Table(server_names_of_an_address, 64, "evicted_server_names"),
]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.fill.__name__)
def test_a_table_keeps_its_bound(table: Table) -> None:
    """A table holds as many entries as its bound, no more, and counts the first entry beyond it."""
    held, counters = table.fill(table.bound)
    assert (held, counters[table.counter]) == (table.bound, 0)
    if table.halves:
        assert table.fill(2 * table.bound + 1)[0] == table.bound + 1
        return
    held, counters = table.fill(table.bound + 1)
    assert held == (0 if table.emptied else table.bound)
    assert counters[table.counter] == (1 if table.counter else 0)


@pytest.mark.parametrize("nodes", [5, 11, 12])
def test_all_parts_of_a_result_share_its_bound_on_nodes(nodes: int) -> None:
    """The bound holds for names above and addresses below together, and for forward and reverse names together."""
    image = Image(Bounds(nodes=nodes))
    image.feed(t(0), response_to("middle", "middle A 192.0.2.1", "middle A 192.0.2.2"))
    for number in range(10):
        image.feed(t(1), response_to(f"above{number}", f"above{number} CNAME middle"))
    for number in range(3):
        image.feed(t(1), response_to(f"forward{number}", f"forward{number} A {ADDRESS}"))
    reverse = f"{ADDRESS}.in-addr.arpa"  # the address reads the same in both directions
    image.feed(t(1), response_to(f"{reverse} PTR", *(f"{reverse} PTR host{number}" for number in range(9))))
    for key in ("middle", ADDRESS):
        found = image.get(key)
        related = {*found.ip_addresses, *found.dns_queries} - {key}
        assert (len(related), found.truncated) == (nodes, nodes < 12)


def test_doubts_of_many_owners_become_one_of_their_host() -> None:
    """Beyond 16,384 doubts the host with most of them is in doubt, and no other one is."""
    doubts, elsewhere = Doubts(Counter(), 64), (("other", "cgroup", 1, 1), True)
    for number in range(8192):
        doubts.note((("h", "cgroup", number, number), True), t(0))
    doubts.note(elsewhere, t(0))
    assert (doubts._held, doubts.counters["evicted_doubts"]) == (2, 16_384)
    assert doubts.is_doubted((("h", "cgroup", 9999, 9999), False), t(0))
    assert doubts.is_doubted(elsewhere, t(0))
    assert not doubts.is_doubted((("other", "cgroup", 2, 2), True), t(0))


def test_answers_that_wait_for_a_connection_count_by_their_relations() -> None:
    """Large answers to processes that never connect are evicted before many small ones would be, and are counted."""
    host = Host(questions=100)
    addresses = [ipv4(number) for number in range(64)]
    for number in range(30):
        host.asks(number / 10, f"n{number}", *addresses, by=Process(70 + number, thread_id=70 + number))
    part = next(iter(host.image.binder.waits._of.values()))
    held = [arrival for arrived in part.arrivals._of.values() for arrival in arrived]
    assert len([one for one in held if isinstance(one, ReceivedAnswer)]) == 100 // (1 + 5)  # a query, and its answer
    assert part.arrivals.held == host.image.binder.waits.held <= 100
    assert host.image.counters["evicted_questions"] > 0
    while part.arrivals.held:
        part.arrivals.evict_oldest()
    assert not part.arrivals._of


def test_questions_that_wait_for_a_connection_count_by_their_addresses() -> None:
    """A process that connects elsewhere holds no more of its large answers, and loses the oldest first."""
    host = Host(questions=100)
    for number in range(40):
        host.asks(number / 10, f"n{number}", *[ipv4(64 * number + each) for each in range(64)])
        host.connects(number / 10 + 0.05, OTHER)
    [part] = host.image.binder.waits._of.values()
    waiting = part.waiting
    questions = [one for owner in waiting._of for one in waiting.of(owner)]
    assert [one.name for one in questions] == [f"n{number}" for number in range(40 - len(questions), 40)]
    assert 90 < waiting.held == sum(one.weight for one in questions) <= 100
    while waiting.held:
        waiting.evict()
    assert not waiting._of


def test_first_answers_are_bounded_by_their_relations() -> None:
    """Large first answers give way before as many small ones would; no conflict with them is found any more."""
    queries, edges = Queries(Doubts(Counter(), 1), Counter()), tuple(("a", A, ipv4(number)) for number in range(64))
    for number in range(3000):
        query = Query((number,), (number,), PARTY, queries.side(PARTY), None)
        queries.note(query, t(0), 0, (ANY,))
        query.end_wait(t(0), ANY)
        queries.end(query, t(0))
        queries.keep(query, edges)
    assert queries.edges == sum(len(one.edges) for one in queries._by_key.values()) == MAX_ALL_EDGES + len(edges)
    assert queries.find((0,), (0,)) is None


def test_the_relations_of_first_answers_are_counted_however_they_end() -> None:
    """Queries that were sent once or twice, are answered or answered again, and are asked again: the count is exact."""
    talk, random = Talk("accept"), Random(7)
    queries = talk.image.admission.queries
    for number in range(3000):
        name, at = f"n{random.randrange(40)}", number / 50
        for _ in range(random.randrange(3)):
            talk.ask(at, query(name))
        for _ in range(random.randrange(3)):
            talk.hear(at + 0.001, answer(*map(ipv4, range(random.randrange(3))), name=name, ttl=random.randrange(9)))
        held = [one for one in queries._by_key.values() if not one.waits]
        assert (queries.answered, queries.edges) == (len(held), sum(len(one.edges) for one in held))


def is_matched(after: float) -> bool:
    talk = Talk("reject")
    talk.ask(0)
    return talk.hear(after).admitted


def is_copy_of_a_response(after: float) -> bool:
    talk = Talk("accept", live=False)
    talk.hear(0)
    return not talk.hear(after).admitted


def is_copy_of_a_query(after: float) -> bool:
    talk = Talk("reject")
    talk.ask(0)
    talk.ask(after)
    talk.hear(1)
    return talk.waiting == 0


def is_sent_by_the_client(after: float) -> bool:
    talk, at_server = Talk("reject"), there(socket=9, namespace=1)
    talk.ask(0, pid=70)
    talk.ask(after, flow=at_server)
    talk.hear(after, flow=back(at_server))
    return talk.image.trails("a.example").trails[0].asked[0].process_id == 70


def is_in_doubt(after: float) -> bool:
    talk = Talk("auto")
    talk.image.gap(t(0))
    return talk.hear(after).admitted


def is_second_answer(after: float) -> bool:
    talk = Talk("reject")
    talk.ask(0)
    talk.hear(0)
    return talk.hear(after, answer("6.6.6.6")).conflict


def is_found(after: float) -> bool:
    return answered(1, lambda _: "a", lambda _: f"a A {ADDRESS} ttl=10").get("a", now=t(10 + after)) is not None


def is_remembered(after: float) -> bool:
    image = Image()
    image.feed(t(0), response_to("a", f"a A {ADDRESS} ttl=10"), Circumstances(live=True))
    return image.trails("a", now=t(10 + 60 + after)) is not None


def is_held_for_a_week(after: float) -> bool:
    image = answered(1, lambda _: "a", lambda _: f"a A {ADDRESS} ttl={30 * DAY}")
    return image.get("a", now=t(after)) is not None


def is_fresh(after: float) -> bool:
    image = Image()
    image.feed(t(0), response_to("a", f"a A {ADDRESS}"), Circumstances(CAME))
    trail = image.trails(ADDRESS, Connection(client=CLIENT), now=t(after)).trails[0]
    return "answered within the last second" in trail.reasons


def is_for_another_name(after: float) -> bool:
    host = Host().asks(0, "one", SHARED, SHARED6).asks(0.01, "two", SHARED, by=thread(APP, 71))
    host.connects(0.1, SHARED6, by=thread(APP, 72))
    return host.connects(0.1 + after, SHARED, by=thread(APP, 72)) == "two"


def is_another_attempt(after: float) -> bool:
    host = Host().asks(0, "one").asks(0.01, "last", by=Process(90, "other", thread_id=90, start_time=t(-9)))
    host.connects(1)
    host.connects(1 + after)
    return host.binding.by == "thread"


def is_one_question(after: float) -> bool:
    host = Host().asks(0, "one", SHARED).asks(after, "one", SHARED6)
    host.connects(2, OTHER)
    return host.image.binder.waits.held == 1


@dataclass(frozen=True)
class Window:
    """A window of time: what holds within it and no longer past it, and the seconds after which it ends.

    `closed` states that it still holds at the instant of its end.
    """

    holds: Callable[[float], bool]
    seconds: float
    closed: bool = True


WINDOWS = [
    Window(is_matched, 30.0),
    Window(lambda before: is_matched(-before), 1.0),
    Window(is_copy_of_a_response, 0.1),
    Window(is_copy_of_a_query, 0.1),
    Window(is_sent_by_the_client, 0.1),
    Window(is_in_doubt, 30.0),
    Window(is_second_answer, 30.0),
    Window(is_found, 60.0, closed=False),
    Window(is_remembered, 300.0, closed=False),
    Window(is_held_for_a_week, 7.0 * DAY + 60, closed=False),
    Window(is_fresh, 1.0),
    Window(is_for_another_name, 0.1, closed=False),
    Window(is_another_attempt, 10.0),
    Window(is_one_question, 1.0),
]


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: f"{window.holds.__name__}-{window.seconds:g}")
def test_a_window_ends_in_time(window: Window) -> None:
    """A rule for a window of time applies until its end, and no longer a nanosecond after it."""
    assert window.holds(window.seconds - 1e-9)
    assert window.holds(window.seconds) is window.closed
    assert not window.holds(window.seconds + 1e-9)


@pytest.mark.parametrize(("size", "relations"), [(10, 131_072), (5000, 131_072), (5042, 131_092), (10**6, 26 * 10**6)])
def test_the_bound_on_relations_follows_the_size(size: int, relations: int) -> None:
    """The bound on all relations is 26 for each root, and never less than 131,072."""
    assert Bounds(size=size).most_relations == relations


def test_the_default_bounds_are_as_documented() -> None:
    """A result has 4,096 nodes, a lookup walks 65,536 relations, and a root holds 4,096, unless stated otherwise."""
    assert (Bounds().nodes, Bounds().walked, Bounds().owned) == (4096, 65_536, 4096)
    assert (Bounds().connections, Bounds().questions, Bounds().processes) == (32_768, 32_768, 32_768)


def test_a_sweep_takes_no_more_than_its_steps() -> None:
    """One sweep removes at most as many ended records as it is given steps."""
    image = Image()
    for number in range(50):
        image.feed(t(0), answer(ipv4(number), name=f"n{number}"), Circumstances(live=True))
    image.advance(t(DAY))
    image.sweep(20)
    assert (len(image), image.store.places.relations) == (30, 30)
