"""The signatures of new and of odd behaviour: sweeps, foreign resolvers, new domains."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from msgspec.structs import replace

from builders.detection_events import CURL, OTHER, answered, findings, queries, started
from dnstrail.captured import CLIENT, SERVER, Captured, Flow
from dnstrail.errors import SettingsError
from dnstrail.events import NET_PACKET_DNS, Event
from dnstrail.testing import dns_query, dns_response
from dnstrail_signatures.builtin.dns_first_domain import DnsFirstDomain
from dnstrail_signatures.builtin.dns_foreign_resolver import DnsForeignResolver
from dnstrail_signatures.builtin.dns_new_answer import DnsNewAnswer
from dnstrail_signatures.builtin.dns_new_domain import DnsNewDomain
from dnstrail_signatures.builtin.dns_reverse_sweep import DnsReverseSweep

DAY = 86400.0


def test_many_reverse_names_in_a_short_time_are_a_sweep():
    """Thirty addresses within ten seconds are reported once an hour, also if each is asked for twice.

    Slow questions, one that is repeated, and those for services of a network (RFC 6763) are silent.
    """
    names = [f"{place}.2.0.192.in-addr.arpa PTR" for place in range(60)]
    assert len(findings(DnsReverseSweep, queries(names, each=0.1))) == 1
    assert len(findings(DnsReverseSweep, queries([name for name in names for _ in range(2)], each=0.1))) == 1
    assert findings(DnsReverseSweep, queries(names, each=1.0)) == []
    assert findings(DnsReverseSweep, queries(names[:1] * 99, each=0.1)) == []
    browsed = [f"lb._dns-sd._udp.0.{place}.168.192.in-addr.arpa PTR" for place in range(60)]
    assert findings(DnsReverseSweep, queries([*browsed, "168.192.in-addr.arpa PTR"], each=0.1)) == []
    assert findings(DnsReverseSweep, queries([f"a{place}.com" for place in range(99)], each=0.1)) == []


def test_the_state_of_sweeps_is_bounded():
    """Beyond the bound of programs, one is evicted and counted."""
    run = started(DnsReverseSweep, subjects=3)
    for place in range(10):
        run.event(dns_query("1.2.0.192.in-addr.arpa PTR", process=replace(CURL, path=f"/bin/{place}")))
    assert run.signature.evicted == 7


def foreign(server, *, is_foreign=True):
    payload = dns_response("a.com", "a.com 60 A 192.0.2.1").captured.payload
    flow = Flow(bytes(server), 53, bytes([10, 0, 0, 1]), 4000)
    return Event(NET_PACKET_DNS, Captured(0, payload, flow, CURL, {"foreign": is_foreign}))


def test_a_foreign_resolver_is_reported_once():
    """An answer of a foreign server is reported once a day; a configured or known server is not."""
    [found] = findings(DnsForeignResolver, [foreign([8, 8, 8, 8])] * 3)
    assert found == {"server": "8.8.8.8", "example": "a.com"}
    assert findings(DnsForeignResolver, [foreign([8, 8, 8, 8], is_foreign=False)]) == []
    assert findings(DnsForeignResolver, [foreign([8, 8, 8, 8])], known=("8.8.8.8",)) == []


def test_the_resolvers_that_were_reported_are_bounded():
    """Beyond the bound of subjects, one is evicted and counted."""
    run = started(DnsForeignResolver, subjects=3)
    for place in range(10):
        run.event(foreign([192, 0, 2, place]))
    assert run.signature.evicted == 7


def test_a_domain_is_new_once_after_the_time_to_learn():
    """A domain of the first day is usual; a later one is reported with its first name."""
    events = [
        answered("a.usual.com", "192.0.2.1"),
        answered("b.usual.com", "192.0.2.1", at=DAY),
        answered("a.new.com", "192.0.2.1", at=DAY),
        answered("b.new.com", "192.0.2.1", at=DAY + 1),
        dns_response("empty.com", process=CURL, at=DAY),
    ]
    assert findings(DnsNewDomain, events) == [{"domain": "new.com", "name": "a.new.com"}]


def test_domains_outlive_a_run_in_their_file(tmp_path):
    """A second run with the file knows the domains of the first, and has nothing to learn."""
    file = str(tmp_path / "domains.txt")
    first = started(DnsNewDomain, file=file)
    first.event(answered("a.usual.com", "192.0.2.1"))
    first.close()
    later = [answered("b.usual.com", "192.0.2.1"), answered("a.new.com", "192.0.2.1")]
    assert findings(DnsNewDomain, later, file=file) == [{"domain": "new.com", "name": "a.new.com"}]


def test_a_reload_with_other_settings_forgets_no_domain(tmp_path):
    """The instance that replaces another one has seen what the other one saw after it read the file."""
    file = str(tmp_path / "domains.txt")
    first = started(DnsNewDomain, file=file, learn=0.0)
    first.event(answered("a.usual.com", "192.0.2.1"))
    second = started(DnsNewDomain, file=file, learn=0.0, domains=10)
    first.event(answered("a.late.com", "192.0.2.1"))
    second.signature.take_over(first.signature)
    first.close()
    assert second.event(answered("b.usual.com", "192.0.2.1")) == second.event(answered("b.late.com", "192.0.2.1")) == []
    second.close()
    assert sorted(Path(file).read_text().split()) == ["late.com", "usual.com"]


def test_a_file_of_domains_that_cannot_be_read_is_refused(tmp_path):
    """A folder in its place is an error that names it."""
    with pytest.raises(SettingsError, match=str(tmp_path)):
        started(DnsNewDomain, file=str(tmp_path))


def test_the_domains_are_bounded():
    """Beyond the bound of domains, the one that was used longest ago is evicted and counted."""
    run = started(DnsNewDomain, domains=3)
    for place in range(10):
        run.event(answered(f"a{place}.com", "192.0.2.1"))
    assert run.signature.evicted == 7


OLD = "93.184.1.1"


def moved(*, name="www.shop.com", at=7 * DAY, to="151.101.1.1"):
    return answered(name, to, at=at)


def test_an_old_name_with_an_address_in_another_network_is_reported_once():
    """Seven days without a new network make a name old; a further address of a network is none."""
    events = [answered("www.shop.com", OLD), answered("www.shop.com", "93.184.9.9", at=3 * DAY), moved(), moved()]
    assert findings(DnsNewAnswer, events) == [
        {"name": "www.shop.com", "before": ["93.184.0.0/16"], "now": ["151.101.0.0/16"]}
    ]


@pytest.mark.parametrize(
    "events",
    [
        [moved()],
        [answered("www.shop.com", OLD), moved(at=DAY)],
        [answered("www.shop.com", OLD), moved(to="10.0.0.1")],
        [answered("www.shop.com", *(f"{net}.1.1.1" for net in (11, 12, 13, 14))), moved()],
        [answered("www.shop.com", OLD), dns_response("www.shop.com", process=CURL, at=7 * DAY)],
        [answered("www.shop.com", OLD), dns_response("www.shop.com AAAA", "www.shop.com 60 AAAA 2a00::1", at=7 * DAY)],
    ],
    ids=["a new name", "a young name", "an inner address", "a name that always changes", "no answer", "another type"],
)
def test_other_answers_are_no_news(events):
    """A name without a past, and one whose answers change all the time, are not reported."""
    assert findings(DnsNewAnswer, events) == []


def alias(target, address, at=0.0):
    return dns_response("www.shop.com", f"www.shop.com 60 CNAME {target}.", f"{target} 60 A {address}", at=at)


def test_records_to_which_the_name_does_not_lead_hide_no_move():
    """A forged answer cannot name the old provider or network beside the new one, nor loop."""
    old, forged = alias("a.cdn.net", OLD), "www.shop.com 60 CNAME a.other.net."
    added = "x.test 60 CNAME b.cdn.net.", "b.cdn.net 60 A 93.184.2.2", "a.other.net 60 CNAME a.other.net."
    moved_alias = dns_response("www.shop.com", forged, *added, at=7 * DAY)
    assert [one["now"] for one in findings(DnsNewAnswer, [old, moved_alias])] == [["other.net"]]
    direct = "www.shop.com 60 A 151.101.1.1", "other.net 60 A 93.184.2.2", "www.shop.com 60 CNAME a.cdn.net."
    moved_addresses = dns_response("www.shop.com", *direct, at=7 * DAY)
    assert [one["now"] for one in findings(DnsNewAnswer, [old, moved_addresses])] == [["151.101.0.0/16"]]


def test_an_old_name_with_another_alias_is_reported():
    """Behind an alias of a provider, the addresses are its own business; another provider is news."""
    events = [
        alias("a.cdn.net", OLD),
        alias("b.cdn.net", "151.101.1.1", at=7 * DAY),
        alias("a.other.net", OLD, at=8 * DAY),
    ]
    assert findings(DnsNewAnswer, events) == [{"name": "www.shop.com", "before": ["cdn.net"], "now": ["other.net"]}]


def test_old_names_outlive_a_run_in_their_file(tmp_path):
    """A second run with the file knows the places of the first, and since when they are the same."""
    file = str(tmp_path / "names.json")
    first = started(DnsNewAnswer, file=file)
    first.event(answered("www.shop.com", OLD))
    first.close()
    assert findings(DnsNewAnswer, [moved(at=DAY)], file=file) == []
    assert len(findings(DnsNewAnswer, [moved()], file=file)) == 1


def test_a_reload_with_other_settings_forgets_no_old_name(tmp_path):
    """The instance that replaces another one knows the names that the other one learned after it read the file."""
    file = str(tmp_path / "names.json")
    first, second = started(DnsNewAnswer, file=file), started(DnsNewAnswer, file=file, names=10)
    first.event(answered("www.shop.com", OLD))
    second.signature.take_over(first.signature)
    first.close()
    assert len(second.event(moved())) == 1


@pytest.mark.parametrize("text", ["{", '["a.com",1,"x",[]]', "\xff"])
def test_a_file_of_names_that_cannot_be_read_is_refused(tmp_path, text):
    """The error names the file."""
    file = tmp_path / "names.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=str(file)):
        started(DnsNewAnswer, file=str(file))


def test_the_old_names_are_bounded(tmp_path):
    """Beyond the bound of names, the one that was used longest ago is evicted and counted, also from a file."""
    file = str(tmp_path / "names.json")
    run = started(DnsNewAnswer, names=3, file=file)
    for place in range(10):
        run.event(answered(f"a{place}.com", OLD))
    assert run.signature.evicted == 7
    run.close()
    assert started(DnsNewAnswer, names=2, file=file).signature.evicted == 1


def test_a_program_that_asks_a_new_domain_is_reported():
    """Each program has its own domains; browsers and clients without a path are left out."""
    events = [
        *queries(["a.usual.com"]),
        dns_query("b.usual.com", process=CURL, at=7 * DAY),
        dns_query("a.new.com", process=CURL, at=7 * DAY),
        dns_query("a.usual.com", process=OTHER, at=7 * DAY),
        dns_query("a.other.com", process=replace(CURL, path="/usr/lib/firefox/firefox"), at=7 * DAY),
        dns_query("a.third.com", at=7 * DAY),
    ]
    assert [(found["program"], found["domain"]) for found in findings(DnsFirstDomain, events)] == [
        ("/usr/bin/curl", "new.com"),
        ("/usr/bin/wget", "usual.com"),
    ]


def test_a_program_of_each_host_has_its_own_domains():
    """What a program of one host asked is new for the same program of another."""
    run = started(DnsFirstDomain, learn=0)
    for host in ("a", "b", "a"):
        run.event(dataclasses.replace(dns_query("a.com", process=CURL), host_name=host))
    assert [found.event.host_name for found in run.findings] == ["a", "b"]


def test_a_server_asks_nothing_that_its_clients_ask():
    """A stranger's question to a server is no question of its program, and takes no place among its domains."""
    run = started(DnsFirstDomain, learn=0)
    payload = dns_query("a.com").captured.payload
    for role, reported in ((SERVER, 0), (CLIENT, 1)):
        flow = Flow(bytes([192, 0, 2, 7]), 4000, bytes([192, 0, 2, 53]), 53, role=role)
        assert len(run.event(Event(NET_PACKET_DNS, Captured(1, payload, flow, CURL)))) == reported
    assert len(run.signature.tables()[0]) == 1


def test_the_domains_of_programs_are_bounded():
    """Beyond the bound of subjects, one is evicted and counted."""
    run = started(DnsFirstDomain, subjects=3)
    for place in range(10):
        run.event(dns_query(f"a{place}.com", process=CURL))
    assert run.signature.evicted == 7
