"""Answers beyond the part of their owner in the work of an image that is behind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from builders.dns_builders import t
from builders.talk import OWN, SERVERS, Talk, answer, back, query, there
from dnstrail.captured import Process
from dnstrail.image import Circumstances, FeedOutcome
from dnstrail.image.answer import CGROUP, CLIENT

FLOODER, OTHER = 1, 2
MANY = [f"10.9.{number >> 8}.{number & 255}" for number in range(4000)]  # addresses of one costly answer
SOCKETS = {
    FLOODER: there("10.0.0.3", socket=8, namespace=1, egress=True),
    OTHER: OWN,
}


@pytest.fixture
def talk():
    talk = Talk()
    talk.behind = True
    return talk


def exchange(talk: Talk, number: int, cgroup: int, *addresses: str) -> FeedOutcome:
    """Let a cgroup ask for a name of its own, and feed the answer."""
    name, flow = f"n{number}.of{cgroup}.example", SOCKETS[cgroup]
    after = number / 1000
    talk.ask(after, query(name, id_=number % 65_536), flow, cgroup=cgroup)
    return talk.hear(after, answer(*addresses, name=name, id_=number % 65_536), back(flow), cgroup=cgroup)


def flood(talk: Talk) -> int:
    """Feed costly answers to the flooder until 10 were skipped; return the number of the first."""
    outcomes: Iterator[tuple[int, FeedOutcome]] = ((n, exchange(talk, n, FLOODER, *MANY)) for n in itertools.count(1))
    skipped = list(itertools.islice((number for number, outcome in outcomes if outcome.skipped), 10))
    assert talk.image.counters["skipped_behind"] == 10
    return skipped[0]


def test_the_flooder_alone_is_skipped(talk):
    """Beyond its part the answers of the flooder are skipped and counted; the other's names are found."""
    first = flood(talk)
    assert exchange(talk, 1, OTHER, "192.0.2.1") == FeedOutcome(admitted=True)
    assert talk.image.get("n1.of2.example").ip_addresses == ["192.0.2.1"]
    assert exchange(talk, first + 10, FLOODER, *MANY) == FeedOutcome(skipped=("", CGROUP, FLOODER))
    assert talk.image.get(f"n{first}.of1.example") is None


def test_nothing_is_skipped_by_an_image_that_keeps_up(talk):
    """An image that is not behind applies every answer of a flood."""
    talk.behind = False
    assert {exchange(talk, number, FLOODER, *MANY) for number in range(1, 60)} == {FeedOutcome(admitted=True)}


def test_a_skipped_answer_casts_no_doubt(talk):
    """It ends the wait of its query, and unmatched answers to its party and to others are rejected as before."""
    first = flood(talk)
    assert talk.waiting == 0
    for cgroup, flow in SOCKETS.items():
        forged = answer("6.6.6.6", name=f"forged{cgroup}.example")
        assert talk.hear(first / 1000, forged, back(flow), cgroup=cgroup) == FeedOutcome()


def test_a_flood_at_an_open_port_is_not_believed(talk):
    """Forged answers from off the path are rejected, however many, and the true answer has its part of the work."""
    talk.ask(0, query("true.example", id_=7), OWN, cgroup=OTHER)
    for number in range(5000):
        forged = answer("6.6.6.6", name="true.example", id_=8 + number)
        assert talk.hear(0.001, forged, back(OWN), cgroup=OTHER) == FeedOutcome()
    true = answer("192.0.2.1", name="true.example", id_=7)
    assert talk.hear(0.002, true, back(OWN), cgroup=OTHER) == FeedOutcome(admitted=True)
    assert talk.image.get("true.example").ip_addresses == ["192.0.2.1"]
    assert talk.image.counters["skipped_behind"] == 0


def test_a_copy_of_a_skipped_answer_stays_a_copy(talk):
    """Another capture of a skipped answer is no further answer."""
    number = flood(talk) + 10
    name, flow = f"n{number}.of1.example", SOCKETS[FLOODER]
    assert exchange(talk, number, FLOODER, *MANY).skipped
    copy = answer(*MANY, name=name, id_=number)
    assert talk.hear(number / 1000, copy, back(flow), cgroup=FLOODER) == FeedOutcome()
    assert talk.counted("copies") == [1]


def test_at_the_socket_of_a_server_the_client_has_a_part(talk):
    """The answers to one client of a server are skipped; another client of it, and the server itself, lose nothing."""

    def served(number: int, client: str, *addresses: str) -> FeedOutcome:
        flow = there(client, socket=9, namespace=1, egress=False)
        name = f"n{number}.of{client}.example"
        talk.ask(number / 1000, query(name, id_=number), flow, cgroup=3)
        return talk.hear(number / 1000, answer(*addresses, name=name, id_=number), back(flow), cgroup=3)

    outcomes = [served(number, "10.0.0.66", *MANY) for number in range(1, 50)]
    assert outcomes[-1] == FeedOutcome(skipped=("", CLIENT, 0x0A000042))
    assert served(1000, "10.0.0.67", "192.0.2.1") == FeedOutcome(admitted=True)
    assert exchange(talk, 1000, OTHER, "192.0.2.1") == FeedOutcome(admitted=True)


def test_without_a_socket_the_client_has_a_part(talk):
    """Where neither socket nor process is known, as by AF_PACKET, a client has a part by its address."""
    for number, client in enumerate(["10.0.0.66"] * 30 + ["10.0.0.67"]):
        flow = there(client)
        talk.ask(number / 1000, query(f"n{number}.example", id_=number), flow)
        addresses = MANY if client.endswith("66") else ["192.0.2.1"]
        outcome = talk.hear(number / 1000, answer(*addresses, name=f"n{number}.example", id_=number), back(flow))
        if number == 29:
            assert outcome == FeedOutcome(skipped=("", CLIENT, 0x0A000042))
    assert outcome == FeedOutcome(admitted=True)


def test_at_the_socket_of_a_server_a_known_asker_has_a_part(talk):
    """A process of this host that asks a server of this host has the part of its own owner, not one of its address."""
    asks, asker = there(socket=7, namespace=1, egress=True), Process(5, cgroup_id=FLOODER)
    for number in range(1, 1000):
        name, at = f"n{number}.example", t(number / 1000)
        asked, answered = query(name, id_=number), answer(*MANY, name=name, id_=number)
        talk.image.feed(at, asked, Circumstances(asks, asker, live=True, behind=True))
        talk.image.feed(at, asked, Circumstances(SERVERS, Process(6, cgroup_id=3), live=True, behind=True))
        outcome = talk.image.feed(
            at, answered, Circumstances(back(SERVERS), Process(6, cgroup_id=3), live=True, behind=True)
        )
        if outcome.skipped:
            break
    assert outcome.skipped == ("", CGROUP, FLOODER)
