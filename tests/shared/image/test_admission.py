"""Admission: responses that match a captured query, unmatched responses, and conflicting responses."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from builders.dns_builders import AAAA, A, T, asked, by_hand, wire
from dnstrail.captured import Flow
from dnstrail.dns import Message, Record
from dnstrail.errors import SettingsError
from dnstrail.image.admission import MAX_SIGHTINGS, POLICIES, Admission, Verdict, conflicts
from dnstrail.settings import UNMATCHED


def packed(text: str) -> bytes:
    return ip_address(text).packed


def query(name: str = "a.example", kind: int = A, id_: int = 1, flags: int = 0x0100, klass: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\x00"
    return id_.to_bytes(2, "big") + by_hand(asked(labels, kind, klass), flags=flags)[2:]


def answer(*targets: str, name: str = "a.example", kind: int = A, id_: int = 1, ttl: int = 60) -> Message:
    records = [Record(name, A, ttl, target) for target in targets or ("192.0.2.1",)]
    wire_ = repr((id_, name, kind, records)).encode()  # the bytes only have to differ between answers
    return Message(wire_, id_, 0x8180, 1, len(records), name, kind, 1, records)


def there(client="10.0.0.2", server="10.0.0.53", port=40000, to=53, **more) -> Flow:
    return Flow(packed(client), port, packed(server), to, **more)


def back(flow: Flow, **changes) -> Flow:
    way = (flow.destination, flow.destination_port, flow.source, flow.source_port, flow.transport)
    return replace(Flow(*way, flow.socket, flow.namespace, not flow.egress), **changes)


def with_queries(*afters: float, flow: Flow | None = None, unmatched: str = "reject") -> Admission:
    admission = Admission(unmatched)
    for after in afters:
        admission.asked(T + after, query(), flow or ADDRESSED)
    return admission


ADDRESSED = there()
OWN = there(socket=7, namespace=1, egress=True)
SERVERS = there(socket=9, namespace=1)
V6 = there("2001:db8::2", "2001:db8::53")
NATTED = {"socket": 7, "namespace": 2, "egress": True}
DOCKER = there("127.0.0.1", "127.0.0.11", to=44932, meant=packed("127.0.0.11"), meant_port=53, **NATTED)
SERVICE = there(server="10.1.0.9", meant=packed("10.96.0.10"), **NATTED)
NOWHERE = replace(ADDRESSED, destination=b"", destination_port=0)
MAPPED = there("::ffff:10.0.0.2", "::ffff:10.0.0.53")


@dataclass(frozen=True)
class Case:
    """One query at T, one response, and the counter of the reason if it does not match."""

    says: str
    went: Flow
    came: Flow
    reason: str | None = None  # None: it matches
    message: Message = answer()  # noqa: RUF009 - a frozen value
    query: bytes = query()
    after: float = 0.02


CASES = [
    Case("by address", ADDRESSED, back(ADDRESSED)),
    Case("by IPv6 address that is IPv4", MAPPED, back(ADDRESSED)),
    Case("by a client's socket", OWN, back(OWN)),
    Case("by a client's socket behind SNAT", OWN, back(OWN, destination=packed("172.16.0.1"), destination_port=9)),
    Case("by a server's socket, any source", SERVERS, back(SERVERS, source=packed("10.9.9.9"), source_port=5300)),
    Case("a socket on one side only, query", OWN, back(ADDRESSED)),
    Case("a socket on one side only, response", ADDRESSED, back(OWN)),
    Case("Docker's embedded DNS", DOCKER, back(DOCKER, source_port=53)),
    Case("NAT unseen by the socket", DOCKER, back(DOCKER)),
    Case("NAT to a service, port as sent", SERVICE, back(SERVICE, source=packed("10.96.0.10"))),
    Case("NAT, third server", SERVICE, back(SERVICE, source=packed("10.9.9.9")), "unmatched_wrong_server"),
    Case("Docker, third port", DOCKER, back(DOCKER, source_port=54), "unmatched_wrong_server"),
    Case("query's server unknown", NOWHERE, back(ADDRESSED)),
    Case("response's server unknown", ADDRESSED, back(NOWHERE)),
    Case("0x20 case", ADDRESSED, back(ADDRESSED), query=query("A.eXaMPLe")),
    Case("a name of odd bytes", ADDRESSED, back(ADDRESSED), query=query("a b"), message=answer(name="a\\032b")),
    Case("just in time", ADDRESSED, back(ADDRESSED), after=30.0),
    Case("late", ADDRESSED, back(ADDRESSED), "unmatched_late", after=30.5),
    Case("stamped a little early", ADDRESSED, back(ADDRESSED), after=-1.0),
    Case("stamped too early", ADDRESSED, back(ADDRESSED), "unmatched_early", after=-1.5),
    Case("wrong id", ADDRESSED, back(ADDRESSED), "", message=answer(id_=2)),
    Case("wrong type", ADDRESSED, back(ADDRESSED), "unmatched_question", message=answer(kind=AAAA)),
    Case("wrong name", ADDRESSED, back(ADDRESSED), "unmatched_question", message=answer(name="b.example")),
    Case("wrong server", ADDRESSED, back(there(server="10.0.0.54")), "unmatched_wrong_server"),
    Case("wrong server on a socket", OWN, back(OWN, source=packed("10.9.9.9")), "unmatched_wrong_server"),
    Case("wrong client", ADDRESSED, back(there("10.0.0.3")), ""),
    Case("wrong transport", ADDRESSED, back(ADDRESSED, transport="tcp"), ""),
    Case("another socket", OWN, back(OWN, socket=8), ""),
    Case("another namespace", OWN, back(OWN, namespace=3), ""),
    Case("another client of a server's socket", SERVERS, back(replace(SERVERS, source=packed("10.0.0.3"))), ""),
    Case("a response is no query", ADDRESSED, back(ADDRESSED), "", query=query(flags=0x8180)),
    Case("an update is no query", ADDRESSED, back(ADDRESSED), "", query=query(flags=0x2800)),
    Case("class CH", ADDRESSED, back(ADDRESSED), "", query=query(klass=3)),
    Case("two questions", ADDRESSED, back(ADDRESSED), "", query=by_hand(asked(wire("a.example")), counts="2 0 0")),
    Case("a question cut short", ADDRESSED, back(ADDRESSED), "", query=query()[:-1]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_match(case):
    """A response matches by socket or address, id, question, server and time; a counter gives the reason otherwise."""
    admission = Admission("reject")
    admission.asked(T, case.query, case.went)
    verdict = admission.answered(T + case.after, case.message, case.came, live=True)
    matched = case.reason is None
    assert (verdict.admitted, verdict.matched, verdict.query is not None) == (matched, matched, matched)
    expected = ["matched"] if matched else ["unmatched_rejected", *([case.reason] if case.reason else [])]
    assert admission.counters == dict.fromkeys(expected, 1)


@pytest.mark.parametrize(
    ("queries", "responses", "matched"),
    [
        pytest.param([0], [1, 2], [True, False], id="one query admits one response"),
        pytest.param([0, 5], [6, 7, 8], [True, True, False], id="a retransmission admits one more"),
        pytest.param([0, 0.05, 0.09], [1, 2], [True, False], id="copies of a query count once"),
        pytest.param([0, 0.05, 0.12], [1, 2], [True, True], id="copies are compared with the first packet"),
        pytest.param([0, 25], [40, 41], [True, False], id="each sighting expires by itself"),
        pytest.param([0, 40], [41], [True], id="the same query after 30 s is a new query"),
    ],
)
@pytest.mark.parametrize("flow", [ADDRESSED, OWN, SERVERS, V6], ids=["address", "client", "server", "IPv6"])
def test_sightings(flow, queries, responses, matched):
    """Each sighting of a query admits one response, by whatever key the query is found."""
    admission = with_queries(*queries, flow=flow)
    verdicts = [admission.answered(T + a, answer(ttl=int(a)), back(flow), live=False) for a in responses]
    assert [verdict.matched for verdict in verdicts] == matched


def test_copies_of_a_response():
    """A copy of a response within 100 ms is admitted, uses up no sighting and causes no conflict."""
    admission = with_queries(0)
    verdicts = [admission.answered(T + a, answer(), back(ADDRESSED), live=False) for a in (1, 1.05, 1.1, 1.2)]
    assert [(v.matched, v.copy) for v in verdicts] == [(True, False), (True, True), (True, True), (False, False)]
    assert not any(conflicts(verdict, frozenset({str(n)})) for n, verdict in enumerate(verdicts[:3]))
    assert admission.counters == {"matched": 3, "copies": 2, "unmatched_rejected": 1, "unmatched_repeated": 1}


def test_both_ends_on_one_host():
    """With client and server on one host, the query at each socket admits the response there."""
    admission = with_queries(0, flow=OWN)
    admission.asked(T, query(), SERVERS)
    assert [admission.answered(T, answer(), back(flow), live=True).matched for flow in (SERVERS, OWN)] == [True, True]


def test_one_question_to_several_servers():
    """A forwarder that asks all its servers from one socket gets the response of each server."""
    admission = Admission("reject")
    flows = [there(server=f"10.0.0.{n}", socket=7, egress=True) for n in range(1, 20)]
    for flow in flows:
        admission.asked(T, query(), flow)
    assert all(admission.answered(T + 1, answer(), back(flow), live=True).matched for flow in flows)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"192.0.2.1"}, {"192.0.2.2"}, True),
        ({"192.0.2.1", "192.0.2.2"}, {"192.0.2.2", "192.0.2.3"}, False),
        ({"192.0.2.1"}, set(), False),
        (set(), {"192.0.2.1"}, False),
    ],
)
@pytest.mark.parametrize("unmatched", ["accept", "reject"])
def test_conflict(unmatched, first, second, expected):
    """A second response conflicts if it shares no target with the first, whether admitted or not; a copy never does."""
    admission = with_queries(-40, unmatched=unmatched)
    conflicts(admission.answered(T - 40, answer(), back(ADDRESSED), live=False), frozenset({"of an older query"}))
    admission.asked(T, query(), ADDRESSED)
    verdicts = [
        admission.answered(T + 1 + n / 100, answer(*sorted(targets), ttl=n), back(ADDRESSED), live=False)
        for n, targets in ((0, first), (1, second), (1, second))
    ]
    found = [conflicts(verdict, frozenset(t)) for verdict, t in zip(verdicts, (first, second, second), strict=True)]
    assert found == [False, expected, False]


def test_no_conflict():
    """Responses to two sightings of a query never conflict, and neither does an unmatched response."""
    admission = with_queries(0, 5)
    targets = ("192.0.2.1", "192.0.2.2")
    verdicts = [admission.answered(T + 6, answer(target), back(ADDRESSED), live=False) for target in targets]
    assert not any(conflicts(verdict, frozenset({t})) for verdict, t in zip(verdicts, targets, strict=True))
    assert not conflicts(Verdict(admitted=True, matched=False), frozenset({"192.0.2.1"}))


@pytest.mark.parametrize(
    ("flow", "live", "gap", "after", "admitted"),
    [
        pytest.param(OWN, True, None, 31, False, id="everything was captured"),
        pytest.param(OWN, True, None, 29, True, id="just started"),
        pytest.param(OWN, True, 40, 69, True, id="a recent loss"),
        pytest.param(OWN, True, 40, 71, False, id="an old loss"),
        pytest.param(OWN, True, 100, 71, True, id="a loss with a later stamp"),
        pytest.param(OWN, False, None, 31, True, id="a file"),
        pytest.param(ADDRESSED, True, None, 31, True, id="no socket"),
        pytest.param(None, True, None, 31, True, id="no flow"),
    ],
)
def test_auto(flow, live, gap, after, admitted):
    """`auto` rejects an unmatched response only if its query must have been captured."""
    admission = Admission()
    assert admission.answered(T, answer(), back(OWN), live=True).admitted  # the first message is a start
    if gap is not None:
        admission.gap(T + gap)
    came = back(flow) if flow else None
    assert admission.answered(T + after, answer(), came, live=live) == Verdict(admitted, matched=False)


def test_full_table():
    """A full table evicts answered queries, then the oldest; only the latter is counted and stops `auto` for 30 s."""
    admission = Admission(pending=3)
    admission.gap(T - 100)
    for id_ in (1, 2, 3):
        admission.asked(T, query(id_=id_), OWN)
    assert admission.answered(T, answer(id_=2), back(OWN), live=True).matched
    admission.asked(T, query(id_=4), OWN)
    assert not admission.counters["pending_full"]
    admission.asked(T, query(id_=5), OWN)
    assert admission.counters["pending_full"] == 1
    verdicts = [admission.answered(T, answer(id_=id_), back(OWN), live=True) for id_ in (1, 3, 4, 5)]
    assert [(v.matched, v.admitted) for v in verdicts] == [(False, True), (True, True), (True, True), (True, True)]
    assert not admission.answered(T + 31, answer(id_=1), back(OWN), live=True).admitted


@pytest.mark.parametrize("step", [0.0, 0.001, 1.0, -1.0])
def test_flood(step):
    """A flood of queries with forged ids, names and clients never exceeds the bound of the table."""
    admission = Admission(pending=100)
    for n in range(3000):
        flow = replace(there(port=n % 500, server=f"10.0.{n % 200}.1"), socket=n % 3, egress=bool(n % 2))
        admission.asked(T + n * step, query(f"x{n % 700}", id_=n), flow)
        assert len(admission) <= 100
    assert len(admission._index) <= 100 * 6
    for name in ("a.example", "A.example") * 500:
        admission.asked(T, query(name), ADDRESSED)
    assert max(len(entry.unanswered) for entry in admission._waiting) <= MAX_SIGHTINGS


def test_old_queries_go():
    """Queries older than 30 s are dropped as others arrive, and leave no entry behind."""
    admission = Admission()
    for id_ in range(100):
        admission.asked(T, query(id_=id_), SERVICE)
    for id_ in range(50):
        admission.answered(T + 1, answer(id_=id_), back(SERVICE), live=True)
    for _ in range(25):
        admission.answered(T + 40, answer(), back(ADDRESSED), live=False)
    assert (len(admission), admission._index) == (0, {})


def test_policy():
    """An unknown policy is refused with a text that lists the valid policies."""
    with pytest.raises(SettingsError, match="auto, accept, reject"):
        Admission("maybe")


FLOWS = st.sampled_from([None, ADDRESSED, OWN, SERVERS, DOCKER, SERVICE, V6, NOWHERE])
STEPS = st.lists(st.tuples(st.booleans(), st.floats(0, 40), FLOWS, st.integers(0, 1), st.integers(0, 2)), max_size=40)


@given(STEPS, st.sampled_from([1, 4, 16384]))
def test_never_more_than_asked(steps, pending):
    """`accept` admits every response; `reject` admits at most one response, copies apart, for each query."""
    strict, open_ = Admission("reject", pending=pending), Admission("accept", pending=pending)
    asked_for = admitted = 0
    for is_query, after, flow, id_, ttl in steps:
        if is_query:
            asked_for += flow is not None
            strict.asked(T + after, query(id_=id_), flow)
            open_.asked(T + after, query(id_=id_), flow)
            continue
        came = back(flow) if flow else None
        verdict = strict.answered(T + after, answer(id_=id_, ttl=ttl), came, live=True)
        admitted += verdict.admitted and not verdict.copy
        assert open_.answered(T + after, answer(id_=id_, ttl=ttl), came, live=True).admitted
        assert admitted <= asked_for


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda rest: query()[:12] + rest)), FLOWS)
def test_any_bytes(junk, flow):
    """Any bytes are accepted as a query without an exception."""
    admission = Admission()
    admission.asked(T, junk, flow)
    assert len(admission) <= 1


def test_the_option_takes_exactly_the_policies() -> None:
    """`--dnscache unmatched=` accepts exactly the policies of admission."""
    assert UNMATCHED == POLICIES
