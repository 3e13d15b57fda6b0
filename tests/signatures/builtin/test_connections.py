"""The signatures that end with a connection: rebinding, generated names, stale addresses, and those without DNS."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from builders.detection_events import CURL, OTHER, answered, connected, findings, missing, started
from dnstrail.datasource import DataSources
from dnstrail.errors import DataSourceMissing
from dnstrail.events.event import MOST_ADDRESSES
from dnstrail.signature import SignatureContext
from dnstrail.testing import SignatureRun, dns_query, event
from dnstrail_signatures.builtin.connection_without_dns import ConnectionWithoutDns
from dnstrail_signatures.builtin.dns_generated_name import DnsGeneratedName
from dnstrail_signatures.builtin.dns_rebinding import DnsRebinding
from dnstrail_signatures.builtin.encrypted_dns import EncryptedDns
from dnstrail_signatures.builtin.stale_address import StaleAddress

PUBLIC, INNER = "93.184.215.14", "169.254.169.254"
GENERATED = [f"qzv{place}xkwpt.com" for place in range(10)]


def rebound(*, inner=INNER, ttl=5, later=10.0, connect=20.0, process=CURL):
    return [
        answered("a.evil.com", PUBLIC, ttl=ttl),
        answered("a.evil.com", inner, ttl=ttl, at=later),
        connected(inner, port=80, process=process, at=connect),
    ]


def test_a_connection_to_a_rebound_name_is_reported():
    """A public address, then an inner one, then a connection to it by the same program."""
    expected = {"name": "a.evil.com", "public_address": PUBLIC, "inner_address": INNER}
    assert findings(DnsRebinding, rebound()) == [expected]
    both = [answered("a.evil.com", PUBLIC, INNER), connected(INNER, at=1.0)]
    assert findings(DnsRebinding, both) == [expected]
    before = connected(INNER, at=0.5)  # of the same turn, in which answers come first
    answer = answered("a.evil.com", PUBLIC, INNER, at=0.7)
    assert findings(DnsRebinding, [answer, before]) == []
    assert findings(DnsRebinding, [answer, before, connected(INNER, at=1.0)]) == [expected]


@pytest.mark.parametrize("ttls", [(1, 3600), (3600, 1)], ids=["of the public answer", "of the inner answer"])
def test_one_short_ttl_suffices_for_rebinding(ttls):
    """Who answers chooses both TTLs: a long one beside a short one does not hide the change."""
    answers = [answered("a.evil.com", PUBLIC, ttl=ttls[0]), answered("a.evil.com", INNER, ttl=ttls[1], at=10.0)]
    assert len(findings(DnsRebinding, [*answers, connected(INNER, at=20.0)])) == 1


@pytest.mark.parametrize(
    "changed",
    [{"ttl": 3600}, {"later": 301.0, "connect": 302.0}, {"connect": 400.0}, {"process": OTHER}, {"inner": "8.8.8.8"}],
    ids=["a long TTL", "a late answer", "a late connection", "another program", "two public addresses"],
)
def test_other_changes_are_no_rebinding(changed):
    """A long TTL, too much time, another program, and two public addresses are silent."""
    assert findings(DnsRebinding, rebound(**changed)) == []


def test_rebinding_needs_all_its_steps():
    """An inner name without a public address, and an answer without a connection, are silent."""
    assert findings(DnsRebinding, rebound()[:2]) == []
    assert findings(DnsRebinding, rebound()[1:]) == []


def test_the_state_of_rebinding_is_bounded():
    """Beyond the bound of subjects, one is evicted and counted."""
    run = started(DnsRebinding, subjects=3)
    for place in range(10):
        run.event(answered(f"a{place}.com", PUBLIC, INNER))
    assert run.signature.evicted == 7


def burst(found="qzvaxkwpt.com", address=PUBLIC, names=GENERATED, process=CURL, at=11.0):
    tried = [missing(name, at=place) for place, name in enumerate(names)]
    return [*tried, answered(found, address, at=at), connected(address, process=process, at=at + 1)]


def test_a_generated_name_that_exists_is_reported_when_it_is_used():
    """Ten domains that do not exist, a like one that does, and a connection to it."""
    [found] = findings(DnsGeneratedName, burst())
    assert found == {"domain": "qzvaxkwpt.com", "address": PUBLIC, "missing": GENERATED}


def test_a_connection_before_the_generated_name_exists_is_not_reported():
    """In a turn answers come first: a connection before the answer is none to the name, and hides none after it."""
    answers, before = burst()[:-1], connected(PUBLIC, at=10.5)
    assert findings(DnsGeneratedName, [*answers, before]) == []
    assert len(findings(DnsGeneratedName, [*answers, before, connected(PUBLIC, at=12.0)])) == 1


def test_generated_names_count_from_their_last_time():
    """A program that tries the same domains again an hour later, and then meets one, is reported."""
    tried = [missing(name, at=place) for place, name in enumerate(GENERATED)]
    again = [missing(name, at=3600 + place) for place, name in enumerate(reversed(GENERATED))]
    met = [answered("qzvaxkwpt.com", PUBLIC, at=3620.0), connected(PUBLIC, at=3621.0)]
    [found] = findings(DnsGeneratedName, [*tried, *again, *met])
    assert found["missing"] == GENERATED[::-1]
    assert findings(DnsGeneratedName, [*tried, *again[:9], *met]) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"names": GENERATED[:9]},
        {"names": [f"host{place}.corp.example.com" for place in range(30)]},
        {"found": "github.io"},
        {"found": "a-long-name-with-words.com"},
        {"found": "qzvaxkwpt.org"},
        {"process": OTHER},
        {"at": 400.0},
    ],
    ids=["too few", "one domain", "a suffix", "an unlike name", "another suffix", "another program", "too late"],
)
def test_other_missing_names_are_no_generated_ones(changed):
    """Search suffixes, few names, and a name that is unlike the others are silent."""
    assert findings(DnsGeneratedName, burst(**changed)) == []


MET = [answered("qzvaxkwpt.com", PUBLIC, at=11.0), connected(PUBLIC, at=12.0)]


@pytest.mark.parametrize(
    ("names", "zone", "fires"),
    [
        ([f"www.{name}" for name in GENERATED], "", True),
        ([f"a.b.{name}" for name in GENERATED], "com.", True),
        ([name.replace("com", "corp") for name in GENERATED[:5]] + GENERATED[5:], ".", True),
        ([f"a.{name}" for name in GENERATED], "", False),
        ([f"7.113.0.203.zen.{name}" for name in GENERATED], "zen.{}.", False),
        (GENERATED, "{}.", False),
        (GENERATED, "blocked.example.", False),
    ],
    ids=["www", "denied above", "denied by the root", "ad blocker", "block list", "the domain itself", "a policy zone"],
)
def test_a_domain_is_missing_where_a_zone_above_denies_it(names, zone, fires):
    """A name that does not exist below a domain that does counts for nothing: its zone, or no zone, denies it."""
    domains = [".".join(name.split(".")[-2:]) for name in names]
    tried = [missing(name, zone=zone.format(domain)) for name, domain in zip(names, domains, strict=True)]
    assert len(findings(DnsGeneratedName, [*tried, *MET])) == fires


def test_an_alias_to_a_missing_name_is_not_missing():
    """A name with an alias exists, also where the name to which it leads does not."""
    tried = [missing(name, f"{name} 60 CNAME gone.example.", zone="com.") for name in GENERATED]
    assert findings(DnsGeneratedName, [*tried, *MET]) == []


@pytest.mark.parametrize(("suffixes", "fires"), [(6, True), (5, False)])
def test_a_generator_may_change_the_suffix(suffixes, fires):
    """If more than half of the last suffixes differ, the domain that exists needs none of them."""
    kinds = ["net", "org", "info", "biz", "ru", "tv"][:suffixes]
    tried = [missing(name.replace("com", kinds[place % suffixes])) for place, name in enumerate(GENERATED)]
    assert len(findings(DnsGeneratedName, [*tried, *MET])) == fires


def test_the_state_of_generated_names_is_bounded():
    """Beyond the bound of programs, one is evicted and counted."""
    run = started(DnsGeneratedName, subjects=3)
    for place in range(10):
        run.event(missing("qzvaxkwpt.com", process=replace(CURL, path=f"/bin/{place}")))
    assert run.signature.evicted == 7


@pytest.mark.parametrize(
    ("destination", "resolver"),
    [
        (connected("192.0.2.9", port=853), "192.0.2.9 port 853"),
        (connected("1.1.1.1"), "1.1.1.1"),
        (connected("192.0.2.9", dst_dns=["mozilla.cloudflare-dns.com"]), "mozilla.cloudflare-dns.com"),
        (connected("192.0.2.9", dst_dns=["abc.dns.nextdns.io"]), "dns.nextdns.io"),
        (connected("1.1.1.1", port=80), None),
        (connected("192.0.2.9", dst_dns=["shop.example.com", "dns.google"]), None),
        (connected("192.0.2.9"), None),
    ],
)
def test_encrypted_dns_is_known_by_port_name_or_address(destination, resolver):
    """A finding names the resolver, once a day; another port of a known address, and a lesser name, are silent."""
    found = findings(EncryptedDns, [destination, destination])
    assert [one["resolver"] for one in found] == ([resolver] if resolver else [])


def test_a_server_name_of_a_resolver_is_encrypted_dns():
    """The name that a client states is compared, too."""
    stated = event("net_server_name", args={"server_name": "dns.google", "dst": "192.0.2.9", "dst_port": 443})
    [found] = findings(EncryptedDns, [stated])
    assert found["resolver"] == "dns.google"


def test_the_resolvers_that_were_reported_are_bounded():
    """Beyond the bound of subjects, one is evicted and counted."""
    run = started(EncryptedDns, subjects=3)
    for place in range(10):
        run.event(connected(f"192.0.2.{place}", port=853))
    assert run.signature.evicted == 7


def test_a_connection_to_an_address_that_its_name_left_is_reported():
    """The connection comes after a later answer without the address, and long after the address expired."""
    answers = [answered("a.com", PUBLIC, ttl=60), answered("a.com", "8.8.8.8", ttl=60, at=100.0)]
    late = connected(PUBLIC, at=1000.0)
    [found] = findings(StaleAddress, [*answers, late, late])
    assert (found["name"], found["address"], found["expired"]) == ("a.com", PUBLIC, 60 * 10**9)
    assert findings(StaleAddress, [*answers, connected(PUBLIC, at=900.0)]) == []
    assert findings(StaleAddress, [*answers, connected("8.8.8.8", at=2000.0)]) == []
    assert findings(StaleAddress, [*answers, answered("b.com", PUBLIC, at=500.0), late]) == []
    assert findings(StaleAddress, [answers[0], late]) == []


@pytest.mark.parametrize("others", [("b.com", "a.com"), ("a.com", "b.com")])
def test_an_address_that_another_name_still_gives_is_not_stale(others):
    """The name that gave the address for longer keeps it, whichever came first; when it leaves, too, it is stale."""
    given = [answered(name, PUBLIC, ttl=3600 if name == "b.com" else 60) for name in others]
    left = [*given, answered("a.com", "8.8.8.8", ttl=60, at=100.0)]
    assert findings(StaleAddress, [*left, connected(PUBLIC, at=2000.0)]) == []
    assert findings(StaleAddress, [*left, connected(PUBLIC, at=9000.0)]) == []
    both = [*left, answered("b.com", "8.8.8.8", at=200.0)]
    assert findings(StaleAddress, [*both, connected(PUBLIC, at=4499.0)]) == []
    [found] = findings(StaleAddress, [*both, connected(PUBLIC, at=4500.0)])
    assert (found["name"], found["expired"]) == ("b.com", 3600 * 10**9)


def test_an_address_is_stale_after_every_answer_with_it_expired():
    """A name leaves an address that another one gives for less time: it is stale, but not while that time runs."""
    left = [
        answered("a.com", PUBLIC, ttl=3600),
        answered("b.com", PUBLIC, ttl=1800),
        answered("a.com", PUBLIC, ttl=60, at=10.0),
        answered("a.com", "8.8.8.8", ttl=60, at=100.0),
    ]
    assert findings(StaleAddress, [*left, connected(PUBLIC, at=2000.0)]) == []
    [found] = findings(StaleAddress, [*left, connected(PUBLIC, at=4500.0)])
    assert (found["name"], found["expired"]) == ("a.com", 3600 * 10**9)


def test_an_expired_answer_of_another_name_keeps_no_address():
    """A name whose answer expired before the other name left the address does not count."""
    given = [answered("b.com", PUBLIC, ttl=600), answered("a.com", PUBLIC, ttl=60, at=10.0)]
    answers = [*given, answered("a.com", "8.8.8.8", ttl=60, at=600.0)]
    assert len(findings(StaleAddress, [*answers, connected(PUBLIC, at=1500.0)])) == 1


def test_the_state_of_stale_addresses_is_bounded():
    """Beyond the bound of subjects, one is evicted and counted."""
    run = started(StaleAddress, subjects=3)
    for place in range(10):
        run.event(answered(f"a{place}.com", PUBLIC))
    assert run.signature.evicted == 7


def test_an_address_beyond_the_bound_is_not_stale():
    """An address that was evicted is silent when its name leaves it: another name could still give it."""
    answers = [answered("a.com", PUBLIC, "9.9.9.9", ttl=60), answered("a.com", "8.8.8.8", ttl=60, at=100.0)]
    connections = [connected(address, at=2000.0) for address in (PUBLIC, "9.9.9.9")]
    [found] = findings(StaleAddress, [*answers, *connections], subjects=1)
    assert found["address"] == "9.9.9.9"


def without_dns(*events, lookups=None, **settings):
    run = SignatureRun(ConnectionWithoutDns, lookups, replace(ConnectionWithoutDns.settings, **settings))
    for one in events:
        run.event(one)
    return [finding.data for finding in run.findings]


def test_a_connection_without_dns_is_reported_after_the_warm_up():
    """A connection to a public address without any answer is reported once an hour."""
    begin, late = dns_query("a.com"), connected("93.184.215.14", at=1801.0)
    assert without_dns(begin, late, late) == [{"address": PUBLIC, "port": 443}]
    assert without_dns(begin, connected(PUBLIC, at=1799.0)) == []
    assert without_dns(begin, connected(PUBLIC, at=10.0), warm_up=5) == [{"address": PUBLIC, "port": 443}]


@pytest.mark.parametrize(
    "connection",
    [
        connected(PUBLIC, at=10.0, dst_dns=["a.com"]),
        connected(PUBLIC, at=10.0, port=53),
        connected("10.0.0.1", at=10.0),
        connected("127.0.0.1", at=10.0),
    ],
    ids=["named", "a DNS port", "inner", "loopback"],
)
def test_ordinary_connections_are_not_reported(connection):
    """A connection with a name, to a DNS port, or to an inner address is silent."""
    assert without_dns(dns_query("a.com"), connection, warm_up=0) == []


def test_an_address_that_the_cache_knows_is_not_reported():
    """The cache is asked before a finding: the event has no names while no cache answers."""
    known = {PUBLIC: {"ip_addresses": [], "dns_queries": ["a.com"], "dns_root": "a.com"}}
    assert without_dns(connected(PUBLIC), lookups=known, warm_up=0) == []


def test_nothing_is_reported_while_events_are_lost():
    """An answer can be among the lost events."""
    assert without_dns(dataclasses.replace(connected(PUBLIC), coverage=0.9), warm_up=0) == []
    assert len(without_dns(dataclasses.replace(connected(PUBLIC), coverage=1.0), warm_up=0)) == 1


def test_connections_without_dns_need_the_cache():
    """Without the data source the signature does not start."""
    with pytest.raises(DataSourceMissing):
        ConnectionWithoutDns().init(SignatureContext(print, DataSources(), None))


def test_what_was_reported_without_dns_is_bounded():
    """Beyond the bound of subjects, one is evicted and counted."""
    run = started(ConnectionWithoutDns, warm_up=0, subjects=3)
    for place in range(10):
        run.event(connected(f"93.184.215.{place}"))
    assert run.signature.evicted == 7


@pytest.mark.parametrize("cls", [DnsRebinding, DnsGeneratedName, StaleAddress])
def test_one_answer_evicts_little(cls):
    """An answer with thousands of addresses takes at most 128 places, so that nobody else's state is lost at once."""
    run = started(cls)
    many = [f"{100 + place // 65536}.{place // 256 % 256}.{place % 256}.1" for place in range(4000)]
    for one in (*burst()[:10], answered("qzvaxkwpt.com", *many, INNER, at=11.0), answered("qzvaxkwpt.com", PUBLIC)):
        run.event(one)
    assert max(len(table) for table in run.signature.tables()) <= MOST_ADDRESSES + 1
    assert run.signature.evicted == 0
