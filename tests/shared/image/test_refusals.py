from __future__ import annotations

import gc

import msgpack
import pytest

from dnstrail.bus.ipc import lookups_address
from dnstrail.client import DnsDataSource
from dnstrail.dns.names import lookup_key
from dnstrail.errors import BusError, KeyNotSupported, LookupRefused
from dnstrail.protocol.lookups import BAD_REQUEST, RefusedRequestError, decode_request
from live.workers import BOUND, answering, cache, open_bus, short_folder


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


def nested(depth):
    return 0 if depth == 0 else [nested(depth - 1)]


@pytest.mark.parametrize("depth", [4, 5, 500])
def test_a_request_that_is_nested_too_deep_is_refused(depth):
    """A request with more than four nested maps and arrays is refused."""
    with pytest.raises(RefusedRequestError, match="nested deeper than 4") as caught:
        decode_request(msgpack.packb({"v": 1, "op": "get", "key": "a", "more": nested(depth)}))
    assert caught.value.code == BAD_REQUEST


@pytest.mark.parametrize(
    "reply",
    [{"ok": True}, {"ok": True, "data": None}, {"ok": True, "data": {}}, {"ok": True, "data": [1]}],
    ids=["no data", "nil", "no fields", "a number"],
)
@pytest.mark.parametrize("op", ["get", "get_many"])
def test_an_answer_without_its_fields_is_refused(folder, op, reply):
    """A reply without the fields of the schema raises LookupRefused."""
    address = lookups_address(folder)
    with answering(address, lambda _body: msgpack.packb(reply)), open_bus() as bus:
        source = DnsDataSource(address, bus=bus, timeout=BOUND)
        ask = (lambda: source.get("a")) if op == "get" else (lambda: source.get_many(["a"]))
        with pytest.raises(LookupRefused):
            ask()


def test_a_key_that_no_wire_can_carry_is_one_that_is_not_found(folder):
    """A key with a lone surrogate is not found; the other keys of the request are answered."""
    with cache(folder) as address, open_bus() as bus:
        assert DnsDataSource(address, bus=bus, timeout=BOUND).get_many(["a", "\udcff"]) == [None, None]


@pytest.mark.parametrize("key", [object(), 2**70], ids=["an object", "a large number"])
def test_of_many_keys_one_that_is_no_string_is_not_supported(folder, key):
    """A key of `get_many` that is no string raises KeyNotSupported."""
    with cache(folder) as address, open_bus() as bus:
        source = DnsDataSource(address, bus=bus, timeout=BOUND)
        with pytest.raises(KeyNotSupported):
            source.get_many(["a", key])


def test_a_client_that_cannot_connect_leaves_nothing_open():
    """A client with a refused address leaves no socket and no bus open."""
    with pytest.raises(BusError):
        DnsDataSource("tcp://192.0.2.1:5555")
    gc.collect()


def test_a_bus_lets_go_of_what_it_could_not_bind(folder):
    """A socket whose bind was refused is closed at once."""
    address = f"ipc://{folder}/x.sock"
    with open_bus() as first, open_bus() as second:
        first.server(address)
        with pytest.raises(BusError, match="another dnstrail serves here"):
            second.server(address)
        gc.collect()


@pytest.mark.parametrize("name", ["x" * 64 + ".com", ".".join(["x" * 60] * 5)], ids=["a label", "a name"])
def test_what_is_too_long_for_the_dns_is_no_key(name):
    """A label of 64 bytes, or a name of more than 255, is no key (RFC 1035, section 2.3.4)."""
    assert lookup_key(name) is None


@pytest.mark.parametrize("name", ["4].3.2.[1.in-addr.arpa", "4.3.2.::ffff:1.in-addr.arpa"])
def test_a_reverse_name_has_four_octets(name):
    """A reverse name whose labels do not encode four octets names no address."""
    assert lookup_key(name) is None
