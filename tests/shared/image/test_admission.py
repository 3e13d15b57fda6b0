"""Admission: which responses match a captured query."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from builders.dns_builders import AAAA, asked, by_hand, wire
from builders.talk import ADDRESSED, OWN, SERVERS, Talk, answer, back, packed, query, there
from dnstrail.captured import Flow
from dnstrail.errors import SettingsError
from dnstrail.image.admission import POLICIES, Admission
from dnstrail.settings import UNMATCHED

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
    reason: str = ""  # "": it matches
    message: bytes = answer()
    query: bytes = query()
    after: float = 0.02


UNKNOWN = "unmatched_query"
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
    Case("a name of odd bytes", ADDRESSED, back(ADDRESSED), query=query("a b"), message=answer(name="A b")),
    Case("just in time", ADDRESSED, back(ADDRESSED), after=30.0),
    Case("late", ADDRESSED, back(ADDRESSED), "unmatched_late", after=30.5),
    Case("stamped a little early", ADDRESSED, back(ADDRESSED), after=-1.0),
    Case("stamped too early", ADDRESSED, back(ADDRESSED), "unmatched_early", after=-1.5),
    Case("wrong id", ADDRESSED, back(ADDRESSED), UNKNOWN, message=answer(id_=2)),
    Case("wrong type", ADDRESSED, back(ADDRESSED), UNKNOWN, message=answer(kind=AAAA)),
    Case("wrong name", ADDRESSED, back(ADDRESSED), UNKNOWN, message=answer(name="b.example")),
    Case("wrong server", ADDRESSED, back(there(server="10.0.0.54")), "unmatched_wrong_server"),
    Case("wrong server on a socket", OWN, back(OWN, source=packed("10.9.9.9")), "unmatched_wrong_server"),
    Case("wrong client", ADDRESSED, back(there("10.0.0.3")), UNKNOWN),
    Case("wrong transport", ADDRESSED, back(ADDRESSED, transport="tcp"), UNKNOWN),
    Case("another socket", OWN, back(OWN, socket=8), UNKNOWN),
    Case("another namespace", OWN, back(OWN, namespace=3), UNKNOWN),
    Case("another client of a server's socket", SERVERS, back(replace(SERVERS, source=packed("10.0.0.3"))), UNKNOWN),
    Case("an update is no query", ADDRESSED, back(ADDRESSED), UNKNOWN, query=query(flags=0x2800)),
    Case("class CH", ADDRESSED, back(ADDRESSED), UNKNOWN, query=query(klass=3)),
    Case("two questions", ADDRESSED, back(ADDRESSED), UNKNOWN, query=by_hand(asked(wire("a.example")), counts="2 0 0")),
    Case("a question cut short", ADDRESSED, back(ADDRESSED), UNKNOWN, query=query()[:-1]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_match(case):
    """A response matches by socket or address, id, question, server and time; a counter gives the reason otherwise."""
    talk = Talk("reject")
    talk.ask(0, case.query, case.went)
    assert talk.hear(case.after, case.message, case.came).admitted is (not case.reason)
    expected = ["unmatched_rejected", case.reason] if case.reason else ["matched"]
    assert talk.image.admission.counters == dict.fromkeys(expected, 1)


def test_a_response_is_no_query():
    """A response does not make another one match."""
    talk = Talk("reject")
    assert not any(talk.hear(after, answer(ttl=60 + after), back(ADDRESSED)).admitted for after in (0, 1))


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
    talk = Talk("reject")
    for after in queries:
        talk.ask(after, flow=flow)
    assert [talk.hear(after, answer(ttl=int(after)), back(flow)).admitted for after in responses] == matched


def test_both_ends_on_one_host():
    """With client and server on one host, the query at each socket waits for the response there."""
    talk = Talk("reject")
    talk.ask(0, flow=OWN)
    talk.ask(0, flow=SERVERS)
    talk.hear(0, flow=back(SERVERS))
    assert talk.waiting == 1
    talk.hear(0, flow=back(OWN))
    assert talk.waiting == 0


def test_one_question_to_several_servers():
    """A forwarder that asks all its servers from one socket gets the response of each server."""
    talk = Talk("reject")
    flows = [there(server=f"10.0.0.{n}", socket=7, egress=True) for n in range(1, 20)]
    for flow in flows:
        talk.ask(0, flow=flow)
    assert all(talk.hear(1, answer(ttl=n), back(flow)).admitted for n, flow in enumerate(flows))


NO_ANSWERS = {
    "no data": answer(""),
    "NXDOMAIN": answer("")[:3] + b"\x83" + answer("")[4:],
    "SERVFAIL": answer("")[:3] + b"\x82" + answer("")[4:],
    "truncated": answer("")[:2] + b"\x83" + answer("")[3:],
    "an answer without relations": by_hand(query()[12:], counts="1 1 0"),
}


@pytest.mark.parametrize("payload", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_any_response_ends_the_wait(payload):
    """A response that states nothing ends the wait of its query, too: a forged answer after it is rejected."""
    talk = Talk("auto")
    talk.ask(0)
    talk.hear(0.01, payload)
    assert talk.waiting == 0
    assert not talk.hear(0.02, answer("6.6.6.6")).admitted


def test_negative_answers_leave_nothing_waiting():
    """After 500 negative answers per second for 40 s nothing waits, and a forged answer is rejected."""
    talk = Talk("auto")
    for number in range(20_000):
        question = f"n{number}.example"
        talk.ask(number / 500, query(question, id_=number))
        talk.hear(number / 500 + 0.001, answer("", name=question, id_=number))
    assert (talk.waiting, talk.counted("pending_full")) == (0, [0])
    assert not talk.hear(40, answer("6.6.6.6")).admitted


def test_old_queries_go():
    """Queries older than 30 s are dropped as others arrive, and leave nothing behind."""
    talk = Talk()
    for id_ in range(100):
        talk.ask(0, query(id_=id_))
    for id_ in range(30):
        talk.ask(40, query(id_=id_), ADDRESSED)
    assert talk.waiting <= 30
    queries = talk.image.admission.queries
    assert max(len(queries._by_key), len(queries._by_client), sum(side.size for side in queries._sides.values())) <= 30


def test_parties_whose_queries_are_gone_leave_memory():
    """No cycle of references holds a query that was dropped, or its party: the cache has no garbage collector."""
    talk, collected = Talk(), gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for n in range(50):
            talk.ask(0, query(id_=n), replace(OWN, namespace=n + 1, socket=n + 1))
        for n in range(60):
            talk.ask(40, query(id_=n), replace(OWN, namespace=99, socket=99))
        assert [side.size for side in talk.image.admission.queries._sides.values()] in ([60], [0, 60])
        assert not gc.collect()
    finally:
        if collected:
            gc.enable()


@pytest.mark.parametrize("step", [0.0, 0.001, 1.0, -1.0])
def test_flood(step):
    """A flood of queries with forged ids, names and clients never exceeds the share of its party."""
    talk = Talk()
    for n in range(3000):
        flow = replace(there(port=n % 500, server=f"10.0.{n % 200}.1"), socket=n % 3, egress=bool(n % 2))
        talk.ask(n * step, query(f"x{n % 700}", id_=n), flow)
        assert talk.waiting <= 2 * 1024
    queries = talk.image.admission.queries
    assert len(queries._by_client) <= 2 * 1024
    for name in ("a.example", "A.example") * 500:
        talk.ask(0, query(name), ADDRESSED)
    assert max(len(waiting.waits) for waiting in queries._by_key.values()) <= 64


def test_policy():
    """An unknown policy is refused with a text that lists the valid policies."""
    with pytest.raises(SettingsError, match="auto, accept, reject"):
        Admission("maybe")


FLOWS = st.sampled_from([None, ADDRESSED, OWN, SERVERS, DOCKER, SERVICE, V6, NOWHERE])
STEPS = st.lists(st.tuples(st.booleans(), st.floats(0, 40), FLOWS, st.integers(0, 1), st.integers(0, 2)), max_size=40)


@given(STEPS)
def test_never_more_than_asked(steps):
    """`accept` admits every response but copies; `reject` admits at most one response for each query."""
    strict, open_ = Talk("reject"), Talk("accept")
    asked_for = admitted = 0
    for is_query, after, flow, id_, ttl in steps:
        if is_query:
            asked_for += flow is not None
            strict.ask(after, query(id_=id_), flow)
            open_.ask(after, query(id_=id_), flow)
            continue
        came = back(flow) if flow else None
        admitted += strict.hear(after, answer(id_=id_, ttl=ttl), came).admitted
        copies = open_.counted("copies")
        assert open_.hear(after, answer(id_=id_, ttl=ttl), came).admitted is (open_.counted("copies") == copies)
        assert admitted <= asked_for


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda rest: query()[:12] + rest)), FLOWS)
def test_any_bytes(junk, flow):
    """Any bytes are accepted without an exception, and at most one query waits."""
    talk = Talk()
    talk.say(0, junk, flow)
    assert talk.waiting <= 1


def test_the_option_takes_exactly_the_policies() -> None:
    """`--dnscache unmatched=` accepts exactly the policies of admission."""
    assert UNMATCHED == POLICIES


def test_a_query_is_unanswered_if_its_sender_got_no_response():
    """A query without a response is counted once it is too old, but none that was received, or answered once."""
    talk = Talk()
    talk.ask(0, query("never"))
    talk.ask(0, query("received"), SERVERS)
    for after in (0, 0.5):
        talk.ask(after, query("twice"))
    assert talk.hear(0.6, answer(name="twice")).admitted
    assert talk.waiting == 3
    for after in (40, 41):
        talk.ask(after, query("later"))
        talk.ask(after, query("later"), SERVERS)
    assert (talk.waiting, talk.counted("unanswered")) == (2, [1])
