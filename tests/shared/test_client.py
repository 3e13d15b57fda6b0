"""Tests of dnstrail.client, dnstrail.cache_connection."""

from __future__ import annotations

import grp
import json
import os
import socket
import subprocess
import sys
import threading
from functools import partial

import msgpack
import pytest

from dnstrail.bus import ipc
from dnstrail.bus.ipc import lookups_address, socket_path
from dnstrail.captured import Captured, Flow, Process
from dnstrail.client import DnsDataSource, LookupClient, lookups_after
from dnstrail.connection import Connection
from dnstrail.datasource import DataSources
from dnstrail.errors import DataNotFound, DataSourceError, KeyNotSupported, LookupRefused, SettingsError, Unavailable
from dnstrail.events import NET_TCP_CONNECT
from dnstrail.protocol.lookups import ConnectionTo
from live.workers import (
    BOUND,
    FakeClock,
    answering,
    asker,
    cache,
    open_bus,
    probe,
    response,
    running,
    seen,
    short_folder,
    wait_until_seen,
)

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
    """Yield the address of a cache that applied answers about a.com and b.com."""
    with cache(folder) as address, probe(folder) as publishing, asker(address) as plain:
        a, b = response("a.com", "a.com 60 A 192.0.2.1"), response("b.com", "b.com 60 A 192.0.2.2")
        wait_until_seen(plain, publishing.turn(seen(a), seen(b)))
        yield address


@pytest.fixture
def replying(address, bus):
    """Give a data source whose requests all get one reply."""

    def source(reply):
        replies.append(reply)
        return DnsDataSource(address, bus=bus, timeout=BOUND)

    replies = []
    with answering(address, lambda _body: replies[-1]):
        yield source


def test_get_returns_the_three_fields(known, bus):
    """A result contains the fields of the schema and no others."""
    found = DnsDataSource(known, bus=bus, timeout=BOUND).get("a.com")
    assert found == A_COM
    assert found.keys() == json.loads(DnsDataSource(known, bus=bus, timeout=BOUND).schema()).keys()


@pytest.mark.parametrize("key", ["A.com.", " a.com ", "192.0.2.1", "::ffff:192.0.2.1", "1.2.0.192.in-addr.arpa"])
def test_get_takes_a_key_in_any_form(known, bus, key):
    """Names and addresses are found in every spelling."""
    assert DnsDataSource(known, bus=bus, timeout=BOUND).get(key) == A_COM


def test_get_finds_the_name_of_an_open_connection(folder, bus):
    """With a connection, `get` has its name first, also as the only name once the answers have been removed."""
    flow = Flow(b"", 0, bytes([192, 0, 2, 1]), 443, "tcp", 7, 1, egress=True)
    arguments = {"dst": "192.0.2.1", "dst_port": 443}
    connects = Captured(round(1001e9), b"", flow, Process(70, start_time=1), arguments)
    with cache(folder) as address, probe(folder) as publishing, asker(address) as plain:
        source = DnsDataSource(address, bus=bus)
        publishing.turn(seen(response("a.com", "a.com 60 A 192.0.2.1")), (NET_TCP_CONNECT, connects))
        later = seen(response("b.com", "b.com 60 A 192.0.2.1"), at=2000.0)
        wait_until_seen(plain, publishing.turn(later))
        mine, other = Connection(process=70, port=443), Connection(process=71, port=443)
        assert source.get("192.0.2.1", connection=mine)["dns_queries"] == ["a.com", "b.com"]
        assert source.get("192.0.2.1", connection=other)["dns_queries"] == ["b.com"]
        wait_until_seen(plain, publishing.turn(seen(response("c.com", "c.com 60 A 192.0.2.3"), at=9000.0)))
        assert source.get("192.0.2.1", connection=mine)["dns_root"] == "a.com"
        with pytest.raises(DataNotFound):
            source.get("192.0.2.1", connection=other)


@pytest.mark.parametrize("key", ["c.com", "", "192.0.2.9", "a" * 64 + ".com", "\udcff", "a\ud800.com"])
def test_a_key_without_data_is_not_found(known, bus, key):
    """An unknown key, an empty one and one that MessagePack cannot encode raise DataNotFound."""
    with pytest.raises(DataNotFound, match=r"^requested data was not found$") as caught:
        DnsDataSource(known, bus=bus, timeout=BOUND).get(key)
    assert caught.value.key == key


@pytest.mark.parametrize("key", [None, 1, 1.5, b"a.com", ["a.com"], {"a.com": 1}, object()], ids=repr)
def test_a_key_that_is_no_string_is_not_supported(address, bus, key):
    """Another type of key raises KeyNotSupported without a request."""
    with pytest.raises(KeyNotSupported, match=r"^queried key is not supported$") as caught:
        DnsDataSource(address, bus=bus).get(key)
    assert caught.value.key is key


def test_a_key_that_is_too_long_is_refused(known, bus):
    """A refusal carries its error code and its reason."""
    with pytest.raises(LookupRefused, match="bad_request: a key of 1025 bytes; 1024 at most") as caught:
        DnsDataSource(known, bus=bus, timeout=BOUND).get("x" * 1025)
    assert caught.value.code == "bad_request"


def test_get_many_answers_in_the_order_of_the_keys(known, bus):
    """Each key has its result at its place, None where there are no data."""
    asked = iter(["b.com", "c.com", "a.com", "not a name..", "b.com"])
    assert DnsDataSource(known, bus=bus, timeout=BOUND).get_many(asked) == [SHOUTED, None, A_COM, None, SHOUTED]


def test_get_many_of_no_keys_is_empty(known, bus):
    """A request without keys has no results."""
    assert DnsDataSource(known, bus=bus, timeout=BOUND).get_many([]) == []


def test_get_many_takes_1024_keys(known, bus):
    """The limit is 1,024 keys; one more is refused."""
    source = DnsDataSource(known, bus=bus, timeout=BOUND)
    assert source.get_many(["a.com"] * 1024) == [A_COM] * 1024
    with pytest.raises(LookupRefused, match="bad_request: 1025 keys; 1024 at most"):
        source.get_many(["a.com"] * 1025)


def test_the_data_source_describes_itself(address, bus):
    """Namespace, id, version, keys and schema equal tracee's DNS data source."""
    source = DnsDataSource(address, bus=bus)
    assert (source.namespace(), source.id(), source.version(), source.keys()) == ("tracee", "dns", 1, ["string"])
    assert source.schema() == '{"ip_addresses":"[]string","dns_queries":"[]string","dns_root":"string"}'


@pytest.mark.parametrize("key", ["a.com", "1.2.3.4"])
def test_without_a_cache_it_is_unavailable(address, bus, key):
    """A lookup without an answer raises an error that names the address and the time."""
    with pytest.raises(Unavailable, match=f"no cache answered at {address} within 0.05 s") as caught:
        DnsDataSource(address, bus=bus, timeout=0.05).get(key)
    assert (caught.value.address, caught.value.seconds) == (address, 0.05)


def test_it_works_again_when_a_cache_appears(folder, address, bus):
    """A data source outlives its cache: it is unavailable only before the cache starts and after it ends."""
    source = DnsDataSource(address, bus=bus, timeout=0.05)
    patient = DnsDataSource(address, bus=bus, timeout=BOUND)
    for _ in range(2):
        with pytest.raises(Unavailable):
            source.get("a.com")
        with cache(folder), pytest.raises(DataNotFound):
            patient.get("a.com")


def test_a_request_that_was_lost_is_made_again(address, bus):
    """A request without an answer is repeated once within the time."""
    asked = []
    answered = msgpack.packb({"v": 1, "ok": True, "data": A_COM})
    with answering(address, lambda body: asked.append(body) or (answered if len(asked) > 1 else None)):
        assert DnsDataSource(address, bus=bus, timeout=2.0).get("a.com") == A_COM
    assert len(asked) == 2
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "bad_reply: no MessagePack map"),
        (b"\xc1", "bad_reply: no MessagePack map"),
        (b"\x80trailing", "bad_reply: no MessagePack map"),
        (b"\x91" * 5000, "bad_reply: no MessagePack map"),
        (msgpack.packb([1]), "bad_reply: no MessagePack map"),
        (msgpack.packb(None), "bad_reply: no MessagePack map"),
        (msgpack.packb({"ok": False, "error": "bad_request", "message": "why"}), "^bad_request: why$"),
        (msgpack.packb({"ok": False, "error": "overloaded", "message": "full"}), "^overloaded: full$"),
        (msgpack.packb({"ok": False, "error": [1]}), "1"),
        (msgpack.packb({}), "None"),
    ],
    ids=["empty", "no MessagePack", "trailing", "deep", "a list", "nil", "refused", "overloaded", "a list", "{}"],
)
def test_an_odd_reply_is_refused(replying, body, text):
    """A reply that is no valid answer raises LookupRefused, an error of data sources."""
    with pytest.raises(LookupRefused, match=text) as caught:
        replying(body).get("a.com")
    assert isinstance(caught.value, DataSourceError)


@pytest.mark.parametrize(("code", "error"), [("data_not_found", DataNotFound), ("key_not_supported", KeyNotSupported)])
def test_codes_become_tracees_errors(replying, code, error):
    """The two error codes of tracee raise tracee's two errors, with the key."""
    with pytest.raises(error) as caught:
        replying(msgpack.packb({"v": 1, "ok": False, "error": code, "message": ""})).get("a.com")
    assert caught.value.key == "a.com"


def test_fields_of_later_versions_are_ignored(replying):
    """A reply may contain fields that this version does not use."""
    data = {**A_COM, "state": "live", "new": [1]}
    assert replying(msgpack.packb({"v": 1, "ok": True, "data": data, "new": 1})).get("a.com") == A_COM


@pytest.fixture
def marks_sent(address):
    """Yield the marks of each request to a server that answers every key alike."""
    sent = []
    reply = msgpack.packb({"v": 1, "ok": True, "data": A_COM, "complete": True})

    def answer(body):
        request = msgpack.unpackb(body)
        sent.append((request["key"], request["after"]))
        return reply

    with answering(address, answer):
        yield sent


def test_a_lookup_carries_the_marks_of_its_call(address, bus, marks_sent):
    """`after` goes before the marks of `lookups_after`, and holds for one call."""
    source = DnsDataSource(address, bus=bus, timeout=BOUND)
    source.get("a")
    source.get("b", after=[("one", 7), ("two", 0)])
    with lookups_after(("three", 3)):
        source.get("c")
        source.get("d", after=())
        with lookups_after(("four", 4)):
            source.get("e")
        source.get("f")
    source.get("g")
    three, four = [["three", 3]], [["four", 4]]
    assert marks_sent == [
        *[("a", []), ("b", [["one", 7], ["two", 0]]), ("c", three), ("d", []), ("e", four), ("f", three), ("g", [])]
    ]


def test_a_lookup_has_the_time_of_its_call(address, bus):
    """`at` and `at_ns` go before the time of the event of `lookups_after`; else a lookup names no time."""
    sent = []
    reply = msgpack.packb({"v": 1, "ok": True, "data": A_COM})

    def answer(body):
        request = msgpack.unpackb(body)
        times = {name: request[name] for name in ("at", "at_ns", "event") if name in request}
        sent.append((request["key"], times))
        return reply

    with answering(address, answer):
        source = DnsDataSource(address, bus=bus, timeout=BOUND)
        source.get("a")
        with lookups_after(("s", 3), event=("s", 10**18)):
            source.get("b")
            source.get("c", at=5.5)
            source.get("c", at_ns=5_500_000_001)
            with lookups_after(("s", 4)):
                source.get("d")
    expected = [{}, {"event": ["s", 10**18]}, {"at": 5.5}, {"at_ns": 5_500_000_001}, {}]
    assert sent == list(zip("abccd", expected, strict=True))


@pytest.mark.parametrize("history", [True, False])
def test_the_caller_learns_of_a_lost_history(replying, history):
    """A result has the three fields of the schema alone, and an attribute that states whether the past is known."""
    found = replying(msgpack.packb({"v": 1, "ok": True, "data": {**A_COM, "history": history}})).get("a.com")
    assert (found, found.history) == (A_COM, history)


@pytest.mark.parametrize("history", [True, False])
def test_a_miss_tells_of_a_lost_history(replying, history):
    """A key that is not found may have been known at that time: the error states it."""
    refusal = {"v": 1, "ok": False, "error": "data_not_found", "message": "", **({} if history else {"history": False})}
    with pytest.raises(DataNotFound) as raised:
        replying(msgpack.packb(refusal)).get("a.com", at=1.0)
    assert raised.value.history is history


@pytest.mark.parametrize("history", [True, False])
def test_the_results_of_many_keys_tell_of_a_lost_history(replying, history):
    """A list with None for a key that may have been known at that time has the attribute `history`."""
    reply = {"v": 1, "ok": True, "data": [A_COM, None], **({} if history else {"history": False})}
    found = replying(msgpack.packb(reply)).get_many(["a.com", "b.com"], at=1.0)
    assert (found, found.history) == ([A_COM, None], history)


def test_a_text_that_is_none_is_refused(known, bus):
    """Bytes that are no text, in another field than the key, are no reason not to find the key."""
    source = DnsDataSource(known, bus=bus, timeout=BOUND)
    with pytest.raises(LookupRefused, match=r"^bad_request: '\\udcff' is no text$"):
        source.get("a.com", connection=Connection(container="\udcff"))
    with pytest.raises(LookupRefused, match="bad_request"):
        source.client.request("connections", container="\udcff")


def test_threads_that_share_a_data_source_have_their_own_marks(address, bus, marks_sent):
    """However the lookups of several threads interleave, each carries the marks of its own thread."""
    source = DnsDataSource(address, bus=bus, timeout=BOUND)
    together = threading.Barrier(4)

    def ask(number):
        def target(_bus, _stop):
            for turn in range(50):
                with lookups_after((str(number), turn)):
                    together.wait(BOUND)
                    assert source.get(f"{number} {turn}") == A_COM

        return target

    with running(ask(0)), running(ask(1)), running(ask(2)), running(ask(3)):
        pass
    assert sorted(marks_sent) == sorted((f"{n} {turn}", [[str(n), turn]]) for n in range(4) for turn in range(50))


BEHIND = {"v": 1, "ok": True, "data": {**A_COM, "ip_addresses": []}, "complete": False}
MISSING = {"v": 1, "ok": False, "error": "data_not_found", "message": "", "complete": False}
WHOLE = {"v": 1, "ok": True, "data": A_COM, "complete": True}


@pytest.fixture
def slow(address, bus):
    """Give a data source of a cache that takes some seconds, on the clock of the test, for each of its replies.

    The last reply is repeated. `asked` is the number of requests.
    """

    def source(seconds, *replies):
        waiting.extend((seconds, msgpack.packb(reply)) for reply in replies)
        beat = partial(source.beats.append, 1)
        return DnsDataSource(address, bus=bus, timeout=BOUND, monotonic=clock.monotonic, beat=beat)

    def answer(_body):
        source.asked += 1
        seconds, reply = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        clock.monotonic_time += seconds
        return reply

    source.asked, source.beats = 0, []
    clock, waiting = FakeClock(monotonic=0.0), []
    with answering(address, answer):
        yield source


@pytest.mark.parametrize("early", [BEHIND, MISSING], ids=["an old result", "no data"])
def test_a_cache_that_is_behind_is_asked_again(slow, early):
    """An incomplete reply of a cache that waited for its events is asked for again, until it is complete."""
    assert slow(0.1, early, early, WHOLE).get("a.com") == A_COM
    assert slow.asked == 3


def test_an_incomplete_reply_that_came_at_once_stands(slow):
    """An incomplete reply at once means that a mark is out of reach: the cache is not asked again."""
    assert slow(0.099, BEHIND, WHOLE).get("a.com")["ip_addresses"] == []
    assert slow.asked == 1


def test_missing_data_that_came_at_once_stand(slow):
    """The same holds for a key without data."""
    with pytest.raises(DataNotFound):
        slow(0.099, MISSING, WHOLE).get("a.com")
    assert slow.asked == 1


def test_a_cache_that_stays_behind_is_given_up(slow):
    """After five seconds the last incomplete reply is the result."""
    assert slow(1.0, BEHIND).get("a.com")["ip_addresses"] == []
    assert slow.asked == 5


def test_a_lookup_that_waits_beats(slow):
    """While a lookup waits for a cache that is behind, the worker beats once for each request: it does not hang."""
    slow(1.0, BEHIND).get("a.com")
    assert len(slow.beats) == slow.asked == 5


def test_a_key_that_stays_unknown_is_given_up(slow):
    """After five seconds DataNotFound is raised, with `complete` false."""
    with pytest.raises(DataNotFound) as caught:
        slow(1.0, MISSING).get("a.com")
    assert (slow.asked, caught.value.complete) == (5, False)


def test_without_patience_a_cache_is_asked_once(slow):
    """`patience=0` accepts the first reply, however incomplete."""
    reply = {**BEHIND, "data": [A_COM]}
    assert slow(1.0, reply).get_many(["a.com"], patience=0) == [A_COM]
    assert slow.asked == 1


def test_rank_returns_the_names_of_each_connection(known, bus):
    """Each connection has the names of its address at its place, and [] where none is known."""
    connections = [ConnectionTo(address=to, process=7) for to in ("192.0.2.2", "198.51.100.1", "192.0.2.1")]
    source = DnsDataSource(known, bus=bus, timeout=BOUND)
    assert source.rank(connections) == [["b.com"], [], ["a.com"]]
    assert source.rank([]) == []


@pytest.mark.parametrize("data", [None, [], [[], []], ["a.com"], {"0": []}], ids=repr)
def test_an_odd_reply_to_rank_is_refused(replying, data):
    """A reply without one list of names for each connection is refused."""
    source = replying(msgpack.packb({"v": 1, "ok": True, "data": data}))
    with pytest.raises(LookupRefused, match="bad_reply"):
        source.rank([ConnectionTo(address="::1")])


def test_losses_are_reported(known, bus):
    """The cache adds the reported losses of a worker to its stats."""
    lookups = LookupClient(known, bus=bus, timeout=BOUND)
    assert lookups.report_losses("worker 1", {"net_packet_dns": 2}) is True
    assert lookups.request("stats")["data"]["lost"]["workers"] == {"net_packet_dns": 2}


def test_a_report_that_no_cache_received_is_not_accepted(address, bus):
    """Without a cache a report is not accepted, so that it is repeated later."""
    assert LookupClient(address, bus=bus, timeout=0.05).report_losses("worker 1", {"net_packet_dns": 3}) is False


def test_a_report_that_a_cache_refuses_is_not_repeated(address, bus):
    """A cache of an earlier version refuses reports, and will refuse them later: the report counts as accepted."""
    refusal = msgpack.packb({"v": 1, "ok": False, "error": "bad_request", "message": "unknown op"})
    with answering(address, lambda _body: refusal):
        assert LookupClient(address, bus=bus, timeout=BOUND).report_losses("worker 1", {}) is True


def reason_at(address, bus):
    """Return the reason and the text with which a lookup at an address fails."""
    with pytest.raises(Unavailable) as caught:
        LookupClient(address, bus=bus, timeout=0.05).request("version")
    return caught.value.reason, str(caught.value)


@pytest.fixture
def alone(monkeypatch):
    """Return a host without any other run-dir."""
    monkeypatch.setattr(ipc, "_run_dirs", list)


@pytest.mark.usefixtures("alone")
def test_without_a_socket_the_cache_is_absent(address, bus):
    """No socket at the address: the error names the command to start."""
    reason, text = reason_at(address, bus)
    assert (reason, "start `dnstrail` or `dnstrail cache`" in text) == ("absent", True)


@pytest.mark.usefixtures("alone")
def test_a_socket_that_a_killed_cache_left_is_absent(address, bus):
    """A socket file that nobody serves is no cache."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(socket_path(address)))
    assert reason_at(address, bus)[0] == "absent"


def test_a_cache_in_another_run_dir_is_named(folder, address, bus, monkeypatch):
    """If a cache serves another run-dir, the error names that one."""
    monkeypatch.setenv("DNSTRAIL_RUN_DIR", str(folder / "other"))
    with cache(folder / "other"):
        reason, text = reason_at(address, bus)
    assert (reason, f"use --run-dir {folder}/other" in text) == ("elsewhere", True)


@pytest.mark.parametrize("served", [True, False])
def test_a_run_dir_that_this_user_may_not_open_is_named_as_such(folder, address, bus, monkeypatch, served):
    """A run-dir that is out of reach may be served: the error names the group. One that is served comes first."""
    closed, other = folder / "closed", folder / "other"
    monkeypatch.setattr(ipc, "_run_dirs", lambda: [closed, *([other] if served else [])])
    connect = ipc._connect

    def refusing(path):
        if path.parent == closed:
            raise PermissionError
        connect(path)

    monkeypatch.setattr(ipc, "_connect", refusing)
    monkeypatch.setattr(ipc, "_remedy_of", lambda path: f"join the group of {path}")
    closed.mkdir()
    with cache(other):
        reason, text = reason_at(address, bus)
    if served:
        assert (reason, f"a cache serves {other}: use --run-dir {other}" in text) == ("elsewhere", True)
    else:
        remedy = f"a cache may serve {closed}, which this user may not open: join the group of {closed}/lookups.sock"
        assert (reason, remedy in text) == ("permission", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away")
def test_a_run_dir_of_a_stranger_is_never_named(folder, address, bus, monkeypatch):
    """A socket in a folder of another user is not recommended: anybody may offer one."""
    monkeypatch.setattr(ipc, "_run_dirs", lambda: [folder / "home" / "other"])
    with cache(folder / "home" / "other"):
        for given in (folder / "home", folder / "home" / "other"):
            os.chown(given, 1234, 1234)
        assert reason_at(address, bus)[0] == "absent"


def test_a_cache_that_does_not_answer_is_a_timeout(address, bus):
    """A process serves the socket, and does not answer in time."""
    with answering(address, lambda _body: None):
        reason, text = reason_at(address, bus)
    assert (reason, "busy or stopped" in text) == ("timeout", True)


ASK_AS_NOBODY = """
import os, sys
from dnstrail.client import LookupClient
from dnstrail.errors import Unavailable
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    LookupClient(sys.argv[1], timeout=0.05).request("version")
except Unavailable as error:
    print(error.reason, error.remedy)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up its privileges")
@pytest.mark.parametrize(
    ("group", "remedy"), [(0, "run it with sudo"), (1, "join the group daemon"), (60706, "run it with sudo")]
)
def test_a_user_without_permission_is_told_what_to_do(folder, group, remedy):
    """A user who may not use the socket of a running cache learns which group may, if this group has a name."""
    with cache(folder) as address:
        os.chown(folder, 0, group)
        folder.chmod(0o750)
        command = [sys.executable, "-c", ASK_AS_NOBODY, address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False)
    assert done.stdout.strip() == f"permission permission denied: {remedy}", done.stderr


def test_no_group_is_named_that_does_not_exist(monkeypatch, tmp_path):
    """Where the socket cannot be seen, the group of the service is named only on a host that has it."""

    def missing(name):
        raise KeyError(name)

    monkeypatch.setattr(ipc.grp, "getgrnam", missing)
    assert ipc._remedy_of(tmp_path / "none" / "lookups.sock") == "run it with sudo"
    monkeypatch.setattr(ipc.grp, "getgrnam", lambda _name: grp.getgrgid(1))
    assert ipc._remedy_of(tmp_path / "none" / "lookups.sock") == "join the group daemon"


def test_a_client_without_a_bus_has_its_own(known):
    """A client without a bus opens its own, and closes it."""
    lookups = LookupClient(known, timeout=BOUND)
    assert lookups.request("version")["data"] == 1
    context = lookups._connection()._bus._context
    lookups.close()
    assert context.closed


def test_clients_in_threads_are_independent(known):
    """Clients in several threads each get their own results."""
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
    """Data sources are found by namespace and id; a second one of the same name is refused."""
    source = DnsDataSource(address, bus=bus)
    sources = DataSources(source)
    assert sources.get("tracee", "dns") is source
    assert sources.get("tracee", "other") is sources.get("other", "dns") is None
    with pytest.raises(SettingsError, match="tracee/dns is registered already"):
        sources.register(DnsDataSource(address, bus=bus))
