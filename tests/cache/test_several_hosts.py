"""A cache of several hosts names them, and answers for one of them alone; a cache of one host names none."""

from __future__ import annotations

import msgspec
import pytest

from builders.dns_builders import t
from builders.talk import OWN, back
from builders.talk import answer as response
from builders.talk import query as question
from dnstrail.captured import Captured, Process
from dnstrail.connection import Connection
from dnstrail.events import EFFECTS, NET_TCP_CONNECT
from dnstrail.image import Circumstances, Image
from dnstrail.image.apply import apply_event
from dnstrail.image.record import MAX_SIGHTINGS
from dnstrail.protocol.lookups import (
    ConnectionsRequest,
    GetManyRequest,
    GetRequest,
    RefusedRequestError,
    TrailRequest,
    decode_request,
    encode_request,
)
from dnstrail_cache.lookups.answers import answer
from dnstrail_cache.state.cache_state import CacheState
from live.workers import FakeClock

SHARED = "192.0.2.1"
APP = Process(70, "app", start_time=t(-100))  # both hosts have this process id
NXDOMAIN = b"\x81\x83"


def fed(*hosts: str) -> CacheState:
    """Return a cache that heard these hosts."""
    state = CacheState(Image(), FakeClock())
    for host in hosts:
        state.heard(host)
    return state


def asks(state: CacheState, host: str, after: float, name: str, payload: bytes | None = None) -> None:
    """Let the process 70 of a host ask a name; by default its address is SHARED."""
    for message, flow in ((question(name), OWN), (payload or response(SHARED, name=name), back(OWN))):
        state.image.feed(t(after), message, Circumstances(flow, APP, live=True, host=host))


def fields(request, state: CacheState):
    """Return the data of a reply, as a client receives them."""
    return msgspec.to_builtins(answer(request, state))


def asked_in_vain(state: CacheState, **more: str):
    with pytest.raises(RefusedRequestError) as refused:
        answer(GetRequest(key="gone.example", **more), state)
    return refused.value.asked


@pytest.fixture
def two() -> CacheState:
    """Return a cache of the hosts alpha and beta: each asked for a name with the same address."""
    state = fed("alpha", "beta")
    asks(state, "alpha", 0, "of-alpha.example")
    asks(state, "beta", 1, "of-beta.example")
    return state


def test_a_lookup_names_the_hosts_that_asked(two):
    """The result of a lookup contains the hosts that asked for its root, the last one first; without a root none."""
    asks(two, "beta", 2, "of-alpha.example")
    found = fields(GetRequest(key="of-alpha.example"), two)
    assert found["hosts"] == ["beta", "alpha"]
    assert [one and one["hosts"] for one in fields(GetManyRequest(keys=("of-beta.example", "none")), two)] == [
        ["beta"],
        None,
    ]


def test_a_trail_names_the_host_of_each_asker(two):
    """The same client and process of two hosts are two askers."""
    asks(two, "beta", 2, "of-alpha.example")
    [trail, _] = fields(TrailRequest(key=SHARED), two)["trails"]
    assert [(one["host"], one["process_id"], one["count"]) for one in trail["asked"]] == [
        ("beta", 70, 1),
        ("alpha", 70, 1),
    ]


def test_a_name_that_is_not_found_names_the_host_that_asked(two):
    """`asked` contains the host; for another host nobody asked."""
    asks(
        two,
        "beta",
        2,
        "gone.example",
        response("", name="gone.example")[:2] + NXDOMAIN + response("", name="gone.example")[4:],
    )
    asked = asked_in_vain(two)
    assert (asked["host"], asked["outcome"]) == ("beta", "NXDOMAIN")
    assert asked_in_vain(two, host="beta") == asked
    assert asked_in_vain(two, host="alpha") is None


def test_a_lookup_for_a_host_uses_its_answers_alone(two):
    """With `host`, names that only others asked are not found, and an address has the names of this host."""
    assert fields(GetRequest(key=SHARED), two)["dns_root"] == "of-beta.example"
    assert fields(GetRequest(key=SHARED, host="alpha"), two)["dns_queries"] == ["of-alpha.example"]
    assert fields(GetRequest(key=SHARED, host="beta"), two)["dns_queries"] == ["of-beta.example"]
    with pytest.raises(RefusedRequestError, match="not found"):
        answer(GetRequest(key="of-beta.example", host="alpha"), two)


def test_a_trail_for_a_host_uses_its_answers_alone(two):
    """With `host`, a trail has the paths, askers, counts and times of the answers of this host."""
    asks(two, "beta", 2, "of-alpha.example")
    [trail] = fields(TrailRequest(key=SHARED, host="alpha"), two)["trails"]
    assert (trail["dns_root"], [one["host"] for one in trail["asked"]]) == ("of-alpha.example", ["alpha"])
    assert (trail["last_seen"], trail["steps"][0]["count"]) == (t(0) / 1e9, 1)
    assert len(fields(TrailRequest(key=SHARED, host="beta"), two)["trails"]) == 2


def test_a_lookup_for_a_host_admits_that_a_sum_may_hide_its_answers(two):
    """Answers beyond those held one by one name no host: `history` is false where they could matter."""
    for number in range(MAX_SIGHTINGS):
        asks(two, "beta", 2 + number / 5, "of-alpha.example")
    assert two.image.get(SHARED, connection=Connection(host="alpha")) is None, "the answer to alpha is in the sum"
    asks(two, "alpha", 8, "third.example")
    assert fields(GetRequest(key=SHARED, host="alpha"), two)["history"] is False
    assert fields(GetRequest(key=SHARED, host="beta"), two)["history"] is True
    assert fields(TrailRequest(key=SHARED, host="alpha"), two)["history"] is False


def test_connections_are_limited_to_a_host(two):
    """`connections` of a host are the ones of its probe; the page states how many hosts the cache follows."""
    for host, address in (("alpha", "192.0.2.7"), ("beta", "192.0.2.8")):
        event = Captured(t(3), b"", back(OWN), APP, {"dst": address, "dst_port": 443})
        apply_event(two.image, EFFECTS[NET_TCP_CONNECT], event, live=True, host=host)
    assert [one["host"] for one in fields(ConnectionsRequest(), two)["connections"]] == ["alpha", "beta"]
    page = fields(ConnectionsRequest(host="beta"), two)
    assert ([one["address"] for one in page["connections"]], page["hosts"]) == (["192.0.2.8"], 2)


def test_a_process_of_another_host_gives_no_scope(two):
    """The same process id on another host is another process: it explains no connection of this host."""
    names = two.image.names_of_address(SHARED)
    assert names.likeliest(Connection(process=70, host="alpha")) == ["of-alpha.example", "of-beta.example"]
    assert names.likeliest(Connection(process=70, host="beta")) == ["of-beta.example", "of-alpha.example"]


def test_a_cache_of_one_host_names_none():
    """The replies of a cache of one host have no field for the host."""
    state = fed("alpha")
    asks(state, "alpha", 0, "one.example")
    gone = response("", name="gone.example")
    asks(state, "alpha", 1, "gone.example", gone[:2] + NXDOMAIN + gone[4:])
    assert "hosts" not in fields(GetRequest(key=SHARED), state)
    assert "hosts" not in fields(GetManyRequest(keys=(SHARED,)), state)[0]
    assert "host" not in fields(TrailRequest(key=SHARED), state)["trails"][0]["asked"][0]
    assert "host" not in asked_in_vain(state)
    assert fields(ConnectionsRequest(), state)["hosts"] == 1


def test_the_hosts_of_a_crowded_question_are_those_of_its_newest_answers(two):
    """A question of very many hosts names those of the newest held answers: the list is bounded."""
    for number in range(MAX_SIGHTINGS + 4):
        asks(two, f"host{number}", 3 + number / 5, "of-alpha.example")
    hosts = fields(GetRequest(key="of-alpha.example"), two)["hosts"]
    assert hosts == [f"host{number}" for number in reversed(range(4, MAX_SIGHTINGS + 4))]


def test_the_hosts_are_found_among_the_newest_records(two):
    """With very many answers to a question, the hosts of the records that were answered last are named."""
    for number in range(7 * MAX_SIGHTINGS):
        record = number // MAX_SIGHTINGS
        payload = response(f"192.0.2.{100 + record}", name="of-alpha.example")
        asks(two, f"host{record}", 3 + number / 5, "of-alpha.example", payload)
    hosts = fields(GetRequest(key="of-alpha.example"), two)["hosts"]
    assert hosts == ["host6", "host5", "host4", "host3"]


def test_a_cache_holds_a_bounded_number_of_host_names():
    """Names of hosts beyond the number of followed starts are forgotten."""
    state = fed()
    for number in range(2 * state.image.bounds.probes + 3):
        state.heard(f"host{number}")
    assert len(state.hosts) <= state.image.bounds.probes + 1


def test_the_host_of_a_request_is_checked():
    """A host that is no text, or too long, is a bad request."""
    for host in (7, "h" * 300):
        with pytest.raises(RefusedRequestError, match="host"):
            decode_request(encode_request("trail", key="a.example", host=host))
