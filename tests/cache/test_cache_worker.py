from __future__ import annotations

import os
import random
import socket
import struct
from contextlib import ExitStack

import msgpack
import pytest
import zmq

import dnstrail_cache.worker
from dnstrail.bus.ipc import events_address, lookups_address
from dnstrail.captured import Captured, Flow, Process
from dnstrail.events import NET_PACKET_DNS, NET_SERVER_NAME, NET_TCP_CONNECT
from dnstrail.image import Bounds
from dnstrail.protocol.lookups import OPERATIONS
from live.workers import FakeClock, Probe, asker, cache, open_bus, probe, response, seen, short_folder, wait_until

CHAIN = response("www.a.com", "www.a.com 60 CNAME a.com.", "a.com 30 A 192.0.2.1")
FOUND = {
    "ip_addresses": ["192.0.2.1"],
    "dns_queries": ["www.a.com", "a.com"],
    "dns_root": "www.a.com",
    "state": "live",
    "truncated": False,
    "history": True,
}
NOT_FOUND = {
    "v": 1,
    "ok": False,
    "error": "data_not_found",
    "message": "requested data was not found",
}


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def client(folder, clock):
    """Yield a plain client of a cache with small bounds and the clock of the test."""
    with cache(folder, clock=clock, bounds=Bounds(grace=0, history=100)) as address, asker(address) as client:
        yield client


def test_what_a_probe_published_before_a_cache_that_was_started_with_it_is_counted(folder):
    """Events that a young probe published to nobody count as lost where nobody replays them."""
    with open_bus() as bus:
        publishing = Probe(bus.publisher(events_address(folder), lossless=False), "start", live=True)
        publishing.turn()
        publishing.turn(*[seen(CHAIN)] * 7)
        with cache(folder) as address, asker(address) as client:

            def hears():
                publishing.turn(seen(CHAIN))
                return client.ask("health")["data"]["probes"]

            wait_until(hears, "the cache to hear the probe")
            sent = publishing.next_mark[1] - 2 + 7

            def counted():
                data = client.ask("stats")["data"]
                return data["image"].get("messages", 0) + data["lost"]["bus"].get(NET_PACKET_DNS, 0) == sent

            wait_until(counted, "all events to be applied or counted")
            assert client.ask("stats")["data"]["lost"]["bus"][NET_PACKET_DNS] >= 7


@pytest.fixture
def small(folder):
    """Yield a client and the probe of a cache of two roots."""
    with (
        cache(folder, bounds=Bounds(size=2, grace=0)) as address,
        asker(address) as client,
        probe(folder) as publishing,
    ):
        yield client, publishing


def fed(*answers):
    """Return answers, each given by its name, its TTL and its time."""
    return [seen(response(name, f"{name} {ttl} A 192.0.2.1"), at) for name, ttl, at in answers]


@pytest.fixture
def publishing(folder, client):
    with probe(folder) as publishing:
        yield publishing


def test_the_stop_signal_ends_the_wait_of_an_idle_cache(monkeypatch, folder):
    """A cache that waits without an end stops once it is requested."""
    monkeypatch.setattr(dnstrail_cache.worker, "_IDLE", 1e6)  # seconds
    with cache(folder), asker(lookups_address(folder)) as client:
        assert client.ask("version")["ok"]


def test_get(client, publishing):
    """A lookup of a name returns its addresses, its names with the question first, and its state."""
    mark = publishing.turn(seen(CHAIN))
    assert client.ask("get", key="a.com", after=[mark]) == {"v": 1, "ok": True, "data": FOUND, "complete": True}
    assert client.ask("get", key="192.0.2.1")["data"] == FOUND


def test_get_of_an_unknown_key(client, publishing):
    """A key without data is data_not_found, as in tracee."""
    assert client.ask("get", key="b.com") == NOT_FOUND


def test_get_many(client, publishing):
    """The results have the order of the keys, with nil for a key without data."""
    mark = publishing.turn(seen(CHAIN))
    reply = client.ask("get_many", keys=["192.0.2.1", "b.com", "A.com.", ""], after=[mark])
    assert reply == {"v": 1, "ok": True, "data": [FOUND, None, FOUND, None], "complete": True}
    assert client.ask("get_many", keys=[])["data"] == []


def test_trail(client, publishing):
    """A trail has the documented fields: who asked, and each step from the question to the key."""
    asked = seen(CHAIN, 1000.0), seen(b"no DNS", 1010.0)
    reply = client.ask("trail", key="192.0.2.1", after=[publishing.turn(*asked)])
    container = ("container_id", "container_name", "container_image")
    unknown = ("client", "server", "process_name", "executable", *container, "unit", "slice")
    nobody = {**dict.fromkeys(unknown, ""), "process_id": 0}
    life = {"count": 1, "state": "live"}
    way = {
        "dns_root": "www.a.com",
        "state": "live",
        "rival": False,
        "scope": "any",
        "reasons": ["last answered 10.000 s before"],
        "steps": [
            {"owner": "www.a.com", "kind": "CNAME", "target": "a.com", "age": 10.0, "remaining": 50.0, **life},
            {"owner": "a.com", "kind": "A", "target": "192.0.2.1", "age": 10.0, "remaining": 20.0, **life},
        ],
        "first_seen": 1000.0,
        "last_seen": 1000.0,
        "doubted": False,
        "asked": [
            {**nobody, "matched": False, "foreign": None, "first_seen": 1000.0, "last_seen": 1000.0, "count": 1},
        ],
    }
    data = {"key": "192.0.2.1", "scope": "any", "trails": [way], "server_names": [], "truncated": False}
    assert reply == {"v": 1, "ok": True, "data": {**data, "history": True}, "complete": True}
    assert client.ask("trail", key="b.com") == NOT_FOUND


def test_trail_for_a_connection(client, publishing):
    """A trail for a connection ranks the name that it sent first, then the questions of its process."""
    to_client = Flow(bytes([10, 0, 0, 53]), 53, bytes([10, 0, 0, 2]), 40000, socket=7)
    to_site = Flow(bytes([10, 0, 0, 2]), 50000, bytes([192, 0, 2, 1]), 443, "tcp")
    process = Process(70, "app", container_id="c1")
    mark = publishing.turn(
        Captured(1000 * 10**9, CHAIN, to_client, process),
        (NET_TCP_CONNECT, Captured(1001 * 10**9, b"", to_site, process, {"dst": "192.0.2.1", "dst_port": 443})),
        (NET_SERVER_NAME, Captured(1002 * 10**9, b"", to_site, None, {"server_name": "x.com", "evidence": "sni"})),
        seen(response("b.com", "b.com 60 A 192.0.2.1"), 1005.0),
    )
    who = {"process": 70, "container": "c1", "client": "::ffff:10.0.0.2", "port": 443}
    data = client.ask("trail", key="192.0.2.1", after=[mark], **who)["data"]
    assert [trail["dns_root"] for trail in data["trails"]] == ["x.com", "www.a.com", "b.com"]
    assert data["trails"][0]["reasons"] == ["the connection itself sent this server name (sni)"]
    assert data["scope"] == "process"
    assert "1 answers led to 1 connections to port 443" in data["trails"][1]["reasons"]
    (called,) = data["server_names"]
    assert called == {"name": "x.com", "evidence": "sni", "first_seen": 1002.0, "last_seen": 1002.0, "count": 1}
    last = client.ask("trail", key="192.0.2.1")["data"]
    assert (last["trails"][0]["dns_root"], last["scope"]) == ("b.com", "any")


def test_trail_of_the_past(small):
    """A trail as of a time before the end of what was evicted has `history` false."""
    client, publishing = small
    mark = publishing.turn(*fed(("goes.com", 1, 1000.0), ("stays.com", 9999, 1000.0), ("more.com", 60, 1110.0)))
    asked = [client.ask("trail", key="192.0.2.1", at=at, after=[mark])["data"] for at in (1000.5, 1005.0)]
    assert [(data["history"], data["trails"][0]["state"]) for data in asked] == [(False, "live"), (True, "live")]
    assert client.ask("trail", key="192.0.2.1", at=900.0) == {**NOT_FOUND, "history": False}
    assert client.ask("trail", key="192.0.2.9", at=1005.0) == NOT_FOUND


def test_trails_are_limited(client, publishing):
    """A request bounds the number of its trails, and the reply says that there are more."""
    mark = publishing.turn(*fed(("a.com", 60, 1000.0), ("b.com", 60, 1001.0)))
    for limit, names in ((1, ["b.com"]), (2, ["b.com", "a.com"])):
        data = client.ask("trail", key="192.0.2.1", limit=limit, after=[mark])["data"]
        assert [trail["dns_root"] for trail in data["trails"]] == names
        assert data["truncated"] is (limit == 1)
    for limit in (0, 101, "1"):
        assert client.ask("trail", key="192.0.2.1", limit=limit)["error"] == "bad_request"


def test_rank(client, publishing):
    """Each connection has the names of its address in its place, the question of its own process first."""
    asked = [
        Captured(10**12 + number, response(name, f"{name} 60 A 192.0.2.1"), to_client(number), Process(70 + number))
        for number, name in enumerate(("a.com", "b.com", "c.com"))
    ]
    mark = publishing.turn(*asked, seen(response("d.com", "d.com 60 AAAA 2001:db8::1")))
    connections = [
        {"address": "192.0.2.1", "process": 70, "container": "", "client": "10.0.0.2", "port": 443},
        {"address": "2001:db8:0::1"},
        {"address": "198.51.100.1", "process": 70},
        {"address": "::ffff:192.0.2.1", "process": 71, "later": [1]},
        {"address": "192.0.2.1", "process": 70, "container": "", "client": "10.0.0.2", "port": 443},
    ]
    reply = client.ask("rank", connections=connections, after=[mark])
    assert (reply["ok"], reply["complete"]) == (True, True)
    names = reply["data"]
    assert [each[0] if each else None for each in names] == ["a.com", "d.com", None, "b.com", "a.com"]
    assert [sorted(each) for each in names] == [["a.com", "b.com", "c.com"], ["d.com"], []] + [
        ["a.com", "b.com", "c.com"]
    ] * 2
    assert client.ask("rank", connections=[])["data"] == []
    assert client.ask("rank", connections=[{"address": "192.0.2.1"}], at=900.0)["data"] == [[]]


def to_client(number: int) -> Flow:
    """Return the flow of a response to a process."""
    return Flow(bytes([10, 0, 0, 53]), 53, bytes([10, 0, 0, 2]), 40000 + number, socket=7 + number)


def test_rank_uses_no_root(folder):
    """A root that only `rank` asked for is evicted before one that `get` asked for."""
    small = cache(folder, clock=FakeClock(), bounds=Bounds(size=2))
    with small as served, asker(served) as client, probe(folder) as publishing:
        names = ["a.com", "b.com"]
        mark = publishing.turn(*(seen(response(name, f"{name} 60 A 192.0.2.{n}")) for n, name in enumerate(names)))
        assert client.ask("rank", connections=[{"address": "192.0.2.0"}], after=[mark])["data"] == [["a.com"]]
        mark = publishing.turn(seen(response("c.com", "c.com 60 A 192.0.2.9")))
        known = client.ask("get_many", keys=["a.com", "b.com", "c.com"], after=[mark])["data"]
        assert [found is not None for found in known] == [False, True, True]


WRONG_CONNECTIONS = [
    {"client": "here"}, {"client": ""}, {"client": "10.0.0"}, {"client": 5}, {"client": "1" * 257}, {"port": -1},
    {"port": 65536}, {"port": "443"}, {"port": 1.5}, {"port": True}, {"process": -1}, {"process": 1 << 32},
    {"process": "70"}, {"container": 5}, {"container": "c" * 257}, {"container": b"c"}, {"client": ["10.0.0.2"]},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_CONNECTIONS, ids=repr)
def test_trail_for_a_wrong_connection_is_refused(client, wrong):
    """A client that is no address, a number out of range and a wrong type are bad requests."""
    reply = client.ask("trail", key="a.com", **wrong)
    assert (reply["ok"], reply["error"]) == (False, "bad_request")
    assert next(iter(wrong)) in reply["message"]


@pytest.mark.parametrize(
    ("op", "data"),
    [
        ("schema", '{"ip_addresses":"[]string","dns_queries":"[]string","dns_root":"string"}'),
        ("keys", ["string"]),
        ("version", 1),
    ],
)
def test_the_data_source_describes_itself(client, op, data):
    """A client in any language can ask for schema, keys and version."""
    assert client.ask(op) == {"v": 1, "ok": True, "data": data, "complete": True}


def test_health_without_a_probe(client):
    """Before the first turn of a probe the status is waiting."""
    data = {"status": "waiting", "fed": False, "probes": 0, "turns": {}, "ended": False, "signatures": {}, "now": None}
    assert client.ask("health")["data"] == data


def test_health_with_probes(client, publishing):
    """Health contains the last turn of each probe, whether all have ended, and the clock of the stream."""
    publishing.turn(seen(CHAIN, 1000.0))
    mark = publishing.turn(seen(CHAIN, 1500.0), ended=True)
    data = {"status": "ended", "fed": True, "probes": 1, "turns": {"start": 2}, "ended": True}
    data |= {"signatures": {}, "now": 1500.0}
    client.ask("version", after=[mark])
    assert client.ask("health")["data"] == data


def test_stats_count_every_hop(client, publishing):
    """The stats count messages, relations, replies, refusals and losses, and contain the counters of the probes."""
    publishing.lose_turn(seen(CHAIN))
    mark = publishing.turn(seen(CHAIN), seen(b"short"), packets=7)
    client.ask("get", key="a.com", after=[mark])
    client.ask("get_many", keys=["a.com", "b.com"])
    client.ask("get", key=1)
    client.ask("drop")
    before = client.ask("stats")["data"]
    image = {"roots": 1, "relations": 2, "messages": 2, "related": 1, "bad_message": 1}
    assert before["image"].items() >= image.items()
    counted = before["cache"]
    assert {name: counted[name] for name in ("hits", "misses", "key_not_supported", "bad_request")} == {
        "hits": 2,
        "misses": 1,
        "key_not_supported": 1,
        "bad_request": 1,
    }
    lost_by_hop = {"bus": {"net_packet_dns": 1, "turn": 1}, "decoder": {"bad_message": 1}}
    assert before["lost"] == {"kernel": {}, "probe": {}, "cache": {}, "workers": {}, **lost_by_hop, "total": 2}
    assert before["probes"] == {"start": {"live": False, "packets": 7}}
    assert client.ask("stats")["data"]["cache"]["requests"] == counted["requests"] + 1


def test_nobody_reports_more_losses_than_events(client, publishing):
    """Any process can report losses, but no more than was published, and only its own: the sums stay those of stats."""
    mark = publishing.turn(seen(CHAIN), seen(CHAIN))
    client.ask("lost", worker="honest", lost={"net_packet_dns": 1})
    for number in range(200):
        lost = {"net_packet_dns": (1 << 53) - 1, "turn": (1 << 53) - 1, "sched_process_exec": 5}
        assert client.ask("lost", worker=f"liar {number}", user=12345, lost=lost)["ok"]
    stats = client.ask("stats", after=[mark])["data"]
    assert stats["lost"]["workers"] == {"net_packet_dns": 2 * 128, "turn": 2 * 128}
    assert stats["lost"]["total"] == 2 * 128
    assert stats["cache"]["losses_beyond_published"] == 3 * (64 + 1)


def test_at_looks_into_the_past(client, publishing):
    """With `at` only relations that were seen by then and live then count; `history` is true."""
    later = response("a.com", "a.com 60 A 192.0.2.7")
    mark = publishing.turn(seen(CHAIN, 1000.0), seen(later, 1020.0), seen(b"no DNS", 1050.0))

    def addresses(at):
        reply = client.ask("get", key="a.com", at=at, after=[mark])
        return (reply["data"]["ip_addresses"], reply["data"]["history"]) if reply["ok"] else reply["error"]

    assert addresses(999.5) == "data_not_found"
    assert addresses(1000) == (["192.0.2.1"], True)
    assert addresses(1020) == (["192.0.2.7", "192.0.2.1"], True)
    assert addresses(1030) == (["192.0.2.7"], True)
    assert client.ask("get", key="a.com")["data"]["ip_addresses"] == ["192.0.2.7"]


def test_at_in_nanoseconds_is_exact_and_a_float_counts_to_the_end_of_its_microsecond(client, publishing):
    """An answer is found at `at_ns` from its nanosecond on, and at `at` from its microsecond on."""
    mark = publishing.turn(seen(CHAIN, 1000.000_001_5))

    def finds(**time):
        return client.ask("get", key="a.com", after=[mark], **time)["ok"]

    assert [finds(at_ns=1000_000_001_500 + more) for more in (-1, 0, 1)] == [False, True, True]
    assert [finds(at=at) for at in (1000.0, 1000.000_001, 1000.000_001_5)] == [False, True, True]
    assert client.ask("get", key="a.com", at=1000.0, at_ns=1000_000_000_000)["error"] == "bad_request"


def test_at_before_the_history(small):
    """`history` is false if `at` lies before the end of a relation that was evicted."""
    client, publishing = small
    mark = publishing.turn(*fed(("stays.com", 9999, 1000.0), ("goes.com", 5, 1000.0), ("more.com", 60, 2000.0)))
    for at, history in ((1004.9, False), (1005.0, True), (None, True)):
        data = client.ask("get", key="stays.com", at=at, after=[mark])["data"]
        assert (data["ip_addresses"], data["history"]) == (["192.0.2.1"], history)
    assert client.ask("get", key="goes.com", at=1004.0) == {**NOT_FOUND, "history": False}


@pytest.mark.parametrize(
    ("keys", "at", "history"),
    [
        (["stays.com", "goes.com"], 1004.9, False),
        (["stays.com", "goes.com"], 1005.0, None),
        (["stays.com", "goes.com"], None, None),
        (["stays.com"], 1004.9, None),
        ([], 1004.9, None),
    ],
    ids=["forgotten", "remembered", "now", "found", "no keys"],
)
def test_many_at_before_the_history(small, keys, at, history):
    """The reply to many keys has `history` false if one is not found at a time that the cache knows no more."""
    client, publishing = small
    mark = publishing.turn(*fed(("stays.com", 9999, 1000.0), ("goes.com", 5, 1000.0), ("more.com", 60, 2000.0)))
    reply = client.ask("get_many", keys=keys, at=at, after=[mark])
    assert [found is None for found in reply["data"]] == [key == "goes.com" for key in keys]
    assert reply.get("history") is history


def test_now_is_the_clock_of_the_cache_with_a_live_probe(folder, client, clock):
    """Relations from a live probe expire as time passes, without a further message."""
    with probe(folder, live=True, clock=clock) as publishing:
        mark = publishing.turn(seen(CHAIN, clock.wall_time))
        assert client.ask("get", key="a.com", after=[mark])["ok"]
        clock.advance(29.9)
        assert client.ask("get", key="a.com")["ok"]
        clock.advance(0.1)
        assert client.ask("get", key="192.0.2.1") == NOT_FOUND
        assert client.ask("health")["data"]["now"] == pytest.approx(clock.wall_time, abs=1e-3)


def test_now_is_the_greatest_stamp_of_a_file(client, publishing, clock):
    """Relations from a file expire by its greatest time stamp, whatever the wall time."""
    clock.wall_time = 9e9
    mark = publishing.turn(seen(CHAIN, 1000.0), seen(b"no DNS", 1029.0), seen(b"no DNS", 1001.0))
    assert client.ask("get", key="a.com", after=[mark])["ok"]
    mark = publishing.turn(seen(b"no DNS", 1030.0))
    assert client.ask("get", key="192.0.2.1", after=[mark]) == NOT_FOUND


def test_a_cache_subscribes_to_several_probes(folder):
    """One image contains the answers of all probes, and each probe has its own turns."""
    addresses = [f"ipc://{folder}/{name}.sock" for name in ("one", "two")]
    with cache(folder, clock=FakeClock(), probes=addresses) as served, asker(served) as client, ExitStack() as probes:
        one, two = (probes.enter_context(probe(folder, start=a[-8:], address=a)) for a in addresses)
        marks = [one.turn(seen(CHAIN)), two.turn(seen(response("b.com", "b.com 60 A 192.0.2.1")))]
        found = client.ask("get", key="192.0.2.1", after=marks)
        assert found["complete"]
        assert set(found["data"]["dns_queries"]) == {"www.a.com", "a.com", "b.com"}
        assert client.ask("health")["data"]["turns"] == dict(marks)


def test_a_used_root_keeps_its_place(folder):
    """A lookup uses its root; the least recently used root is evicted first."""
    small = cache(folder, clock=FakeClock(), bounds=Bounds(size=2))
    with small as served, asker(served) as client, probe(folder) as publishing:
        names = ["a.com", "b.com"]
        mark = publishing.turn(*(seen(response(name, f"{name} 60 A 192.0.2.{n}")) for n, name in enumerate(names)))
        assert client.ask("get", key="a.com", after=[mark])["ok"]
        mark = publishing.turn(seen(response("c.com", "c.com 60 A 192.0.2.9")))
        known = client.ask("get_many", keys=["a.com", "b.com", "c.com"], after=[mark])["data"]
        assert [found is not None for found in known] == [True, False, True]


GARBAGE = {
    "nothing": [b""],
    "two empty frames": [b"", b""],
    "a few frames": [b"x"] * 5,
    "an envelope and nothing": [b"id", b"", b""],
    "no MessagePack": [b"", b"\xc1"],
    "no map": [b"", b"\x01"],
    "another version": [b"", msgpack.packb({"v": 2, "op": "get"})],
    "past 1 MiB": [b"", bytes((1 << 20) + 1)],
    "a key of bytes": [b"", msgpack.packb({"v": 1, "op": "get", "key": b"\xff"})],
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_is_refused(client, folder, case):
    """Whatever its frames, a request gets one refusal behind its envelope, and the next one is answered."""
    frames = GARBAGE[case]
    with asker(lookups_address(folder), zmq.DEALER) as other:
        other.socket.send_multipart(frames)
        *envelope, body = other.socket.recv_multipart()
        assert envelope == frames[:-1]
        assert msgpack.unpackb(body)["ok"] is False
    assert client.ask("version")["data"] == 1


def test_many_frames_are_refused(client, folder):
    """A request of very many frames is refused; the next one is answered."""
    with asker(lookups_address(folder), zmq.DEALER) as other:
        other.socket.send_multipart([b"x"] * 5000)
        refused = other.receive()
        assert (refused["error"], refused["message"]) == ("bad_request", "5000 frames; 16 at most")
        other.send("version")
        assert other.receive()["data"] == 1


def test_random_requests_never_stop_the_worker(client, folder):
    """Random bytes and damaged requests get one reply each, and the worker continues."""
    chance = random.Random(7)
    good = [msgpack.packb({"v": 1, "op": op, "key": "a.com", "keys": ["b"], "at": 1.0}) for op in OPERATIONS]
    with asker(lookups_address(folder), zmq.DEALER) as other:
        for _ in range(400):
            body = bytearray(chance.choice(good) if chance.random() < 0.7 else chance.randbytes(chance.randrange(40)))
            for _ in range(chance.randrange(3)):
                if body:
                    body[chance.randrange(len(body))] = chance.randrange(256)
            other.socket.send_multipart([chance.randbytes(chance.randrange(4)), bytes(body)])
        replies = [other.socket.recv_multipart() for _ in range(400)]
    assert all(isinstance(msgpack.unpackb(reply[-1])["ok"], bool) for reply in replies)
    assert client.ask("version")["data"] == 1


def test_any_text_may_be_a_key(client):
    """Keys of any characters are found or not found."""
    chance = random.Random(11)
    pool = "a.1:[]%\\@\"'() -_*\0\n\u00e9\u0130\u2024\u3002\uff0e\U0001f600\u200d\u00df"
    keys = ["".join(chance.choices(pool, k=chance.randrange(1, 12))) for _ in range(900)]
    keys += [".", "..", "[", "]", "[]", "\\", "\\300", "xn--", "xn--a", "::%", "1.2.3", "\u0661.2.3.4"]
    assert client.ask("get_many", keys=keys)["data"] == [None] * len(keys)


def test_bytes_that_are_no_zeromq_do_not_stop_it(client, folder):
    """A connection with another protocol is dropped, and the next request is answered."""
    with socket.socket(socket.AF_UNIX) as plain:
        plain.connect(lookups_address(folder).removeprefix("ipc://"))
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n" + os.urandom(64) + struct.pack(">Q", 1 << 62))
        assert client.ask("version")["data"] == 1


def test_a_cache_starts_before_its_probe_and_outlives_it(folder, client):
    """Probes come and go; the relations of earlier starts stay in the image."""
    for start in ("first", "second"):
        with probe(folder, start) as publishing:
            mark = publishing.turn(seen(CHAIN), ended=True)
            assert client.ask("get", key="a.com", after=[mark])["complete"]
    wait_until(lambda: client.ask("health")["data"]["probes"] == 2)
    assert client.ask("get", key="a.com")["data"] == FOUND


def test_a_client_that_leaves_before_its_reply_is_harmless(client, publishing, folder):
    """A parked lookup of a client that has left is dropped, and others are answered."""
    mark = publishing.next_mark
    with asker(lookups_address(folder), zmq.DEALER) as gone:
        gone.send("get", key="a.com", after=[mark])
        wait_until(lambda: client.ask("stats")["data"]["cache"].get("parked") == 1)
    publishing.turn(seen(CHAIN))
    assert client.ask("get", key="a.com", after=[mark])["data"] == FOUND
