"""Transactions, by the messages that an image receives.

Tests of dnstrail.image.facts.transaction, dnstrail.image.facts.pending, dnstrail.image.facts.heard.
"""

from __future__ import annotations

import gc
from itertools import permutations

import pytest
from msgspec.structs import replace

from builders.dns_builders import AAAA, A, t
from builders.talk import OWN, SERVERS, Talk, answer, back, packed, query, there
from dnstrail.captured import CLIENT, FORWARDER
from dnstrail.image.bounds import SECOND
from dnstrail.image.facts.held_responses import MAX_KEPT, MOST_CAPTURES, MOST_HELD
from dnstrail.image.facts.transactions import MOST_NAMED, MOST_UNANSWERED
from dnstrail.image.queries import SHARE

NXDOMAIN, TRUNCATED = 0x8183, 0x8380
ID = "s/1/{}"
UPSTREAM = there("10.0.0.53", "9.9.9.9", 53000, socket=11, namespace=1, egress=True, role=FORWARDER)
EDGES = (("a.example", A, "192.0.2.1"),)
APPLICATION, STUB = {"pid": 70, "cgroup": 7}, {"pid": 80, "cgroup": 8}


def failure(flags=NXDOMAIN, **question):
    """Return a response without records."""
    whole = answer("", **question)
    return whole[:2] + flags.to_bytes(2, "big") + whole[4:]


class Asking(Talk):
    """A talk whose transactions somebody takes."""

    def __init__(self, unmatched="auto", **more):
        super().__init__(unmatched, **more)
        self.transactions = self.image.begin_transactions()

    def ended(self, now=None):
        """Return what has ended, by the time `now`."""
        if now is not None:
            self.transactions.advance(t(now))
        return self.transactions.take()

    def only(self, now=None):
        """Return the only transaction that has ended."""
        [only] = self.ended(now)
        return only


def test_a_question_and_its_answer():
    """A transaction states who asked whom for what, and what the answer states."""
    talk = Asking()
    talk.ask(0, query("A.example"), replace(OWN, role=CLIENT), **APPLICATION)
    assert talk.ended() == []
    talk.hear(0.02, answer(), **APPLICATION)
    one = talk.only()
    assert (one.id, one.asked, one.ended, one.tries) == (ID.format(0), t(0), t(0.02), 1)
    assert (one.name, one.type, one.outcome, one.rcode) == ("a.example", 1, "answered", 0)
    assert (one.hop, one.process.pid, one.answer.lives) == ("client", 70, (60 * SECOND,))
    assert (one.flow.source, one.flow.destination_port) == (packed("10.0.0.2"), 53)
    assert (one.answer.edges, one.matched, one.doubted, one.admitted) == (EDGES, True, False, True)


@pytest.mark.parametrize("flow", [OWN, SERVERS, there()], ids=["client", "server", "file"])
def test_retries_from_one_socket(flow):
    """Retries from one socket are one transaction, which counts its tries and waits since the first."""
    talk = Asking()
    for after in (0, 5, 5.05, 10):  # one of them is a copy
        talk.ask(after, flow=flow)
    talk.hear(10.1, flow=back(flow))
    one = talk.only(12)
    assert (one.tries, one.asked, one.ended) == (3, t(0), t(10.1))


def test_a_question_to_several_servers():
    """A question that one socket sends to several servers is one transaction. The first answer ends it."""
    talk = Asking()
    for server in (1, 2, 3):
        talk.ask(0, flow=there(server=f"10.0.0.{server}", socket=7, namespace=1, egress=True))
    for server in (2, 1):
        home = there(server=f"10.0.0.{server}", socket=7, namespace=1, egress=True)
        talk.hear(server / 10, answer(f"192.0.2.{server}"), back(home))
    one = talk.only(40)
    assert (one.tries, one.answer.edges[0][2]) == (3, "192.0.2.2")


@pytest.mark.parametrize("lead", [0.0, 0.3, 0.9])
def test_an_answer_that_arrives_before_its_question(lead):
    """A response without a question waits a second for it. The image had rejected it."""
    talk = Asking()
    talk.hear(0.05)
    assert talk.ended(lead) == []
    talk.ask(0, **APPLICATION)
    one = talk.only()
    assert (one.outcome, one.asked, one.ended, one.answer.edges) == ("answered", t(0), t(0.05), EDGES)
    assert (one.matched, one.admitted, one.process.pid, one.id) == (False, False, 70, ID.format(1))
    assert talk.ended(40) == []


@pytest.mark.parametrize(
    ("heard", "asked"),
    [(back(OWN), there()), (back(there()), OWN), (back(SERVERS), SERVERS)],
    ids=["a socket of the response alone", "a socket of the question alone", "at the server"],
)
def test_an_early_answer_at_another_socket(heard, asked):
    """An early answer is found by its socket, else by its client."""
    talk = Asking("reject")
    talk.hear(0.05, flow=heard)
    talk.ask(0, flow=asked)
    assert talk.only(0.5).outcome == "answered"


@pytest.mark.parametrize("unmatched", ["accept", "reject"])
def test_an_early_answer_that_both_ends_capture(unmatched):
    """An answer that is captured at its server and at its client waits for the question at either socket."""
    talk = Asking(unmatched)
    talk.hear(0.05, flow=back(SERVERS), **STUB)
    talk.hear(0.051, flow=back(OWN), **APPLICATION)
    talk.ask(0, **APPLICATION)
    one = talk.only(40)
    assert (one.hop, one.outcome, one.tries, one.process.pid) == ("client", "answered", 1, 70)


def test_a_large_early_answer():
    """The records of a large response that was rejected are not kept for its question."""
    talk = Asking()
    many = answer(*(f"10.0.{number >> 8}.{number & 255}" for number in range(MAX_KEPT // 16)))
    talk.hear(0.05, many)
    talk.ask(0)
    one = talk.only()
    assert (one.outcome, one.rcode, one.answer, one.admitted) == ("unknown", 0, None, False)


def test_an_answer_of_another_server_before_the_question():
    """A response of a server that was not asked ends no question."""
    talk = Asking()
    talk.hear(0.05, flow=back(there(server="10.9.9.9", socket=7, namespace=1, egress=True)))
    talk.ask(0)
    assert talk.only(31).outcome == "unanswered"


@pytest.mark.parametrize("forged", [1, MOST_CAPTURES - 1, MOST_CAPTURES])
def test_an_early_answer_behind_others_with_its_bytes(forged):
    """An early answer is found behind those that others sent with the same bytes; of many, the first ones count."""
    talk = Asking("accept")
    for number in range(forged):
        talk.hear(0.05, flow=back(there(server=f"10.9.9.{number}", socket=7, namespace=1, egress=True)))
    talk.hear(0.06)
    talk.ask(0)
    assert {one.outcome for one in talk.ended(40) if one.asked} == {
        "answered" if forged < MOST_CAPTURES else "unanswered"
    }


@pytest.mark.parametrize(("unmatched", "count"), [("auto", 0), ("accept", 1)])
def test_a_response_without_a_question(unmatched, count):
    """After a second a response makes a transaction if the image admitted it; else it leaves no trace."""
    talk = Asking(unmatched)
    talk.hear(0, **APPLICATION)
    assert talk.ended(1) == []
    ended = talk.ended(1.1)
    assert len(ended) == count
    for one in ended:
        assert (one.id, one.asked, one.ended, one.tries, one.matched) == (ID.format(0), 0, t(0), 0, False)
        assert (one.hop, one.process.pid, one.answer.edges, one.flow) == ("client", 70, EDGES, OWN)


def test_a_doubted_answer():
    """An answer that counts only because events were lost makes a doubted transaction."""
    talk = Asking()
    talk.image.gap(t(0))
    talk.hear(0.5)
    one = talk.only(2)
    assert (one.doubted, one.matched, one.asked) == (True, False, 0)


def test_nobody_answers():
    """Thirty seconds after its last try a question ends unanswered, by the clock alone."""
    talk = Asking()
    talk.ask(0, **APPLICATION)
    talk.ask(5, **APPLICATION)
    assert talk.ended(35) == []
    one = talk.only(35.1)
    assert (one.outcome, one.asked, one.ended, one.tries, one.rcode) == ("unanswered", t(0), t(35), 2, -1)
    assert talk.ended(100) == []


def test_the_clock_of_the_stream_decides():
    """The stamps of messages end no question: another host may be behind."""
    talk = Asking()
    talk.ask(0)
    talk.hear(50, host="elsewhere")
    assert talk.ended() == []
    talk.hear(0.1)
    assert talk.only().outcome == "answered"


def test_the_same_question_a_minute_later():
    """The same question after 30 s is another transaction, whatever the clock says."""
    talk = Asking()
    talk.ask(0)
    talk.ask(60)
    assert talk.only().outcome == "unanswered"
    talk.hear(60.1)
    assert talk.only().asked == t(60)


@pytest.mark.parametrize(("unmatched", "live"), [("auto", True), ("accept", True), ("auto", False)])
@pytest.mark.parametrize("clock", [30.2, 0], ids=["decided", "about to be"])
def test_a_later_answer_to_an_unanswered_question(unmatched, live, clock):
    """An answer after the thirty seconds changes nothing, whether the image admits it or not."""
    talk = Asking(unmatched, live=live)
    talk.ask(0)
    talk.ended(clock)
    talk.hear(30.5)
    ended = talk.ended(100)
    assert [one.outcome for one in ended] == (["unanswered"] if clock == 0 else [])


def test_evicted_questions():
    """A flood of one owner evicts its own questions, whose outcome is unknown, and none of another owner."""
    talk = Asking()
    talk.ask(0, query("other.example"), there(socket=99, namespace=1, egress=True), pid=1, cgroup=1)
    for number in range(SHARE + 3):
        talk.ask(1 + number / 1e6, query(id_=number), pid=2, cgroup=2)
    ended = talk.ended(2)
    assert [(one.outcome, one.id) for one in ended] == [("unknown", ID.format(number)) for number in (1, 2, 3)]
    assert {one.process.cgroup_id for one in ended} == {2}
    talk.hear(3, answer(name="other.example"), back(there(socket=99, namespace=1, egress=True)), pid=1, cgroup=1)
    assert talk.only().outcome == "answered"
    assert [one.outcome for one in talk.ended(60)] == ["unanswered"] * SHARE


@pytest.mark.parametrize("order", [*permutations(range(4))])
def test_copies_of_one_packet_are_one_transaction(order):
    """With client and server on one host there is one transaction, of the client, in whatever order captures arrive."""
    talk = Asking()
    captures = [
        (0.001, query(), OWN, APPLICATION),
        (0.002, query(), SERVERS, STUB),
        (0.003, answer(), back(SERVERS), STUB),
        (0.004, answer(), back(OWN), APPLICATION),
    ]
    for number in order:
        after, payload, flow, whose = captures[number]
        talk.say(after, payload, flow, **whose)
    one = talk.only(60)
    assert (one.hop, one.process.pid, one.tries, one.flow) == ("client", 70, 1, OWN)
    assert (one.outcome, one.answer.edges) == ("answered", EDGES)


def test_retries_that_both_ends_capture():
    """A retry that is captured at the client and at its server is one try."""
    talk = Asking()
    for after in (0, 5):
        talk.ask(after, flow=SERVERS, **STUB)
        talk.ask(after, flow=OWN, **APPLICATION)
    talk.hear(6, flow=back(SERVERS), **STUB)
    assert talk.only().tries == 2


def test_a_remote_client():
    """A client that is not of this host is known by its address, and has no process."""
    talk = Asking()
    talk.ask(0, flow=SERVERS, **STUB)
    talk.hear(0.02, flow=back(SERVERS), **STUB)
    assert talk.ended(0.1) == []  # the client's own socket may still be captured
    one = talk.only(0.2)
    assert (one.hop, one.process, one.flow.source) == ("served", None, packed("10.0.0.2"))


def forwarded(talk, client, received):
    """Let a stub receive a question, ask another server, and answer; return the transactions by their hops."""
    talk.ask(0, flow=client, **APPLICATION)
    talk.ask(0.001, flow=received, **STUB)
    talk.ask(0.002, query(id_=2), UPSTREAM, **STUB)
    talk.hear(0.02, answer(id_=2), back(UPSTREAM), **STUB)
    talk.hear(0.021, flow=back(received), **STUB)
    talk.hear(0.022, flow=back(client), **APPLICATION)
    ended = talk.ended(1)
    return {one.hop: one for one in ended if [one.hop for one in ended].count(one.hop) == 1}


def test_a_forwarder():
    """A forwarder's transaction names the client's transaction for which it asks."""
    hops = forwarded(Asking(), OWN, SERVERS)
    assert hops.keys() == {"client", "forwarder"}
    assert hops["forwarder"].asked_for == hops["client"].id
    assert (hops["forwarder"].process.pid, hops["client"].process.pid) == (80, 70)


def test_a_forwarder_behind_a_forwarder():
    """The second forwarder of a chain names the client's transaction, too."""
    talk = Asking()
    second = there("10.0.0.53", "9.9.9.9", 53000, socket=12, namespace=1)
    last = there("9.9.9.9", "8.8.8.8", 54000, socket=13, namespace=1, egress=True, role=FORWARDER)
    talk.ask(0, flow=OWN, **APPLICATION)
    talk.ask(0, flow=SERVERS, **STUB)
    talk.ask(0.01, query(id_=2), UPSTREAM, **STUB)
    talk.ask(0.01, query(id_=2), second, pid=90)
    talk.ask(0.02, query(id_=3), last, pid=90)
    ended = talk.ended(60)
    assert [(one.hop, one.asked_for) for one in ended] == [
        ("client", ""),
        ("forwarder", ID.format(0)),
        ("forwarder", ID.format(0)),
    ]


CONTAINER = there("172.17.0.2", "10.0.0.53", 41000, socket=5, namespace=5, egress=True)
NATTED = there("10.0.0.1", "10.0.0.53", 61000, socket=9, namespace=1)


def test_a_container_behind_nat():
    """Behind NAT client and server are one transaction, by the process that owns the server's socket."""
    hops = forwarded(Asking(), CONTAINER, NATTED)
    assert hops.keys() == {"client", "forwarder"}
    assert hops["forwarder"].asked_for == hops["client"].id
    assert (hops["client"].process.pid, hops["client"].flow) == (70, CONTAINER)


@pytest.mark.parametrize(("relay", "linked"), [((80, 0), True), ((80, 5), False), ((81, 0), False), (None, False)])
def test_a_forwarder_behind_nat(relay, linked):
    """NAT hides the socket of a forwarder: the capture at the client shows which process received the question."""
    talk = Asking()
    talk.ask(0, flow=CONTAINER, relay=relay, **APPLICATION)
    talk.ask(0.01, query(id_=2), UPSTREAM, **STUB)
    client, forwarder = talk.ended(60)
    assert (client.hop, client.process.pid, client.asked_for) == ("client", 70, "")
    assert (forwarder.hop, forwarder.asked_for == client.id) == ("forwarder", linked)


@pytest.mark.parametrize("case", ["unknown owner", "same namespace", "another id", "later"])
def test_what_nat_hides(case):
    """Captures with different addresses are two transactions if nothing shows that they are one packet."""
    talk = Asking()
    talk.ask(0, flow=CONTAINER, **APPLICATION)
    flow = replace(NATTED, namespace=5) if case == "same namespace" else NATTED
    payload = query(id_=2) if case == "another id" else query()
    talk.ask(0.2 if case == "later" else 0, payload, flow, **({} if case == "unknown owner" else STUB))
    assert sorted(one.hop for one in talk.ended(60)) == ["client", "served"]


def test_multicast_makes_no_transaction():
    """Neither multicast DNS nor LLMNR makes a transaction."""
    talk = Asking("accept")
    flow = there(server="224.0.0.251", port=5353, to=5353)
    talk.ask(0, flow=flow)
    talk.hear(0.1, flow=flow)
    talk.ask(0, flow=there(to=5355))
    assert talk.ended(60) == []


@pytest.mark.parametrize("unmatched", ["auto", "accept"])
def test_a_second_answer_is_no_transaction(unmatched):
    """A second answer to one question changes nothing, with other targets or with the same."""
    talk = Asking(unmatched)
    talk.ask(0)
    talk.hear(0.1)
    talk.hear(0.3, answer("192.0.2.9"))
    talk.hear(0.5)
    assert talk.only(60).answer.edges == EDGES


def test_addresses_of_both_kinds():
    """A and AAAA of one call are two transactions."""
    talk = Asking()
    for kind in (1, AAAA):
        talk.ask(0, query(kind=kind, id_=kind))
        talk.hear(0.1, answer("" if kind == AAAA else "192.0.2.1", kind=kind, id_=kind))
    assert [(one.type, one.outcome) for one in talk.ended()] == [(1, "answered"), (AAAA, "no_data")]


def test_a_truncated_answer():
    """A truncated answer ends the question over UDP; the one over TCP is another transaction."""
    talk = Asking()
    tcp = replace(OWN, socket=8, transport="tcp")
    talk.ask(0)
    talk.hear(0.1, failure(TRUNCATED))
    talk.ask(0.2, flow=tcp)
    talk.hear(0.3, flow=back(tcp))
    ended = talk.ended()
    assert [(one.flow.transport, one.outcome) for one in ended] == [("udp", "truncated"), ("tcp", "answered")]


@pytest.mark.parametrize("first", ["packet", "call"])
def test_a_call_of_getaddrinfo_and_its_packet(first):
    """A getaddrinfo answer belongs to the packet of the same process, name and second."""
    talk = Asking()
    for part in ("packet", "call") if first == "packet" else ("call", "packet"):
        if part == "packet":
            talk.ask(0, **APPLICATION)
            talk.hear(0.1, **APPLICATION)
        else:
            talk.hear(0.11, answer(id_=0, ttl=0), None, call=True, **APPLICATION)
    assert talk.only(60).answer.edges == EDGES


def test_a_call_of_getaddrinfo_after_the_answer_to_an_earlier_question():
    """The process asked again before the answer came: the call belongs to the packet of this answer."""
    talk = Asking()
    talk.ask(0, **APPLICATION)
    talk.ask(0.1, query(id_=2), **APPLICATION)
    talk.hear(0.9, **APPLICATION)
    talk.hear(1.8, answer(id_=0, ttl=0), None, call=True, **APPLICATION)
    assert [one.outcome for one in talk.ended(60)] == ["answered", "unanswered"]


@pytest.mark.parametrize(
    "call",
    [{"pid": 71}, {"name": "b.example"}, {"after": 1.2}, {}],
    ids=["process", "name", "second", "no packet"],
)
def test_a_call_of_getaddrinfo_alone(call):
    """Any other getaddrinfo answer is a transaction of its own, without a question."""
    talk = Asking()
    if call:
        talk.ask(0, **APPLICATION)
        talk.hear(0.1, **APPLICATION)
        talk.ended()
    whole = answer(id_=0, ttl=0, name=call.get("name", "a.example"))
    talk.hear(call.get("after", 0.11), whole, None, call=True, pid=call.get("pid", 70))
    one = talk.only(60)
    assert (one.hop, one.asked, one.tries, one.flow, one.outcome) == ("client", 0, 0, None, "answered")
    assert one.process.pid == call.get("pid", 70)


def test_a_skipped_answer():
    """A response that is skipped because the image is behind ends its question, and its records are unknown."""
    talk = Asking()
    talk.behind = True
    big = answer(*(f"10.0.0.{number}" for number in range(255)))
    for number in range(1000):
        talk.ask(0, query(id_=number), cgroup=7)
        talk.hear(0, number.to_bytes(2, "big") + big[2:], cgroup=7)
    outcomes = [one.outcome for one in talk.ended()]
    assert len(outcomes) == 1000
    assert outcomes.count("unknown") == talk.image.counters["skipped_behind"] > 0


def test_transactions_are_ordered_by_their_ends():
    """One call returns the transactions in the order of their ends."""
    talk = Asking()
    talk.ask(0, query("lost.example"))
    for after in (31, 29):
        talk.ask(after, query(id_=after))
        talk.hear(after, answer(id_=after))
    assert [one.ended for one in talk.ended(40)] == [t(29), t(30), t(31)]


def test_early_responses_of_one_owner_leave_those_of_others():
    """A flood of responses without questions evicts its own, and not the response of another owner."""
    talk = Asking("reject")
    talk.hear(0, answer(name="other.example"), cgroup=1)
    for number in range(MOST_HELD + 10):
        talk.hear(0, answer(name=f"n{number}.example"), back(there(socket=8, namespace=2, egress=True)), cgroup=2)
    assert talk.image.counters["evicted_responses"] == 11
    talk.ask(0, query("other.example"), cgroup=1)
    assert talk.only().outcome == "answered"


def test_no_reference_cycle_is_left():
    """Transactions that have ended, in each way, leave no reference cycle behind."""
    talk = Asking("accept")
    gc.collect()
    gc.disable()
    try:
        for number in range(50):
            talk.ask(number, query(id_=number), **APPLICATION)
            talk.ask(number, query(id_=number), SERVERS, **STUB)
            talk.ask(number, query("lost.example", id_=number), **APPLICATION)
            talk.hear(number, answer(id_=number), back(SERVERS), **STUB)
            talk.hear(number, answer(name="alone.example", id_=number), **APPLICATION)
            talk.hear(number, answer(name="a.example", id_=0), None, call=True, **APPLICATION)
        assert len(talk.ended(200)) > 100
        talk.ask(300)
        talk.hear(300)
        talk.ended(400)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_new_collection():
    """Whoever begins transactions anew receives those of later questions alone."""
    talk = Asking()
    talk.ask(0, flow=SERVERS, **STUB)
    talk.ask(0, query("b.example", id_=2), **APPLICATION)
    talk.image.transactions = None
    talk.ask(0.1, query("c.example", id_=3), **APPLICATION)
    talk.transactions = talk.image.begin_transactions()
    talk.ask(1, query("b.example", id_=2), **APPLICATION)
    for number, name, flow in ((1, "a.example", SERVERS), (2, "b.example", OWN), (3, "c.example", OWN)):
        talk.hear(2, answer(name=name, id_=number), back(flow))
    assert [(one.name, one.tries) for one in talk.ended(40)] == [("b.example", 1)]


def test_late_answers_beyond_the_bound():
    """Beyond the unanswered questions that are remembered, a late answer makes a transaction without a question."""
    talk = Asking("accept")
    for number in range(2 * MOST_UNANSWERED + 1):
        talk.ask(number / 1e6, query(id_=number % 65536), there(port=number % 50000, socket=number + 1, egress=True))
        talk.ended(31 if number % 1000 == 999 else None)
    talk.ended(31)
    first, last = 0, 2 * MOST_UNANSWERED
    for number in (first, last):
        flow = back(there(port=number % 50000, socket=number + 1, egress=True))
        talk.hear(30.5, answer(id_=number), flow)
    assert [one.asked for one in talk.ended(100)] == [0]


def test_calls_beyond_the_bound():
    """Beyond the names that are remembered, a call of getaddrinfo is a transaction beside its packet."""
    talk = Asking()
    for number in range(2 * MOST_NAMED + 1):
        talk.ask(number / 1e6, query(f"n{number}.example", id_=number), **APPLICATION)
        talk.hear(number / 1e6, answer(name=f"n{number}.example", id_=number), **APPLICATION)
    talk.ended()
    for number in (0, 2 * MOST_NAMED):
        talk.hear(0.1, answer(id_=0, name=f"n{number}.example"), None, call=True, **APPLICATION)
    assert talk.only(60).name == "n0.example"


@pytest.mark.parametrize("is_early", [False, True])
def test_what_a_host_that_is_behind_reports_waits_for_its_own_time(is_early):
    """Neither a question nor a response ends by the time of other hosts while those of its host may be on their way."""
    talk = Asking("accept")
    if is_early:
        talk.hear(0, answer(), **APPLICATION)
    else:
        talk.ask(0, query("a.example"), replace(OWN, role=CLIENT), **APPLICATION)
    for behind in (0, 0.5):
        talk.transactions.advance(t(100), {"": t(behind)})
        assert talk.ended() == []
    talk.transactions.advance(t(100), {"other": t(0)})
    assert talk.only().outcome == ("answered" if is_early else "unanswered")
