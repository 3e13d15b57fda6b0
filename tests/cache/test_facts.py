"""The facts of a cache: as they travel, and when they are collected, published and replayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from builders.talk import answer, back, query, there
from dnstrail.bus import RemoteHost, Subscriber, ZmqBus
from dnstrail.bus.ipc import facts_address, lookups_address
from dnstrail.bus.keys import CLIENTS, SERVERS, allow, load_keys, new_pair
from dnstrail.bus.remote_host import key_digest
from dnstrail.captured import Captured, Flow, Process
from dnstrail.dns.names import V4_MAPPED
from dnstrail.events import (
    DNS_TRANSACTION,
    EFFECTS,
    FACT_NAMES,
    NET_CONNECTION,
    NET_TCP_CONNECT,
    SCHED_PROCESS_EXIT,
    Event,
)
from dnstrail.image import Circumstances, Image
from dnstrail.image.answer import Answer
from dnstrail.image.apply import apply_event
from dnstrail.image.binding.bindings import ConnectionOpening, Meaning, Stage
from dnstrail.image.bounds import SECOND
from dnstrail.image.facts.connections import ConnectionFact
from dnstrail.image.facts.transaction import Transaction
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail.protocol.batches import TURN, Batch, HostIdentity, Turn, decode, encode
from dnstrail.protocol.facts import unpacked_fact
from dnstrail.protocol.replay_window import KEPT
from dnstrail.protocol.replays import ReplayRequest, decode_replay, encode_replay, replay_address
from dnstrail.protocol.turn_follower import TurnFollower
from dnstrail.tracee.event_shape import event_map
from dnstrail_cache.facts import MOST_BYTES, FactsPublisher, captured_of, captured_stage
from dnstrail_cache.state.cache_state import CacheState
from live.ports import free_port
from live.workers import FakeClock, open_bus, short_folder, wait_until

ASKER = Process(7, "curl", "/usr/bin/curl", container_id="c0ffee", start_time=5)
FLOW = there(socket=77, namespace=3, egress=True, meant=bytes([127, 0, 0, 11]), meant_port=53, role="client")
EDGES = (("a.example", 5, "b.example"), ("b.example", 1, "192.0.2.1"))
RELATIONS = [("a.example", "CNAME", "b.example", 60), ("b.example", "A", "192.0.2.1", 30)]
TRANSACTION = Transaction(
    batch="s/7",
    place=3,
    host="web1",
    asked=1_000,
    ended=4_000,
    name="a.example",
    type=1,
    process=ASKER,
    flow=FLOW,
    hop="client",
    outcome="answered",
    rcode=0,
    tries=2,
    answer=Answer("a.example", 1, EDGES, (60 * SECOND, 30 * SECOND)),
    matched=True,
    admitted=True,
)
UNKNOWN = {
    "asked": 0,
    "process": None,
    "flow": None,
    "outcome": "unknown",
    "rcode": -1,
    "answer": None,
}


OPENING = ConnectionOpening(("web1", 77), "192.0.2.1", 443, "web1", ASKER, namespace=3)
OPENED = ConnectionFact(
    "s/net_tcp_connect/7/3/opened", Stage("opened", 1_000), OPENING, Meaning("a.example", "thread", 1_000), "", 0, False
)


def shaped(transaction: Transaction) -> dict:
    """Return the arguments of a transaction after its way over the bus, as `--output json` prints them."""
    return arrived(DNS_TRANSACTION, captured_of(transaction))


def arrived(topic: str, sent: Captured) -> dict:
    """Return the arguments of a fact after its way over the bus, as `--output json` prints them."""
    [captured] = decode(encode(Batch("s", 1, 0, [sent])), Batch).events
    shown = event_map(Event(topic, unpacked_fact(topic, captured)))
    return {arg["name"]: arg["value"] for arg in shown["args"]}


def arguments(batch: Batch, name: str, topic: str = DNS_TRANSACTION) -> list:
    """Return one argument of all facts of a batch."""
    return [unpacked_fact(topic, event, batch.probe).args[name] for event in batch.events]


def test_a_transaction_travels_whole():
    """The time of a fact is its end, its process is the asker, and its arguments state the rest."""
    captured = captured_of(TRANSACTION)
    assert (captured.timestamp, captured.process, captured.payload) == (4_000, ASKER, b"")
    assert [*shaped(TRANSACTION).items()] == [
        ("id", "s/net_packet_dns/7/3/end"),
        ("src", "10.0.0.2"),
        ("dst", "10.0.0.53"),
        ("src_port", 40000),
        ("dst_port", 53),
        ("transport", "udp"),
        ("socket", 77),
        ("resolver", "127.0.0.11"),
        ("resolver_port", 53),
        ("hop", "client"),
        ("name", "a.example"),
        ("type", "A"),
        ("outcome", "answered"),
        ("rcode", 0),
        ("tries", 2),
        ("waited", 3_000),
        ("relations", RELATIONS),
        ("admitted", True),
        ("matched", True),
    ]


def test_what_is_unknown_is_left_out():
    """A transaction of which little is known states the rest alone."""
    assert shaped(replace(TRANSACTION, **UNKNOWN)) == {
        "id": "s/net_packet_dns/7/3/end",
        "hop": "client",
        "name": "a.example",
        "type": "A",
        "outcome": "unknown",
        "tries": 2,
        "relations": [],
        "matched": True,
    }
    assert shaped(replace(TRANSACTION, doubted=True, foreign=True, asked_for="s/7/1", type=65280)).items() >= {
        ("doubted", True),
        ("foreign", True),
        ("for", "s/net_packet_dns/7/1/end"),
        ("type", "TYPE65280"),
    }


def test_an_owner_of_several_addresses_travels_once():
    """The further addresses of an alias state the owner before by a number, and arrive with it."""
    edges = (EDGES[0], *(("b.example", 1, f"192.0.2.{number}") for number in range(4)))
    several = replace(TRANSACTION, answer=Answer("a.example", 1, edges, (60 * SECOND,) * 5))
    owners = [relation[3:] for relation in captured_of(several).args[""][13]]
    assert owners == [(), (), (0,), (0,), (0,)]
    assert [one[0] for one in shaped(several)["relations"]] == ["a.example", *["b.example"] * 4]


def test_the_relations_of_a_fact_are_bounded():
    """A fact with the largest answer fits in a batch: relations beyond the bound are left out, and counted."""
    large = replace(
        TRANSACTION, answer=Answer("a.example", 1, (("o" * 1000, 5, "t" * 1000),) * 4096, (60 * SECOND,) * 4096)
    )
    kept = MOST_BYTES // 2000
    assert len(shaped(large)["relations"]) == kept
    assert shaped(large)["left_out"] == 4096 - kept
    batches = BatchPublisher(None, "s", live=True)
    batches.add(DNS_TRANSACTION, captured_of(large))
    assert batches.refused == 0


@pytest.mark.parametrize("resolver", [b"", b"123", bytes(16), bytes([9, 9, 9, 9])], ids=["none", "bad", "IPv6", "IPv4"])
def test_the_resolver_is_an_address_that_nat_replaced(resolver):
    """The resolver that was meant at the asker's socket is stated if it is an address other than the destination."""
    known = {b"": None, b"123": None, bytes(16): "::"}.get(resolver, "9.9.9.9")
    assert shaped(replace(TRANSACTION, flow=replace(FLOW, meant=resolver))).get("resolver") == known
    assert "resolver" not in shaped(replace(TRANSACTION, flow=replace(FLOW, meant=FLOW.destination)))
    assert "resolver" not in shaped(replace(TRANSACTION, flow=replace(FLOW, meant=V4_MAPPED + FLOW.destination)))
    assert "resolver" not in shaped(replace(TRANSACTION, flow=replace(FLOW, meant=resolver, egress=False)))


def test_an_opened_connection_travels_whole():
    """The first stage has the name of the connection and its receiver; its source is not known yet."""
    captured = captured_stage(OPENED)
    assert (captured.timestamp, captured.process, captured.flow.namespace) == (1_000, ASKER, 3)
    assert [*arrived(NET_CONNECTION, captured).items()] == [
        ("id", "s/net_tcp_connect/7/3/opened"),
        ("stage", "opened"),
        ("dst", "192.0.2.1"),
        ("dst_port", 443),
        ("transport", "tcp"),
        ("socket", 77),
        ("name", "a.example"),
        ("bound", "thread"),
    ]


BYTES = {"bytes_sent": 0, "bytes_received": 20}
WHY = {"why": "process ended"}


@pytest.mark.parametrize(
    ("stage", "connected", "own"),
    [
        (Stage("result", 4_000), True, {"connected": True}),
        (Stage("result", 4_000, "ECONNREFUSED"), False, {"connected": False, "error": "ECONNREFUSED"}),
        (Stage("named", 4_000), True, {}),
        (Stage("end", 4_000, "", "process ended", 0, 20), True, WHY | BYTES),
        (Stage("end", 4_000, "", "process ended"), True, WHY),
    ],
    ids=["connected", "refused", "named", "ended", "bytes are unknown"],
)
def test_each_later_stage_travels_whole(stage, connected, own):
    """A later stage has both ends and its own arguments, and the time since the connection was opened."""
    fact = OPENED._replace(stage=stage, client="2001:db8::7", client_port=50000, connected=connected)
    known = {"id": fact.id, "stage": stage.name, "transport": "tcp", "socket": 77, "name": "a.example"}
    ends = {"src": "2001:db8::7", "dst": "192.0.2.1", "src_port": 50000, "dst_port": 443}
    assert arrived(NET_CONNECTION, captured_stage(fact)) == known | ends | {"bound": "thread", "lasted": 3_000} | own


def test_a_connection_of_which_little_is_known():
    """A connection without a name, a cookie and a process has a receiver alone."""
    opening = ConnectionOpening(("web1", b"", 0, b"", 0), "2001:db8::1", 443, transport="udp")
    captured = captured_stage(OPENED._replace(opening=opening, meaning=Meaning("", "", 1_000)))
    assert captured.process is None
    assert arrived(NET_CONNECTION, captured) == {
        "id": "s/net_tcp_connect/7/3/opened",
        "stage": "opened",
        "dst": "2001:db8::1",
        "dst_port": 443,
        "transport": "udp",
    }


class Cache:
    """The publishing side of a cache over a real bus, whose steps and clock a test sets."""

    def __init__(self, bus: ZmqBus, folder: Path, *, begun: bool = False) -> None:
        self.clock = FakeClock()
        self.state = CacheState(Image(), self.clock, begun=begun)
        self.address = facts_address(lookups_address(folder))
        self._number = 0
        self.facts = FactsPublisher(
            bus.publisher(self.address, lossless=False),
            bus.server(replay_address(self.address)),
            HostIdentity("here", "0123"),
            self.state,
        )

    def step(self, seconds: float = 1.0) -> None:
        """Let time pass, and take one step."""
        self.clock.advance(seconds)
        self.facts.step()

    def feed(self, payload: bytes, flow: Flow, host: str = "web1", start: str = "s") -> None:
        """Feed the image a message of a live source."""
        circumstances = Circumstances(flow, ASKER, live=True, host=host)
        circumstances.batch, circumstances.place = f"{start}/7", self._number
        self._number += 1
        self.state.image.feed(self.state.now, payload, circumstances)

    def apply(self, topic: str, flow: Flow | None = None, start: str = "s", **args) -> None:
        """Feed the image another event of a live source."""
        event, place = Captured(self.state.now, b"", flow, ASKER, args), self._number
        self._number += 1
        name = f"{start}/{topic}/7"
        apply_event(self.state.image, EFFECTS[topic], event, live=True, host="web1", batch=name, place=place)

    def connect(self, socket: int, start: str = "s") -> None:
        """Feed the image a connection of a live source."""
        flow = Flow(b"", 0, bytes([192, 0, 2, 1]), 443, "tcp", socket)
        self.apply(NET_TCP_CONNECT, flow, start, dst="192.0.2.1", dst_port=443)

    def end_turn(self, turn: int, start: str = "s", *, ended: bool = False) -> None:
        """Receive a turn of a live source."""
        self.state.end_turn(Turn(start, turn, {}, True, self.state.stream.now(), ended=ended), self.clock.monotonic())

    def resolve(self, name: str, host: str = "web1", start: str = "s") -> None:
        """Feed a question and its answer."""
        flow = there(socket=77, namespace=3, egress=True)
        self.feed(query(name), flow, host, start)
        self.feed(answer(name=name), back(flow), host, start)


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@contextmanager
def publishing(folder: Path, *, live: bool = True) -> Iterator[Cache]:
    """Make a cache that hears a probe."""
    with open_bus() as bus:
        cache = Cache(bus, folder)
        cache.state.end_turn(Turn("s", 0, {}, live, cache.state.stream.now()), cache.clock.monotonic())
        yield cache


def collected(cache: Cache) -> list[str]:
    """Return the names of the facts that the image collects."""
    image = cache.state.image
    of_image = {DNS_TRANSACTION: image.transactions, NET_CONNECTION: image.connections}
    return [name for name, facts in of_image.items() if facts is not None]


def subscribed(bus: ZmqBus, cache: Cache, topic: str = DNS_TRANSACTION) -> Subscriber:
    """Subscribe to facts, and wait until the cache collects them, and no others."""
    subscriber = bus.subscriber([cache.address], [topic, TURN])
    wait_until(lambda: cache.step(0.001) or cache.facts._publisher.subscribers(TURN), "the subscription")
    cache.step(0.001)
    assert collected(cache) == [topic]
    return subscriber


def received(
    subscriber: Subscriber, cache: Cache, facts: int, topic: str = DNS_TRANSACTION
) -> tuple[list[Batch], TurnFollower]:
    """Receive until some facts have arrived, and the end of their turn."""
    follower, batches = TurnFollower((topic,)), list[Batch]()

    def take() -> bool:
        cache.step(0.05)
        while (message := subscriber.receive()) is not None:
            if message[0] == TURN:
                follower.turn(decode(message[1], Turn))
            else:
                batches.append(batch := decode(message[1], Batch))
                follower.batch(topic, batch)
        ends = [turn.published or {} for turn in follower.probes]
        return sum(len(batch.events) for batch in batches) >= facts and any(end.get(topic) for end in ends)

    wait_until(take, "the facts")
    return batches, follower


def test_facts_are_published_in_turns_with_the_hosts_of_their_events(folder):
    """Each fact is in a batch of its host, and the turn states how many there are: nothing is lost."""
    with publishing(folder) as cache, open_bus() as bus:
        subscriber = subscribed(bus, cache)
        for name, host in (("a.example", "web1"), ("b.example", "web2"), ("c.example", "web1")):
            cache.resolve(name, host)
        batches, follower = received(subscriber, cache, 3)
        found = [(batch.host, arguments(batch, "name")) for batch in batches]
        assert found == [("web1", ["a.example", "c.example"]), ("web2", ["b.example"])]
        assert follower.lost.total() == 0
        assert (follower.probes[0].host, follower.probes[0].machine_id) == ("here", "0123")
        assert cache.state.counters["facts_published"] == 3


def test_a_new_subscriber_receives_a_turn_soon(folder):
    """Each new subscriber receives its first turn after 10 ms, and does not wait for the heartbeat."""
    with publishing(folder) as cache, open_bus() as bus:
        count = cache.facts._publisher.subscribers
        for number in (1, 2):
            subscriber = bus.subscriber([cache.address], [TURN])
            wait_until(lambda number=number: cache.step(0.0) or count(TURN) == number, "the subscription")
            cache.step(0.011)
            wait_until(subscriber.receive, "a turn")


@pytest.mark.parametrize("topic", FACT_NAMES)
def test_without_a_subscriber_nothing_is_collected(folder, topic):
    """The image collects facts of a name from the first subscription on, until the replay of the last one is over."""
    with publishing(folder) as cache, open_bus() as bus:
        cache.step()
        cache.resolve("before.example")
        cache.connect(1)
        assert collected(cache) == []
        subscribed(bus, cache, topic).close()
        wait_until(lambda: not cache.facts._publisher.subscribers(topic), "the end of the subscription")
        cache.step(KEPT - 1)
        assert collected(cache) == [topic]
        cache.step(2)
        assert collected(cache) == []
        assert cache.state.counters["facts_published"] == 0


def test_a_cache_that_restarts_collects_facts_at_once(folder):
    """A cache that goes on from a state receives a replay before its subscribers have connected anew."""
    with open_bus() as bus:
        assert collected(Cache(bus, folder)) == []
    with open_bus() as bus:
        assert collected(Cache(bus, folder, begun=True)) == [*FACT_NAMES]


def test_a_subscriber_that_restarts_receives_what_it_missed(folder):
    """Facts are collected while a subscriber is away, and replayed to it."""
    with publishing(folder) as cache, open_bus() as bus:
        subscribed(bus, cache).close()
        wait_until(lambda: not cache.facts._publisher.subscribers(DNS_TRANSACTION), "the end of the subscription")
        cache.resolve("missed.example")
        cache.step()
        requester = bus.requester(replay_address(cache.address))
        requester.send(encode_replay(ReplayRequest(cache.state.follower.own, -1)))
        replies = []
        wait_until(lambda: cache.step(0.001) or replies.extend(filter(None, [requester.reply()])) or replies, "a reply")
        replayed = [decode(body, Batch) for topic, body in decode_replay(replies[0]).messages if topic != TURN]
        assert [arguments(batch, "name") for batch in replayed] == [["missed.example"]]


def test_a_question_without_an_answer_ends_on_an_idle_host(folder):
    """A question is unanswered 30 s after its last try, though no further message comes."""
    with publishing(folder) as cache, open_bus() as bus:
        subscriber = subscribed(bus, cache)
        cache.feed(query("gone.example"), there(socket=77, namespace=3, egress=True))
        cache.step(29)
        assert cache.state.counters["facts_published"] == 0
        cache.step(2)
        [batch], _ = received(subscriber, cache, 1)
        assert arguments(batch, "outcome") == ["unanswered"]


def test_a_host_whose_clock_stands_still_delays_its_own_questions_alone(folder):
    """While the turns of a host state one time, the questions of others end as if it were not there."""
    with publishing(folder) as cache, open_bus() as bus:
        subscriber = subscribed(bus, cache)
        began = cache.state.stream.now()
        for host, socket in (("web1", 77), ("frozen", 78)):
            cache.feed(query(f"{host}.example"), there(socket=socket, namespace=3, egress=True), host)
        for turn in range(1, 33):
            now = cache.state.stream.now()
            for start, host, stated in (("s", "web1", now), ("f", "frozen", began)):
                cache.state.end_turn(Turn(start, turn, {}, True, stated, host=host), cache.clock.monotonic())
            cache.step(1)
        [batch], _ = received(subscriber, cache, 1)
        assert (arguments(batch, "name"), arguments(batch, "outcome")) == (["web1.example"], ["unanswered"])


def test_a_question_without_an_answer_ends_with_its_file(folder):
    """At the end of a file nothing can answer a question any more."""
    with publishing(folder, live=False) as cache, open_bus() as bus:
        subscriber = subscribed(bus, cache)
        flow = there()
        cache.state.image.feed(1_000, query("gone.example"), Circumstances(flow, batch="s/7"))
        cache.step()
        assert cache.state.counters["facts_published"] == 0
        cache.state.end_turn(Turn("s", 1, {}, False, 1_000, ended=True), cache.clock.monotonic())
        [batch], follower = received(subscriber, cache, 1)
        assert arguments(batch, "outcome") == ["unanswered"]
        assert not follower.live


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "vanished"])
def test_the_connections_of_a_probe_that_is_gone(folder, ended):
    """The connections that a probe reported end when it has ended, or vanished; those of another one do not."""
    with publishing(folder) as cache, open_bus() as bus:
        subscriber = subscribed(bus, cache, NET_CONNECTION)
        cache.connect(1)
        cache.connect(2, "another")
        cache.clock.advance(2)
        cache.end_turn(1, ended=ended)
        assert cache.state.counters["facts_published"] == 0
        for turn in range(0 if ended else 11):
            cache.end_turn(turn, "another")
            cache.step()
        batches, follower = received(subscriber, cache, 3, NET_CONNECTION)
        assert [one for batch in batches for one in arguments(batch, "id", NET_CONNECTION)] == [
            "s/net_tcp_connect/7/0/opened",
            "another/net_tcp_connect/7/1/opened",
            "s/net_tcp_connect/7/0/end",
        ]
        last = unpacked_fact(NET_CONNECTION, batches[-1].events[-1], batches[-1].probe)
        assert (last.args["why"], round(last.args["lasted"] / SECOND)) == ("probe gone", 2)
        assert follower.lost.total() == 0
        assert cache.state.counters["facts_published"] == 3


def test_a_fact_that_fits_in_no_batch_is_counted(folder):
    """A process whose path no batch holds has no fact; the next fact follows."""
    with publishing(folder) as cache, open_bus() as bus:
        subscriber = subscribed(bus, cache)
        with pytest.MonkeyPatch.context() as patched:
            patched.setitem(globals(), "ASKER", Process(8, path="p" * (200 << 10)))
            cache.resolve("large.example")
        cache.resolve("small.example")
        [batch], _ = received(subscriber, cache, 1)
        assert arguments(batch, "name") == ["small.example"]
        assert cache.state.counters["facts_refused"] == 1


def test_a_batch_states_a_start_once(folder):
    """The ids in a batch refer to the start of its first fact. Those of another start of the host are whole."""
    with publishing(folder) as cache, open_bus() as bus:
        subscriber = subscribed(bus, cache)
        for name, start in (("a.example", "s"), ("b.example", "t/1"), ("c.example", "s"), ("d.example", "")):
            cache.resolve(name, start=start)
        cache.resolve("e.example", "web2", "t/1")
        cache.resolve("f.example", "web3", "t")
        batches, follower = received(subscriber, cache, 6)
        assert [(batch.host, batch.probe) for batch in batches] == [("web1", "s"), ("web2", "t"), ("web3", "t")]
        stated = [[event.args[""][0] for event in batch.events] for batch in batches]
        assert stated == [[[7, 0], "t/1/7/2", [7, 4], "/7/6"], ["t/1/7/8"], [[7, 10]]]
        assert [arguments(batch, "id") for batch in batches] == [
            [f"{start}/net_packet_dns/7/{place}/end" for start, place in (("s", 0), ("t/1", 2), ("s", 4), ("", 6))],
            ["t/1/net_packet_dns/7/8/end"],
            ["t/net_packet_dns/7/10/end"],
        ]
        cache.resolve("g.example", start="t")
        [*_, last], _ = received(subscriber, cache, 1)
        assert (last.probe, last.events[0].args[""][0]) == ("t", [7, 12])
        assert follower.lost.total() == 0


def test_the_start_of_a_probe_counts_among_the_bytes_of_its_batch(folder):
    """A start that no batch can hold costs its own facts, and not the others of the turn."""
    with publishing(folder) as cache, open_bus() as bus:
        subscriber = subscribed(bus, cache)
        cache.resolve("large.example", "web2", "s" * (200 << 10))
        cache.resolve("small.example")
        [batch], _ = received(subscriber, cache, 1)
        assert arguments(batch, "name") == ["small.example"]
        assert cache.state.counters["facts_refused"] == 1


def test_a_question_of_a_client_is_named_as_its_start_allows():
    """The client's question for which a forwarder asked may be of another start than the batch."""
    for asked_for, stated in (("s/7/1", (7, 1)), ("t/7/1", "t/7/1"), ("", None)):
        captured = captured_of(replace(TRANSACTION, asked_for=asked_for), "s")
        assert (captured.args[""][0], captured.args[""][6]) == ((7, 3), stated)
        known = unpacked_fact(DNS_TRANSACTION, decode(encode(Batch("c", 1, 0, [captured])), Batch).events[0], "s").args
        assert known.get("for") == (f"{asked_for[:1]}/net_packet_dns/7/1/end" if asked_for else None)


def test_lookups_after_a_fact_are_answered(folder):
    """A mark of a fact is reached: the cache has applied what it states."""
    with publishing(folder) as cache:
        assert cache.state.follower.reached((cache.state.follower.own, 99)) is True
        assert cache.state.follower.reached(("another", 99)) is False


def test_the_last_turn_states_the_end(folder):
    """A cache that ends publishes what is left, and a turn that states the end."""
    with publishing(folder) as cache, open_bus() as bus:
        subscriber = subscribed(bus, cache)
        cache.resolve("last.example")
        cache.facts.close()
        messages = []
        wait_until(
            lambda: (
                messages.extend(filter(None, [subscriber.receive()]))
                or any(topic == TURN and decode(body, Turn).ended for topic, body in messages)
            ),
            "the last turn",
        )
        assert any(topic == DNS_TRANSACTION for topic, _ in messages)


def test_a_cache_that_ends_waits_for_no_bytes(folder):
    """A cache that ends publishes the end of a connection whose process has ended, and whose close may still come."""
    with publishing(folder) as cache, open_bus() as bus:
        subscriber = subscribed(bus, cache, NET_CONNECTION)
        cache.connect(1)
        cache.apply(SCHED_PROCESS_EXIT)
        cache.facts.close()
        [batch], _ = received(subscriber, cache, 2, NET_CONNECTION)
        assert arguments(batch, "stage", NET_CONNECTION) == ["opened", "end"]


def test_another_host_receives_facts_with_an_allowed_key(folder):
    """Over tcp the start of the facts is one of the key of the cache, and its publisher is known by this key."""
    public, other = new_pair(folder / "cache"), new_pair(folder / "other")
    allow(folder / "cache", CLIENTS, "other", other)
    allow(folder / "other", SERVERS, "127.0.0.1", public, "central")
    address = f"tcp://127.0.0.1:{free_port('127.0.0.1', 2)}"
    state = CacheState(Image(), FakeClock())
    with closing(ZmqBus(load_keys(folder / "cache"))) as bus, closing(ZmqBus(load_keys(folder / "other"))) as remote:
        ends = bus.publisher(address, lossless=False), bus.server(replay_address(address))
        facts = FactsPublisher(*ends, HostIdentity("here", key=key_digest(public)), state)
        subscriber = remote.subscriber([address], [DNS_TRANSACTION, TURN])
        turns: list[Turn] = []

        def heard() -> bool:
            bus.wait(timeout=0.01)
            state.clock.advance(1)
            facts.step()
            turns.extend(decode(message[1], Turn) for message in [subscriber.receive()] if message is not None)
            return bool(turns) and state.image.transactions is not None

        wait_until(heard, "a turn")
        assert subscriber.publisher == RemoteHost(key_digest(public), "central")
        assert subscriber.publisher.owns(turns[0].start)
