from __future__ import annotations

import json
import threading

import msgpack
import pytest

from dnstrail import client
from dnstrail.bus.ipc import lookups_address
from dnstrail.client import DnsDataSource, LookupClient
from dnstrail.datasource import DataSources
from dnstrail.errors import DataNotFound, DataSourceError, KeyNotSupported, LookupRefused, SettingsError, Unavailable
from live.workers import BOUND, answering, asker, cache, open_bus, probe, response, seen, short_folder, wait_until_seen

A_COM = {"ip_addresses": ["192.0.2.1"], "dns_queries": ["a.com"], "dns_root": "a.com"}
SHOUTED = {"ip_addresses": ["192.0.2.2"], "dns_queries": ["b.com"], "dns_root": "b.com"}


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


@pytest.fixture
def address(folder):
    return lookups_address(folder)


@pytest.fixture
def bus():
    with open_bus() as bus:
        yield bus


@pytest.fixture
def known(folder):
    """A cache that knows a.com and b.com; gives its address."""
    with cache(folder) as address, probe(folder) as publishing, asker(address) as plain:
        a, b = response("a.com", "a.com 60 A 192.0.2.1"), response("b.com", "b.com 60 A 192.0.2.2")
        wait_until_seen(plain, publishing.turn(seen(a), seen(b)))
        yield address


@pytest.fixture
def replying(address, bus):
    """Gives a data source that gets a reply of the test's choice."""

    def source(reply):
        replies.append(reply)
        return DnsDataSource(address, bus=bus, timeout=BOUND)

    replies = []
    with answering(address, lambda _body: replies[-1]):
        yield source


def test_get_finds_the_three_fields(known, bus):
    """The data source answers with the fields of its schema and no others."""
    found = DnsDataSource(known, bus=bus).get("a.com")
    assert found == A_COM
    assert found.keys() == json.loads(DnsDataSource(known, bus=bus).schema()).keys()


@pytest.mark.parametrize("key", ["A.com.", " a.com ", "192.0.2.1", "::ffff:192.0.2.1", "1.2.0.192.in-addr.arpa"])
def test_get_takes_a_key_in_any_form(known, bus, key):
    """Names and addresses are found however they are written."""
    assert DnsDataSource(known, bus=bus).get(key) == A_COM


@pytest.mark.parametrize("key", ["c.com", "", "192.0.2.9", "a" * 64 + ".com", "\udcff", "a\ud800.com"])
def test_what_is_not_known_is_not_found(known, bus, key):
    """A key that the cache does not know, no name at all and one that no wire can carry raise DataNotFound."""
    with pytest.raises(DataNotFound, match=r"^requested data was not found$") as caught:
        DnsDataSource(known, bus=bus).get(key)
    assert caught.value.key == key


@pytest.mark.parametrize("key", [None, 1, 1.5, b"a.com", ["a.com"], {"a.com": 1}, object()], ids=repr)
def test_a_key_that_is_no_string_is_not_supported(address, bus, key):
    """Another type of key raises KeyNotSupported, without asking anybody."""
    with pytest.raises(KeyNotSupported, match=r"^queried key is not supported$") as caught:
        DnsDataSource(address, bus=bus).get(key)
    assert caught.value.key is key


def test_a_key_that_is_too_long_is_refused(known, bus):
    """What the cache refuses carries its code and its reason."""
    with pytest.raises(LookupRefused, match="bad_request: a key of 1025 bytes; 1024 at most") as caught:
        DnsDataSource(known, bus=bus).get("x" * 1025)
    assert caught.value.code == "bad_request"


def test_get_many_answers_in_the_order_of_the_keys(known, bus):
    """Each key has its answer at its place, and None where nothing is known."""
    asked = iter(["b.com", "c.com", "a.com", "not a name..", "b.com"])
    assert DnsDataSource(known, bus=bus).get_many(asked) == [SHOUTED, None, A_COM, None, SHOUTED]


def test_get_many_of_nothing_is_nothing(known, bus):
    """No keys, no answers."""
    assert DnsDataSource(known, bus=bus).get_many([]) == []


def test_get_many_takes_1024_keys(known, bus):
    """The limit is 1,024 keys; one more is refused."""
    source = DnsDataSource(known, bus=bus, timeout=BOUND)
    assert source.get_many(["a.com"] * 1024) == [A_COM] * 1024
    with pytest.raises(LookupRefused, match="bad_request: 1025 keys; 1024 at most"):
        source.get_many(["a.com"] * 1025)


def test_the_data_source_says_what_it_is(address, bus):
    """Namespace, id, version, keys and schema are those of tracee's DNS data source."""
    source = DnsDataSource(address, bus=bus)
    assert (source.namespace(), source.id(), source.version(), source.keys()) == ("tracee", "dns", 1, ["string"])
    assert source.schema() == '{"ip_addresses":"[]string","dns_queries":"[]string","dns_root":"string"}'


@pytest.mark.parametrize("key", ["a.com", "1.2.3.4"])
def test_without_a_cache_it_is_unavailable(address, bus, key):
    """A lookup that nobody answers ends with an error that names the address and the time."""
    with pytest.raises(Unavailable, match=f"no cache answered at {address} within 0.05 s") as caught:
        DnsDataSource(address, bus=bus, timeout=0.05).get(key)
    assert (caught.value.address, caught.value.seconds) == (address, 0.05)


def test_it_works_again_when_a_cache_appears(folder, address, bus):
    """A data source outlives its cache: unavailable before it starts and after it ends, well while one is there."""
    source = DnsDataSource(address, bus=bus, timeout=0.05)
    patient = DnsDataSource(address, bus=bus, timeout=BOUND)
    for _ in range(2):
        with pytest.raises(Unavailable):
            source.get("a.com")
        with cache(folder), pytest.raises(DataNotFound):
            patient.get("a.com")


def test_a_request_that_was_lost_is_made_again(address, bus):
    """A first request that stays without an answer is repeated within the time."""
    asked = []
    answered = msgpack.packb({"v": 1, "ok": True, "data": A_COM})
    with answering(address, lambda body: asked.append(body) or (answered if len(asked) > 1 else None)):
        assert DnsDataSource(address, bus=bus, timeout=2.0).get("a.com") == A_COM
    assert len(asked) == 2
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "bad_reply: no MessagePack"),
        (b"\xc1", "bad_reply: no MessagePack"),
        (b"\x80trailing", "bad_reply: no MessagePack"),
        (b"\x91" * 5000, "bad_reply: no MessagePack"),
        (msgpack.packb([1]), "bad_reply: no map came back"),
        (msgpack.packb(None), "bad_reply: no map came back"),
        (msgpack.packb({"ok": False, "error": "bad_request", "message": "why"}), "^bad_request: why$"),
        (msgpack.packb({"ok": False, "error": "overloaded", "message": "full"}), "^overloaded: full$"),
        (msgpack.packb({"ok": False, "error": [1]}), "1"),
        (msgpack.packb({}), "None"),
    ],
    ids=["empty", "no MessagePack", "trailing", "deep", "a list", "nil", "refused", "overloaded", "a list", "{}"],
)
def test_an_odd_reply_is_refused(replying, body, text):
    """Whatever a server sends back that is no answer is LookupRefused, an error of data sources."""
    with pytest.raises(LookupRefused, match=text) as caught:
        replying(body).get("a.com")
    assert isinstance(caught.value, DataSourceError)


@pytest.mark.parametrize(("code", "error"), [("data_not_found", DataNotFound), ("key_not_supported", KeyNotSupported)])
def test_codes_become_tracees_errors(replying, code, error):
    """The two codes that tracee knows raise tracee's two errors, with the key."""
    with pytest.raises(error) as caught:
        replying(msgpack.packb({"v": 1, "ok": False, "error": code, "message": ""})).get("a.com")
    assert caught.value.key == "a.com"


def test_later_versions_may_say_more(replying):
    """Fields that this version does not know are passed over."""
    data = {**A_COM, "state": "live", "new": [1]}
    assert replying(msgpack.packb({"v": 1, "ok": True, "data": data, "new": 1})).get("a.com") == A_COM


def test_marks_are_sent_along(address, bus):
    """Every lookup carries the marks of the events at hand."""
    asked = []
    reply = msgpack.packb({"v": 1, "ok": True, "data": A_COM, "complete": True})
    with answering(address, lambda body: asked.append(msgpack.unpackb(body)) or reply):
        source = DnsDataSource(address, bus=bus, timeout=BOUND)
        source.get("a")
        source.after = [("one", 7), ("two", 0)]
        source.get("b")
    assert asked == [
        {"v": 1, "op": "get", "key": "a", "after": []},
        {"v": 1, "op": "get", "key": "b", "after": [["one", 7], ["two", 0]]},
    ]


BEHIND = {"v": 1, "ok": True, "data": {**A_COM, "ip_addresses": []}, "complete": False}
MISSING = {"v": 1, "ok": False, "error": "data_not_found", "message": "", "complete": False}


@pytest.mark.parametrize("early", [BEHIND, MISSING], ids=["an old answer", "none"])
def test_a_cache_that_is_behind_is_asked_again(address, bus, monkeypatch, early):
    """An answer that is not complete though the cache waited for it is asked for anew, until it is."""
    monkeypatch.setattr(client, "_WAITED", 0.0)
    replies = [early, early, {"v": 1, "ok": True, "data": A_COM, "complete": True}]
    with answering(address, lambda _body: msgpack.packb(replies.pop(0))):
        assert DnsDataSource(address, bus=bus, timeout=BOUND).get("a.com") == A_COM
    assert replies == []


def test_a_mark_that_never_will_be_reached_is_not_waited_for(address, bus, monkeypatch):
    """An answer that came at once and is not complete stands."""
    monkeypatch.setattr(client, "_WAITED", BOUND)
    replies = [MISSING, BEHIND]
    with answering(address, lambda _body: msgpack.packb(replies.pop())):
        source = DnsDataSource(address, bus=bus, timeout=BOUND)
        assert source.get("a.com")["ip_addresses"] == []
        with pytest.raises(DataNotFound):
            source.get("a.com")


def test_a_cache_that_stays_behind_is_given_up(address, bus, monkeypatch):
    """Asking again ends after a bounded time, with what is known then."""
    monkeypatch.setattr(client, "_WAITED", 0.0)
    monkeypatch.setattr(client, "_PATIENCE", 0.05)
    with answering(address, lambda _body: msgpack.packb(BEHIND)):
        assert DnsDataSource(address, bus=bus, timeout=BOUND).get("a.com")["ip_addresses"] == []


def test_a_client_without_a_bus_has_its_own(known):
    """A client on its own opens a bus and closes it again."""
    lookups = LookupClient(known, timeout=BOUND)
    assert lookups.request("version")["data"] == 1
    lookups.close()
    assert lookups._own_bus._context.closed


def test_clients_in_threads_are_independent(known):
    """Several clients, each in a thread of its own, get each their own answers."""
    wrong = []

    def ask(name, expected):
        source = DnsDataSource(known, timeout=BOUND)
        wrong.extend(found for _ in range(100) if (found := source.get(name)) != expected)
        source.close()

    threads = [threading.Thread(target=ask, args=each) for each in [("a.com", A_COM), ("b.com", SHOUTED)] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    assert wrong == []


def test_one_name_has_one_data_source(address, bus):
    """Data sources are found by namespace and id; a second one of the same name is a SettingsError that says so."""
    source = DnsDataSource(address, bus=bus)
    sources = DataSources(source)
    assert sources.get("tracee", "dns") is source
    assert sources.get("tracee", "other") is sources.get("other", "dns") is None
    with pytest.raises(SettingsError, match="tracee/dns is registered already"):
        sources.register(DnsDataSource(address, bus=bus))
