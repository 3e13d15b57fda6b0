"""Lookups of watched names: one finding each, whatever the answers, with the id of the question."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from builders.detection_events import CURL, OTHER
from dnstrail.captured import ASKER_SEEN, GETADDRINFO, Captured
from dnstrail.datasource import DataSources
from dnstrail.errors import Unavailable
from dnstrail.events import NET_PACKET_DNS, Event
from dnstrail.testing import FakeDns, SignatureRun
from dnstrail_signatures.builtin.watched_name import WatchedName, WatchedNameSettings
from dnstrail_signatures.detection.open_lookups import MOST_LOOKUPS, MOST_QUERIES
from dnstrail_signatures.engine.engine import Engine

NAME = "deep.sub.evil.example"
FOUND = {"ip_addresses": ["192.0.2.1"], "dns_queries": [NAME], "dns_root": NAME}
NOTHING = {"ip_addresses": [], "dns_queries": [NAME], "dns_root": NAME}
RECORD = f"{NAME}. 60 IN A 192.0.2.1"
SECOND = 10**9


def event(message, at, process=CURL, place=0, **args):
    captured = Captured(round(at * SECOND), message.to_wire(), None, process, args)
    return Event(NET_PACKET_DNS, captured, ("test", 0), place=(NET_PACKET_DNS, place))


def query(number=1, kind="A", name=NAME):
    return dns.message.make_query(f"{name}.", kind, id=number)


def reply(number=1, kind="A", *records, name=NAME, rcode=0, flags=0):
    message = dns.message.make_response(query(number, kind, name))
    message.answer = [dns.rrset.from_text(*record.split(" ", 4)) for record in records]
    message.set_rcode(rcode)
    message.flags |= flags
    return message


@pytest.fixture
def run(tmp_path):
    """Return a run of the signature over a list with one name."""
    path = tmp_path / "list"
    path.write_text("evil.example\n")
    return SignatureRun(WatchedName, {NAME: FOUND}, WatchedNameSettings(str(path)))


def passed(run, *events):
    """Pass events on; return the outcomes of the findings."""
    return [finding.data["outcome"] for one in events for finding in run.event(one)]


@pytest.mark.parametrize(
    ("answer", "outcome", "found"),
    [
        (reply(1, "A", RECORD), "answered", FOUND),
        (reply(1, "A"), "no data", NOTHING),
        (reply(1, "A", rcode=dns.rcode.NXDOMAIN), "NXDOMAIN", NOTHING),
        (reply(1, "A", rcode=dns.rcode.REFUSED), "refused", NOTHING),
        (reply(1, "A", rcode=dns.rcode.SERVFAIL), "failed", NOTHING),
        (reply(1, "A", rcode=dns.rcode.NOTIMP), "rcode 4", NOTHING),
    ],
    ids=["answered", "no data", "NXDOMAIN", "refused", "failed", "another rcode"],
)
def test_a_question_is_reported_with_its_answer(run, answer, outcome, found):
    """A question for a watched name is reported when its answer arrives, whatever the answer states, and once."""
    assert run.event(event(query(), 1.0)) == []
    [finding] = run.event(event(answer, 1.1))
    assert finding.data == {"watched_name": "evil.example", "outcome": outcome, **found}
    run.close()
    assert len(run.findings) == 1


def test_an_answer_of_another_type_counts(run):
    """The text of a watched name, which makes no relation, is an answer."""
    text = reply(1, "TXT", f"{NAME}. 60 IN TXT x")
    assert passed(run, event(query(1, "TXT"), 1.0), event(text, 1.1)) == ["answered"]


def test_a_question_without_an_answer_is_pending_after_five_seconds(run):
    """A question without an answer is reported five seconds later; its late answer and its retries add nothing."""
    run.event(event(query(), 1.0))
    assert run.time(5.9) == []
    [finding] = run.time(6.0)
    assert finding.data == {"watched_name": "evil.example", "outcome": "pending", **NOTHING}
    later = [event(query(), 6.1), event(query(), 11.0), event(reply(1, "A", RECORD), 11.1)]
    assert (passed(run, *later), run.time(90.0)) == ([], [])


def test_the_next_event_reports_what_is_pending(run):
    """In a file an event that is five seconds later reports the question; an answer so late does not."""
    assert passed(run, event(query(), 1.0), event(reply(1, "A", RECORD), 20.0)) == ["pending"]


def test_the_clock_of_another_probe_does_not_count(run):
    """The time of one run of a probe ends no lookup of another one; the end of its own does."""
    run.event(event(query(), 1.0))
    run.signature.on_time("other", 100 * SECOND)
    assert run.findings == []
    run.signature.on_time("test", 1 << 61)
    assert len(run.findings) == 1


def test_the_end_reports_what_is_pending(run):
    """A signature that is closed reports the lookups that wait."""
    run.event(event(query(), 1.0))
    run.close()
    assert [finding.data["outcome"] for finding in run.findings] == ["pending"]


def test_the_types_of_one_call_are_one_lookup(run):
    """A and AAAA of one call make one finding, with the answer that has data, in whatever order they come."""
    asked = [event(query(1), 1.0), event(query(2, "AAAA"), 1.0)]
    answers = [event(reply(2, "AAAA"), 1.1), event(reply(1, "A", RECORD), 1.2)]
    assert passed(run, *asked, *answers) == ["answered"]
    in_turn = [event(query(3), 2.0), event(reply(3, "A", RECORD), 2.1)]
    assert passed(run, *in_turn, event(query(4, "AAAA"), 2.2), event(reply(4, "AAAA"), 2.3)) == ["answered"]
    run.close()
    assert len(run.findings) == 2


def test_each_call_is_a_lookup(run):
    """A process that asks again once it has its answer makes a further finding, and so does another process."""
    again = [one for at in (1.0, 1.2, 1.4) for one in (event(query(), at), event(reply(1, "A", RECORD), at + 0.1))]
    assert passed(run, *again) == ["answered"] * 3
    other = [event(query(), 1.5, OTHER), event(reply(1, "A", RECORD), 1.6, OTHER)]
    assert passed(run, *other) == ["answered"]


def test_a_truncated_answer_is_asked_again(run):
    """A truncated answer without data does not end a lookup: its answer over TCP does."""
    cut = event(reply(1, "A", flags=dns.flags.TC), 1.1)
    whole = [event(query(2), 1.2), event(reply(2, "A", RECORD), 1.3)]
    assert passed(run, event(query(), 1.0), cut, *whole) == ["answered"]
    assert (
        passed(run, event(query(5, name=f"x.{NAME}"), 2.0), event(reply(5, flags=dns.flags.TC, name=f"x.{NAME}"), 2.1))
        == []
    )
    assert [finding.data["outcome"] for finding in run.time(8.0)] == ["truncated"]


def test_an_answer_that_was_not_asked_for_ends_nothing(run):
    """A response with another id, and one that the cache did not admit, leave the question open."""
    run.dns.results.clear()
    forged = [event(reply(9, rcode=dns.rcode.NXDOMAIN), 1.1), event(reply(1, "A", RECORD), 1.2)]
    assert passed(run, event(query(), 1.0), *forged, event(reply(1), 1.3)) == ["no data"]


def test_a_question_that_was_seen_nearer_to_its_asker_does_not_count(run):
    """A forwarder's or server's capture of a question that was captured at its asker makes no lookup."""
    assert passed(run, event(query(), 1.0, **{ASKER_SEEN: True})) == []
    assert run.time(9.0) == []


def test_what_getaddrinfo_returned_ends_the_lookup(run):
    """The result of getaddrinfo() ends the question of its process, although it has another id."""
    result = event(reply(0, "A", RECORD), 1.1, **{GETADDRINFO: 0})
    assert passed(run, event(query(7), 1.0), result) == ["answered"]


def test_the_answers_to_an_alias_are_one_lookup(run):
    """An alias of a watched name is reported once for the types of one call, and again for the next call."""
    alias = "shop.example. 60 IN CNAME in.evil.example."
    run.dns.results["shop.example"] = FOUND
    kinds = [("A", "in.evil.example. 60 IN A 192.0.2.1"), ("AAAA", "in.evil.example. 60 IN AAAA 2001:db8::1")]
    call = [reply(number, kind, alias, record, name="shop.example") for number, (kind, record) in enumerate(kinds)]
    assert passed(run, *(event(one, 1.0) for one in call), *(event(one, 2.0) for one in call)) == ["answered"] * 2


def test_the_id_follows_from_the_question(tmp_path):
    """Two workers that report one question have one id, also if one of them did not receive the answer."""
    path = tmp_path / "list"
    path.write_text("evil.example\n")
    cls = type("Own", (WatchedName,), {"settings": WatchedNameSettings(str(path))})
    ids = []
    for answers in ([event(reply(1, "A", RECORD), 1.1, place=5)], [event(reply(1), 1.2, place=6)], []):
        found = []
        engine = Engine([cls], DataSources(FakeDns({NAME: FOUND})), found.append)
        for one in (event(query(), 1.0, place=4), *answers):
            engine.on_event(one)
        engine.on_time("test", 9 * SECOND)
        ids += [finding.id for finding in found]
    assert len(ids) == 3
    assert len({*ids}) == 1


def test_a_lookup_is_reported_while_the_cache_is_away(run):
    """An answer that cannot be looked up is counted as given up; the question is reported with its outcome."""

    def away(_key, **_about):
        raise Unavailable("ipc:///x", 1.0)

    run.dns.get = away
    run.event(event(query(), 1.0))
    with pytest.raises(Unavailable):
        run.event(event(reply(1, "A", RECORD), 1.1))
    assert [finding.data["outcome"] for finding in run.time(6.0)] == ["answered"]


def test_a_flood_of_lookups_is_reported(run):
    """Beyond the bound the lookup used longest ago is reported as pending, and counted; memory stays bounded."""
    for number in range(MOST_LOOKUPS + 3):
        run.event(event(query(1, name=f"{number}.evil.example"), 1.0))
    assert [finding.data["dns_root"] for finding in run.findings] == [f"{number}.evil.example" for number in range(3)]
    assert run.signature.evicted == 3
    assert len(run.time(6.0)) == MOST_LOOKUPS
    run.time(40.0)
    assert len(run.signature.tables()[0]) == 0


def test_a_flood_of_queries_is_one_lookup(run):
    """Beyond the bound a lookup forgets its oldest query, so that only the answers to the others end it."""
    for number in range(MOST_QUERIES + 1):
        run.event(event(query(number), 1.0))
    assert passed(run, event(reply(0, rcode=3), 1.1), event(reply(1, rcode=3), 1.2)) == ["NXDOMAIN"]
    assert run.time(9.0) == []
