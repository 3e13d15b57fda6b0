"""Doubt: which parties lost events, and unmatched answers to them."""

from __future__ import annotations

import pytest

from builders.dns_builders import t
from builders.talk import ADDRESSED, OWN, Talk, answer, answers, back, query, there
from dnstrail.captured import Flow
from dnstrail.connection import Connection
from dnstrail.image import FeedOutcome
from dnstrail.image.queries import ALL_SHARES

FORGED = answer("6.6.6.6")
ANOTHER = there("10.0.0.3", socket=8, namespace=1, egress=True)
REFUSED, KEPT = FeedOutcome(), FeedOutcome(admitted=True)
MANY = ALL_SHARES + 4000  # queries: more than may wait on all sides


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
    talk = Talk(live=live)
    talk.image.gap(t(0))
    if gap is not None:
        talk.image.gap(t(gap))
    assert talk.hear(after, FORGED, back(flow) if flow else None).admitted is admitted
    assert talk.counted("unmatched_accepted", "unmatched_rejected") == [int(admitted), int(not admitted)]


def test_a_loss_in_one_cgroup_is_its_own():
    """After a loss in one cgroup the unmatched answers to that party alone are kept, for 30 s."""
    talk = Talk()
    talk.image.gap(t(0), cgroup=1)
    assert talk.hear(1, FORGED, cgroup=1) == KEPT
    assert talk.hear(1, answer("6.6.6.7"), back(ANOTHER), cgroup=2) == REFUSED
    assert talk.hear(1, answer("6.6.6.8"), back(ANOTHER)) == REFUSED
    assert talk.hear(31, answer("6.6.6.9"), cgroup=1) == REFUSED


def test_a_loss_on_another_host_is_not_ours():
    """A cgroup with the same number on another host is another party."""
    talk = Talk()
    talk.image.gap(t(0), "another", cgroup=1)
    assert talk.hear(1, FORGED, cgroup=1) == REFUSED


def flooded(cgroup: int, count: int = MANY) -> Talk:
    """Return an image after unanswered queries of one party."""
    talk = Talk()
    for number in range(count):
        talk.ask(number / 10_000, query(f"n{number}", id_=number % 65536), cgroup=cgroup)
    return talk


def test_unanswered_queries_cast_doubt_on_their_own_party_alone():
    """After more unanswered queries of a party than may wait in all, a forged answer to another party is rejected."""
    talk = flooded(1)
    assert (talk.waiting, *talk.counted("pending_full")) == (1024, MANY - 1024)
    assert talk.hear(6, FORGED, back(ANOTHER), cgroup=2) == REFUSED
    assert talk.hear(6, answer("6.6.6.7"), back(ANOTHER)) == REFUSED
    assert talk.hear(6, FORGED, cgroup=1) == KEPT
    talk.ask(6, flow=ANOTHER, cgroup=2)
    assert talk.hear(6, flow=back(ANOTHER), cgroup=2) == KEPT
    assert talk.counted("matched") == [1]


def test_a_doubted_answer_comes_behind_a_matched_one():
    """A doubted answer is root, address and trail behind a matched answer that came before it."""
    talk = flooded(1, 1025)
    talk.ask(1, cgroup=1, pid=70)
    talk.hear(1.1, answer("192.0.2.1"), cgroup=1, pid=70)
    talk.hear(1.2, answer("6.6.6.6"), cgroup=1, pid=70)
    talk.hear(1.3, answer("192.0.2.1", name="z.example"), cgroup=1, pid=70)
    assert talk.counted("matched", "unmatched_accepted") == [1, 2]
    assert talk.image.get("a.example").ip_addresses == ["192.0.2.1", "6.6.6.6"]
    found = talk.image.get("192.0.2.1")
    assert (found.dns_root, found.dns_queries) == ("a.example", ["a.example", "z.example"])
    trails = talk.image.trails("192.0.2.1", Connection(process=70)).trails
    assert [(trail.dns_root, trail.doubted) for trail in trails] == [("a.example", False), ("z.example", True)]
    assert trails[1].reasons[1] == "unmatched, and doubted: events were lost"


def test_doubted_and_undoubted_answers_are_different_records():
    """The same relations by a doubted and by another answer make two records, and each ends by its own answers."""
    talk = Talk(grace=0)
    talk.image.gap(t(0), cgroup=1)
    talk.ask(0, cgroup=1)
    talk.hear(0.1, answer("192.0.2.1", ttl=10), cgroup=1)
    talk.hear(1, answer("192.0.2.1", ttl=300), cgroup=1)
    [root] = talk.image.store.places
    assert [(record.doubted, len(list(record.sightings()))) for record in root.records()] == [(False, 1), (True, 1)]
    states = [talk.image.trails("192.0.2.1", now=t(now)).trails[0].doubted for now in (5, 20)]
    assert states == [False, False], "one path, and not all of its answers are doubted"
    assert talk.image.get("192.0.2.1", now=t(20)) is not None


@pytest.mark.parametrize("count", [65, 3000])
def test_received_packets_cast_no_doubt_on_answers(count):
    """Packets from port 53 to an open port, of any number, do not switch `auto` off for anybody."""
    talk = Talk()
    into = there("10.9.9.9", "10.0.0.2", port=53, to=40000, socket=7, namespace=1)
    for number in range(count):
        talk.ask(number / 1000, query(id_=1, name="A.example"), into, cgroup=1)
        talk.ask(number / 1000, query(f"n{number}"), into, cgroup=1)
        talk.ask(number * 0.2, query(), into, cgroup=1)
    assert talk.counted("pending_full") != [0]
    end = count * 0.2
    assert talk.hear(end, FORGED, cgroup=1) == REFUSED
    assert talk.hear(end, answer("6.6.6.7"), back(ANOTHER), cgroup=2) == REFUSED


def test_answers_from_a_full_server_may_be_doubted():
    """A server that received more queries than its share is in doubt on that side: its own answers are kept."""
    talk = Talk()
    served = there(socket=9, namespace=1)
    for number in range(1025):
        talk.ask(0, query(f"n{number}"), served, cgroup=5)
    assert talk.hear(1, FORGED, back(served), cgroup=5) == KEPT
    assert talk.hear(1, answer("6.6.6.7"), back(OWN), cgroup=5) == REFUSED


def at(socket: int) -> Flow:
    """Return the flow of a query at a socket."""
    return there(socket=socket, namespace=1, egress=True)


def test_many_parties_share_the_table():
    """With more than 16 parties each has an equal share, and one that asks more evicts its own queries."""
    talk = Talk()
    for cgroup in range(1, 33):
        for number in range(513 if cgroup == 32 else 500):
            talk.ask(0, query(f"n{number}"), at(cgroup), cgroup=cgroup)
    assert talk.counted("pending_full") == [1]
    assert talk.hear(1, FORGED, back(at(32)), cgroup=32) == KEPT
    assert talk.hear(1, answer("6.6.6.7"), back(at(31)), cgroup=31) == REFUSED


def test_evicted_answered_queries_cast_no_doubt():
    """More answered queries than are held do not make unmatched answers count."""
    talk = Talk()
    for name, payload in answers(f"n{number}" for number in range(34_000)):
        talk.ask(0, query(name))
        talk.hear(0, payload)
    assert talk.image.admission.queries.answered == 32_768
    assert talk.hear(1, FORGED) == REFUSED


def test_cgroups_that_a_user_makes_are_one_share_of_waiting_queries():
    """Queries from many cgroups of a user evict each other alone: none of another party's is evicted."""
    talk = Talk()
    for number in range(500):
        talk.ask(0, query(f"n{number}"), ANOTHER, cgroup=2)
    for number in range(MANY):
        talk.ask(number / 10_000, query(f"n{number}", id_=number % 65536), cgroup=100 + number % 300, owner=99)
    assert (talk.waiting, *talk.counted("pending_full")) == (500 + 1024, MANY - 1024)
    for number in range(500):
        assert talk.hear(6, answer(name=f"n{number}"), back(ANOTHER), cgroup=2) == KEPT
    assert talk.counted("matched") == [500]
    assert talk.hear(6, FORGED, back(ANOTHER), cgroup=2) == REFUSED
    assert talk.hear(6, answer("6.6.6.7"), cgroup=100, owner=99) == KEPT


def test_the_largest_party_of_an_owner_loses_its_oldest_query():
    """Beyond the share of an owner its party with most waiting queries loses the oldest, and is in doubt alone."""
    talk = Talk()
    for number in range(24):
        talk.ask(0, query(f"n{number}"), at(1), cgroup=1, owner=9)
    for number in range(1001):
        talk.ask(0, query(f"n{number}"), at(2), cgroup=2, owner=9)
    assert talk.counted("pending_full") == [1]
    assert talk.hear(1, answer(name="n0"), back(at(1)), cgroup=1, owner=9) == KEPT
    assert talk.counted("matched") == [1]
    assert talk.hear(1, FORGED, back(at(2)), cgroup=2, owner=9) == KEPT
    assert talk.hear(1, answer("6.6.6.7"), back(at(1)), cgroup=1, owner=9) == REFUSED


@pytest.mark.parametrize(("parties", "doubted"), [(64, False), (65, True)])
def test_many_parties_of_an_owner_in_doubt(parties: int, doubted: bool):
    """Beyond 64 parties of one owner in doubt the owner is in doubt, and nobody else."""
    talk = Talk()
    for number in range(parties):
        talk.image.gap(t(0), cgroup=100 + number, owner=99)
    assert talk.hear(1, FORGED, cgroup=98, owner=99).admitted is doubted
    assert talk.hear(1, answer("6.6.6.7"), cgroup=100, owner=99) == KEPT
    assert talk.hear(1, answer("6.6.6.8"), back(ANOTHER), cgroup=2) == REFUSED
    assert talk.hear(31, answer("6.6.6.9"), cgroup=98, owner=99) == REFUSED


def test_a_loss_of_an_owner_as_a_whole():
    """A loss that is known for an owner alone casts doubt on all its parties, and on no other."""
    talk = Talk()
    talk.image.gap(t(0), owner=99)
    assert talk.hear(1, FORGED, cgroup=100, owner=99) == KEPT
    assert talk.hear(1, answer("6.6.6.7"), back(ANOTHER), cgroup=2) == REFUSED


def test_a_loss_before_the_owner_was_known():
    """A doubt of a cgroup stays with it when it gets another owner."""
    talk = Talk()
    talk.image.gap(t(0), cgroup=100)
    assert talk.hear(1, FORGED, cgroup=100, owner=99) == KEPT
    assert talk.hear(1, answer("6.6.6.7"), back(ANOTHER), cgroup=101, owner=99) == REFUSED


def test_many_owners_of_a_host_take_no_share_of_another_host():
    """A host that states 20,000 owners, each with a query, evicts none of another host's, and casts no doubt on it."""
    talk = Talk()
    for number in range(500):
        talk.ask(0, query(f"n{number}"), ANOTHER, cgroup=2, host="one")
    for number in range(20_000):
        talk.ask(0, query(f"n{number}"), at(number + 9), cgroup=number + 9, host="two")
    assert talk.waiting == 500 + 8192
    for number in range(500):
        assert talk.hear(6, answer(name=f"n{number}"), back(ANOTHER), cgroup=2, host="one") == KEPT
    assert talk.hear(6, FORGED, back(ANOTHER), cgroup=2, host="one") == REFUSED
