"""Events applied to the image, whatever they contain."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.dns_builders import response_to, t
from builders.talk import query
from builders.traffic import KEYS, NAMES, message
from builders.trail_helpers import CLIENT, packed, to_client, to_server
from dnstrail.captured import FORWARDER, Captured, Flow, Process
from dnstrail.connection import Connection
from dnstrail.events import EFFECTS, NET_PACKET_DNS, NET_SERVER_NAME, NET_TCP_CONNECT, SCHED_PROCESS_EXIT
from dnstrail.image import Bounds, FeedOutcome, Image
from dnstrail.image.apply import _relay, apply_event

ADDRESS = "1.1.1.1"
APP = Process(70, "app", container_id="c1")
ANSWER = response_to("a", "a A 1.1.1.1")
TO_SITE = Flow(packed(CLIENT), 50000, packed(ADDRESS), 443, "tcp", egress=True)


def event(after: float, payload: bytes = b"", flow: Flow | None = None, process: Process | None = None, **args):
    return Captured(t(after), payload, flow, process, args)


@pytest.fixture
def image():
    """Return an image with one address that a process asked for."""
    image = Image(unmatched="accept")
    apply_event(image, EFFECTS[NET_PACKET_DNS], event(0, ANSWER, to_client(socket=7), APP, foreign=True), live=True)
    return image


def first(image, **connection):
    found = image.trails(ADDRESS, Connection(**connection), now=t(10))
    assert found is not None
    return found.trails[0]


def test_a_message_is_stored_with_its_circumstances(image):
    """A DNS message is stored with its asker, and with whether the server is foreign."""
    (one,) = first(image).asked
    assert (one.process_id, one.client, one.foreign) == (70, CLIENT, True)


def test_a_foreign_of_a_wrong_type_is_unknown():
    """An argument `foreign` that is no bool is stored as unknown."""
    image = Image(unmatched="accept")
    apply_event(image, EFFECTS[NET_PACKET_DNS], event(0, ANSWER, to_client(socket=7), APP, foreign=7), live=True)
    assert image.store.places.roots["a"].latest.youngest.evidence.foreign is None


@pytest.mark.parametrize("sent", [7, "80", [80], [80, 0, 0], ["80", 0], [80, None], {}, None, [[], []]])
def test_a_relay_of_a_wrong_form_is_unknown(sent):
    """An argument `relay` that is no pid with a start is no receiver of the question."""
    image = Image()
    transactions = image.begin_transactions()
    own = Flow(packed(CLIENT), 40000, packed(ADDRESS), 53, socket=7, egress=True)
    question = query("a.test")
    apply_event(image, EFFECTS[NET_PACKET_DNS], event(0, question, own, APP, relay=sent), live=True)
    asked = Flow(packed(CLIENT), 50000, packed(ADDRESS), 53, socket=8, egress=True, role=FORWARDER)
    relay = Process(80, "relay")
    apply_event(image, EFFECTS[NET_PACKET_DNS], event(0.1, question, asked, relay), live=True)
    transactions.advance(t(100))
    assert [one.asked_for for one in transactions.take()] == ["", ""]


def test_a_getaddrinfo_answer_has_its_process():
    """An answer from getaddrinfo is admitted under `reject`, too, and stored with its process."""
    image = Image(unmatched="reject")
    assert apply_event(image, EFFECTS[NET_PACKET_DNS], event(0, ANSWER, None, APP), live=True) == FeedOutcome()
    applied = apply_event(image, EFFECTS[NET_PACKET_DNS], event(0, ANSWER, None, APP, getaddrinfo="success"), live=True)
    assert applied == FeedOutcome(admitted=True)
    (one,) = first(image, process=70).asked
    assert (one.process_id, one.container_id, one.client, one.server, one.matched) == (70, "c1", "", "", True)
    assert image.admission.counters == {"unmatched_rejected": 1, "matched": 1}


def test_the_outcome_of_a_message_is_returned():
    """An answer is admitted; a query and an event of another kind are not."""
    image = Image()
    assert apply_event(image, EFFECTS[NET_PACKET_DNS], event(0, ANSWER), live=False) == FeedOutcome(admitted=True)
    assert (
        apply_event(image, EFFECTS[NET_PACKET_DNS], event(0, ANSWER[:2] + b"\1" + ANSWER[3:]), live=False)
        == FeedOutcome()
    )
    for topic in (NET_TCP_CONNECT, NET_SERVER_NAME, SCHED_PROCESS_EXIT):
        assert apply_event(image, EFFECTS.get(topic, ""), event(0), live=False) == FeedOutcome()


@pytest.mark.parametrize(
    ("flow", "process", "connection"),
    [
        (None, APP, {"process": 70}),
        (None, APP, {"container": "c1"}),
        (TO_SITE, None, {"client": CLIENT}),
        (Flow(b"", 0, packed(ADDRESS), 443, "tcp", egress=True), APP, {"process": 70}),
    ],
)
def test_a_connection_counts_for_all_known_actors(image, flow, process, connection):
    """A connection counts for its process, its container and its client address, as far as they are known."""
    apply_event(image, EFFECTS[NET_TCP_CONNECT], event(0.1, b"", flow, process, dst=ADDRESS, dst_port=443), live=True)
    assert "1 answers led to 1 connections to port 443" in first(image, **connection, port=443).reasons


@pytest.mark.parametrize(
    "args",
    [{}, {"dst": ADDRESS}, {"dst": "nowhere", "dst_port": 443}, {"dst": 5, "dst_port": 443},
     {"dst": ADDRESS, "dst_port": "443"}, {"dst": None, "dst_port": None}],
)  # fmt: skip
def test_a_connection_without_destination_changes_nothing(image, args):
    """A connection without an address or a port changes nothing."""
    apply_event(image, EFFECTS[NET_TCP_CONNECT], event(0.1, b"", TO_SITE, APP, **args), live=True)
    assert not any("connections" in reason for reason in first(image, process=70, port=443).reasons)


def test_a_server_name_is_stored(image):
    """A server name is stored with its client and port."""
    apply_event(image, EFFECTS[NET_SERVER_NAME], event(1, b"", TO_SITE, server_name="a", evidence="sni"), live=True)
    found = image.trails(ADDRESS, Connection(client=CLIENT, port=443), now=t(10))
    assert found is not None
    assert [(one.name, one.evidence) for one in found.server_names] == [("a", "sni")]
    assert "the client sent this server name 9 s before" in found.trails[0].reasons


@pytest.mark.parametrize("flow", [None, Flow(b"", 0, b"", 443), Flow(b"", 0, bytes(4), 443), Flow(b"x", 0, b"xyz", 1)])
def test_a_server_name_without_server_changes_nothing(image, flow):
    """A server name without the address of a server changes nothing."""
    apply_event(image, EFFECTS[NET_SERVER_NAME], event(1, b"", flow, server_name="a", evidence="sni"), live=True)
    assert len(image.server_names) == 0


addresses = st.sampled_from([b"", bytes(4), bytes(16), b"\1\1\1\1", packed(CLIENT), packed("2001:db8::1"), b"odd"])
flows = st.none() | st.builds(
    Flow, addresses, st.integers(0, 65535), addresses, st.sampled_from([53, 443]), socket=st.integers(0, 2),
    egress=st.booleans(), meant=addresses, meant_port=st.sampled_from([0, 53]),
)  # fmt: skip
processes = st.none() | st.builds(
    Process, st.integers(0, 3), st.text(max_size=4), container_id=st.sampled_from(["", "c1"])
)
values = st.none() | st.booleans() | st.integers() | st.sampled_from([*KEYS, "sni"]) | st.text(max_size=4)
args = st.dictionaries(st.sampled_from(["dst", "dst_port", "server_name", "evidence", "foreign"]), values)
payloads = st.integers(0, 10**6).map(lambda seed: message(Random(seed))) | st.sampled_from([ANSWER, ANSWER[:20], b""])
events = st.tuples(
    st.sampled_from([*EFFECTS, NET_PACKET_DNS, SCHED_PROCESS_EXIT]),
    st.builds(Captured, st.integers(0, 2 * 10**18), payloads, flows, processes, args),
)
connections = st.builds(
    Connection,
    st.none() | st.integers(0, 3),
    st.sampled_from([None, "", "c1"]),
    st.sampled_from([None, CLIENT, "2001:db8::1"]),
    st.sampled_from([None, 0, 443]),
)


@given(st.lists(events, max_size=25), connections, st.sampled_from([None, 0, 10**18]), st.booleans())
def test_nothing_raises_and_everything_ends(taken, connection, at, live):
    """After any messages, connections and names in any order, every lookup terminates without an exception."""
    image = Image(Bounds(size=4, owned=4, relations=8))
    for topic, captured in taken:
        apply_event(image, EFFECTS.get(topic, ""), captured, live=live)
    assert len(image) <= 4
    for key in (*KEYS, *NAMES, "0.0.0.0"):
        found = image.trails(key, connection, at=at)
        if found is None:
            continue
        assert found.trails or found.server_names
        assert [trail.rival for trail in found.trails] == [place > 0 for place in range(len(found.trails))]
        assert all(trail.reasons and trail.scope in ("process", "container", "host", "any") for trail in found.trails)


def test_a_query_reaches_admission():
    """A captured query makes its answer matched."""
    image = Image()
    apply_event(
        image,
        EFFECTS[NET_PACKET_DNS],
        event(0, ANSWER[:2] + b"\1\0\0\1" + bytes(6) + ANSWER[12:19], to_server()),
        live=True,
    )
    apply_event(image, EFFECTS[NET_PACKET_DNS], event(0.1, ANSWER, to_client()), live=True)
    assert [one.matched for one in first(image).asked] == [True]


@pytest.mark.parametrize("sent", [None, 7, "78", [], [7], [7, "8"], ["7", 8], [7, 8, 9], {7: 8}])
def test_a_relay_that_is_no_pid_and_start_is_none(sent):
    """Whoever publishes may send any value: only a pid with a start names a relay."""
    assert _relay(sent) is None
    assert _relay([7, 8]) == (7, 8)
