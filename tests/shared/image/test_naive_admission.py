"""The naive model of admission, sentence by sentence (docs/inside/image.md, Admission)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from msgspec.structs import replace

from builders.dns_builders import A, asked, by_hand, record, response_to, wire
from dnstrail.captured import Flow, Process
from model.instants import START, ns
from model.naive import NaiveModel
from model.naive_admission import SHARE, SIGHTINGS, WAITING, Party, Verdict, Whose, whose


def packed(text: str) -> bytes:
    return ip_address(text).packed


def there(client: str = "10.0.0.2", server: str = "10.0.0.53", port: int = 4000, **more: Any) -> Flow:
    return Flow(packed(client), port, packed(server), 53, **more)


def back(flow: Flow, **changes: Any) -> Flow:
    turned = Flow(flow.destination, flow.destination_port, flow.source, flow.source_port, "udp", flow.socket)
    return replace(turned, namespace=flow.namespace, egress=not flow.egress, **changes)


def query(name: str = "a", id_: int = 1, **more: Any) -> bytes:
    return id_.to_bytes(2, "big") + by_hand(asked(wire(name), **more), flags=0x0100)[2:]


def answer(address: str = "1.1.1.1", name: str = "a", id_: int = 1) -> bytes:
    return id_.to_bytes(2, "big") + response_to(name, f"{name} A {address}")[2:]


ADDRESSED = there()
OWN = there(socket=7, namespace=1, egress=True)
SERVERS = there(socket=9, namespace=1)
NATTED = there(server="10.1.0.9", meant=packed("10.96.0.10"), meant_port=53, socket=7, namespace=2, egress=True)
MAPPED = there("::ffff:10.0.0.2", "::ffff:10.0.0.53")
PROCESS = Process(cgroup_id=5)


class Live:
    """A live source in front of a model; seconds count from START."""

    def __init__(self, unmatched: str = "reject", *, live: bool = True) -> None:
        self.model, self.live = NaiveModel(0, unmatched=unmatched), live

    def feed(self, seconds: float, payload: bytes, flow: Flow | None, **more: Any) -> Verdict:
        return self.model.feed(START + ns(seconds), payload, flow=flow, live=self.live, **more)


@pytest.mark.parametrize(
    ("went", "came", "matched"),
    [
        pytest.param(ADDRESSED, back(ADDRESSED), True, id="client address and port where no socket is known"),
        pytest.param(ADDRESSED, back(there("10.0.0.3")), False, id="another client"),
        pytest.param(ADDRESSED, back(there(port=4001)), False, id="another port"),
        pytest.param(MAPPED, back(ADDRESSED), True, id="IPv6 address that is IPv4"),
        pytest.param(OWN, back(OWN), True, id="the same socket"),
        pytest.param(OWN, back(OWN, destination=packed("10.9.9.9")), True, id="a client's own socket behind NAT"),
        pytest.param(OWN, replace(back(OWN), socket=8), False, id="another socket"),
        pytest.param(OWN, replace(back(OWN), namespace=3), False, id="another namespace"),
        pytest.param(SERVERS, back(SERVERS), True, id="a server's socket"),
        pytest.param(SERVERS, back(SERVERS, source=packed("10.9.9.9")), True, id="any source at the server's socket"),
        pytest.param(SERVERS, back(replace(SERVERS, source_port=1)), False, id="another client of a server's socket"),
        pytest.param(OWN, back(ADDRESSED), True, id="a socket of the query alone"),
        pytest.param(ADDRESSED, back(OWN), True, id="a socket of the response alone"),
        pytest.param(ADDRESSED, back(there(server="10.9.9.9")), False, id="another server"),
        pytest.param(NATTED, back(NATTED), True, id="the address that the packet went to"),
        pytest.param(NATTED, back(NATTED, source=packed("10.96.0.10")), True, id="the address that was meant"),
        pytest.param(NATTED, back(NATTED, source=packed("10.9.9.9")), False, id="a third address"),
        pytest.param(replace(ADDRESSED, destination=b""), back(ADDRESSED), True, id="a server that is not known"),
    ],
)
def test_a_response_matches_by_its_addresses(went: Flow, came: Flow, matched: bool) -> None:
    """A response matches the query of its socket, or of its client, and comes from the right server."""
    live = Live()
    live.feed(0, query(), went)
    assert live.feed(1, answer(), came).matched == matched


@pytest.mark.parametrize(
    ("payload", "after", "matched"),
    [
        pytest.param(answer(), 30, True, id="in time"),
        pytest.param(answer(), 30.1, False, id="late"),
        pytest.param(answer(), -1, True, id="stamped a little early"),
        pytest.param(answer(), -1.1, False, id="stamped too early"),
        pytest.param(answer(id_=2), 1, False, id="another id"),
        pytest.param(answer(name="b"), 1, False, id="another name"),
        pytest.param(response_to("A", "A A 1.1.1.1"), 1, True, id="another case"),
        pytest.param(response_to("a AAAA", "a A 1.1.1.1"), 1, False, id="another type"),
        pytest.param(by_hand(asked(wire("a")), flags=0x8183), 1, True, id="NXDOMAIN without an answer"),
        pytest.param(by_hand(asked(wire("a")), flags=0x8382), 1, True, id="SERVFAIL, truncated"),
    ],
)
def test_a_response_matches_by_its_message(payload: bytes, after: float, matched: bool) -> None:
    """A response matches by id, question and time, and then ends the wait of its query."""
    live = Live()
    live.feed(0, query(), ADDRESSED)
    live.feed(after, payload, back(ADDRESSED))
    assert live.feed(5, answer("9.9.9.9"), back(ADDRESSED)).matched != matched


@pytest.mark.parametrize(
    ("queries", "responses", "matched"),
    [
        pytest.param([0], [1, 2], "yes no", id="one query admits one response"),
        pytest.param([0, 5], [6, 7, 8], "yes yes no", id="each sighting admits one"),
        pytest.param([0, 0.05, 0.09], [1, 2], "yes no", id="copies are one sighting"),
        pytest.param([0, 0.15], [1, 2], "yes yes", id="a retransmission after 0.1 s is none"),
        pytest.param([0, 25], [40, 41], "yes no", id="each sighting expires by itself"),
    ],
)
def test_sightings(queries: list[float], responses: list[float], matched: str) -> None:
    """Each sighting of a query admits one response."""
    live = Live()
    for seconds in queries:
        live.feed(seconds, query(), OWN)
    verdicts = [live.feed(at, answer(f"1.1.1.{place}"), back(OWN)) for place, at in enumerate(responses)]
    assert " ".join("yes" if one.matched else "no" for one in verdicts) == matched


def test_copies_of_a_response() -> None:
    """A copy ends the wait at its own socket; the first copy that is admitted is kept."""
    live = Live()
    live.feed(0, query(), OWN)
    live.feed(0, query(), SERVERS)
    verdicts = [live.feed(1 + ns_ / 100, answer(), back(flow)) for ns_, flow in enumerate((SERVERS, OWN, OWN))]
    assert [(one.admitted, one.matched) for one in verdicts] == [(True, True), (False, True), (False, False)]
    assert not live.feed(1.5, answer(), back(OWN)).admitted
    assert len(live.model.held) == 1


def test_the_copy_that_matches_is_kept() -> None:
    """A copy that matches is kept where the first copy was rejected."""
    live = Live()
    live.feed(0, query(), OWN)
    assert not live.feed(1, answer(), back(there(socket=99, namespace=1, egress=True))).admitted
    assert live.feed(1.05, answer(), back(OWN)).admitted


def test_several_servers() -> None:
    """A question to several servers is one query for each of them."""
    live = Live()
    flows = [there(server=f"10.0.0.{last}", socket=7, egress=True) for last in range(1, 20)]
    for flow in flows:
        live.feed(0, query(), flow)
    assert all(live.feed(1, answer(f"1.1.1.{flow.destination[3]}"), back(flow)).matched for flow in flows)


@pytest.mark.parametrize(
    ("unmatched", "flow", "live", "gap", "outcome"),
    [
        ("reject", OWN, True, 0, "dropped"),
        ("reject", ADDRESSED, False, 0, "dropped"),
        ("accept", OWN, True, None, "kept"),
        ("auto", OWN, True, None, "dropped"),
        ("auto", OWN, True, 1, "doubted"),
        ("auto", OWN, True, -25, "doubted"),
        ("auto", OWN, True, -26, "dropped"),
        ("auto", OWN, False, None, "kept"),
        ("auto", ADDRESSED, True, 1, "kept"),
        ("auto", None, True, None, "kept"),
    ],
)
def test_unmatched(unmatched: str, flow: Flow | None, live: bool, gap: float | None, outcome: str) -> None:
    """`auto` drops only what must have been asked, and doubts what it keeps because of a loss."""
    source = Live(unmatched, live=live)
    if gap is not None:
        source.model.gap(START + ns(gap))
    verdict = source.feed(5, answer(), None if flow is None else back(flow))
    assert not verdict.matched
    assert outcome == ("dropped" if not verdict.admitted else "doubted" if verdict.doubted else "kept")


@pytest.mark.parametrize(
    ("host", "cgroup", "doubted"),
    [("", 0, True), ("h", 5, True), ("h", 6, False), ("g", 5, False), ("h", 0, True), ("", 5, False)],
)
def test_losses_of_a_party(host: str, cgroup: int, doubted: bool) -> None:
    """A loss casts doubt on the answers to its own party alone."""
    live = Live("auto")
    live.model.gap(START, host, cgroup)
    assert live.feed(5, answer(), back(OWN), process=PROCESS, host="h").doubted == doubted


@pytest.mark.parametrize(
    ("flow", "process", "party", "owner"),
    [
        (OWN, PROCESS, ("h", "cgroup", 5), ("h", "cgroup", 5)),
        (OWN, Process(pid=1, cgroup_id=5, owner=4), ("h", "cgroup", 5), ("h", "cgroup", 4)),
        (OWN, Process(pid=1), ("h", "namespace", 1), ("h", "namespace", 1)),
        (ADDRESSED, None, ("h",), ("h",)),
        (None, None, ("h",), ("h",)),
    ],
)
def test_parties(flow: Flow | None, process: Process | None, party: Party, owner: Party) -> None:
    """A party is a cgroup, else a network namespace, else a host; a cgroup can have an owner."""
    assert whose(flow, process, "h") == (party, owner)


def test_sightings_of_one_query_are_bounded() -> None:
    """Beyond 64 sightings the oldest is evicted, and answers to this party are in doubt."""
    live, party = Live("auto"), ("", "namespace", 1)
    for place in range(SIGHTINGS + 1):
        live.feed(place / 5, query(), OWN)
        assert live.model.admission._in_doubt(START + ns(9), Whose(party, party), sent=True) == (place == SIGHTINGS)
    matched = [live.feed(14, answer(f"1.1.1.{place}"), back(OWN)).matched for place in range(SIGHTINGS + 1)]
    assert matched == [True] * SIGHTINGS + [False]


@pytest.mark.parametrize("sent", [True, False])
def test_a_party_has_a_share(sent: bool) -> None:
    """Beyond its share a party's oldest query is evicted; what it receives casts no doubt on answers to it."""
    live = Live("auto")
    live.feed(0, query(id_=9), there(socket=3, namespace=8, egress=True))
    flow = OWN if sent else SERVERS
    for place in range(SHARE + 1):
        live.feed(1, query(id_=place), flow)
    verdicts = [live.feed(2, answer(id_=place), back(flow)) for place in (0, 1)]
    assert [one.matched for one in verdicts] == [False, True]
    assert verdicts[0].doubted
    assert live.feed(2, answer("9.9.9.9"), back(OWN)).doubted == sent
    assert live.feed(2, answer(id_=9), back(there(socket=3, namespace=8, egress=True))).matched
    assert not live.feed(2, answer("9.9.9.9"), back(there(socket=3, namespace=8, egress=True))).admitted


def test_shares_of_many_parties(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 16 parties have equal parts."""
    assert WAITING == 16 * SHARE
    monkeypatch.setattr("model.naive_admission.WAITING", 64)
    monkeypatch.setattr("model.naive_admission.SHARE", 4)
    live = Live("auto")
    for party in range(32):
        live.feed(0, query(id_=party), there(socket=3, namespace=party + 1, egress=True))
    for place in range(3):
        live.feed(1, query(id_=100 + place), OWN)
    matched = [live.feed(2, answer(id_=100 + place), back(OWN)).matched for place in range(3)]
    assert matched == [False, True, True]


@pytest.mark.parametrize(
    ("first", "second", "conflict"),
    [
        ("1.1.1.1", "1.1.1.2", True),
        ("1.1.1.1", "1.1.1.1", False),
        ("1.1.1.1; a A 1.1.1.2", "1.1.1.2; a A 1.1.1.3", False),
    ],
)
@pytest.mark.parametrize("unmatched", ["accept", "reject"])
def test_conflicts(unmatched: str, first: str, second: str, conflict: bool) -> None:
    """A second response to one query conflicts if it shares no target with the first."""
    live = Live(unmatched)
    live.feed(0, query(), ADDRESSED)
    lines = [response_to("a", *f"a A {text}".split("; ")) for text in (first, second)]
    assert [live.feed(1 + place, line, back(ADDRESSED)).conflict for place, line in enumerate(lines)] == [
        False,
        conflict,
    ]


def test_doubted_answers_come_last() -> None:
    """A doubted answer comes after every other: as root, in each order, and in a record of its own."""
    live = Live("auto")
    live.feed(0, query("b"), OWN)
    live.feed(1, answer(name="b"), back(OWN))
    live.model.gap(START)
    for seconds, address in ((2, "1.1.1.1"), (3, "1.1.1.2")):
        live.feed(seconds, response_to("a", f"a A {address}", "a A 1.1.1.9"), back(OWN))
    live.feed(4, query(id_=5), OWN)
    live.feed(5, answer("1.1.1.9", id_=5), back(OWN))
    assert live.model.get("1.1.1.1")["dns_queries"] == ["b", "a"]
    assert live.model.get("a")["ip_addresses"] == ["1.1.1.9", "1.1.1.2", "1.1.1.1"]
    live.feed(6, answer("1.1.1.9"), back(OWN))
    assert len({one.record for one in live.model.held if one.root == "a"}) == 4


@pytest.mark.parametrize("payload", [b"", bytes(11), b"\xff" * 64, by_hand(b"", record(wire("a"), A, bytes(4)))])
def test_junk(payload: bytes) -> None:
    """Any bytes are accepted and change nothing but the clock."""
    live = Live("accept")
    assert not live.feed(5, payload, OWN).related
    assert (live.model.now, live.model.held) == (START + ns(5), [])


def test_an_answer_that_was_captured_with_its_question() -> None:
    """Such an answer needs no query."""
    assert Live("reject").feed(0, answer(), None, asked=True).admitted
