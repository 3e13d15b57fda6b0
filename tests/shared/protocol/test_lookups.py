from __future__ import annotations

import math
import string

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dnstrail.events import LOSS_REASONS, NET_PACKET_DNS
from dnstrail.protocol.batches import TURN
from dnstrail.protocol.lookups import (
    BAD_REQUEST,
    KEY_NOT_SUPPORTED,
    OPERATIONS,
    UNSUPPORTED_VERSION,
    ConnectionTo,
    GetManyRequest,
    GetRequest,
    LostRequest,
    RankRequest,
    RefusedRequestError,
    Request,
    TrailRequest,
    decode_request,
    encode_data,
    encode_error,
    encode_request,
)


def raw(**fields):
    return msgpack.packb({"v": 1, "op": "get", "key": "a.com", **fields})


def without(name):
    return msgpack.packb({key: value for key, value in {"v": 1, "op": "get", "key": "a"}.items() if key != name})


def rank(connections=(), **fields):
    return raw(op="rank", connections=connections, **fields)


def nested(depth):
    return 0 if depth == 0 else [nested(depth - 1)]


REFUSED = {
    "nothing": (b"", BAD_REQUEST, "no MessagePack"),
    "no MessagePack": (b"\xc1", BAD_REQUEST, "no MessagePack"),
    "cut short": (raw()[:-1], BAD_REQUEST, "no MessagePack"),
    "something behind": (raw() + b"\0", BAD_REQUEST, "no MessagePack"),
    "text that is no UTF-8": (raw(key="abc").replace(b"abc", b"\xff\xff\xff"), BAD_REQUEST, "no MessagePack"),
    "JSON": (b'{"v":1,"op":"version"}', BAD_REQUEST, "no MessagePack"),
    "a map with a number for a key": (msgpack.packb({1: 1, "v": 1}), BAD_REQUEST, "no MessagePack"),
    "a million arrays in each other": (b"\x91" * 1_000_000, BAD_REQUEST, "no MessagePack"),
    "an array of four thousand million": (b"\xdd\xff\xff\xff\xff", BAD_REQUEST, "no MessagePack"),
    "no map": (msgpack.packb(["v", 1]), BAD_REQUEST, "a request is a MessagePack map"),
    "nil": (msgpack.packb(None), BAD_REQUEST, "a request is a MessagePack map"),
    "losses of nobody": (raw(op="lost", lost={TURN: 1}), BAD_REQUEST, "without the name"),
    "losses of an event that there is not": (raw(op="lost", worker="w", lost={"x": 1}), BAD_REQUEST, "is called 'x'"),
    "losses below 0": (raw(op="lost", worker="w", lost={TURN: -1}), BAD_REQUEST, ">= 0"),
    "losses without end": (raw(op="lost", worker="w", lost={TURN: 1 << 60}), BAD_REQUEST, "<"),
    "losses that are no map": (raw(op="lost", worker="w", lost=[1]), BAD_REQUEST, "object"),
    "a name without end": (raw(op="lost", worker="w" * 129, lost={}), BAD_REQUEST, "128"),
    "another v": (raw(v=2), UNSUPPORTED_VERSION, "v is 2; this cache speaks 1"),
    "v as text": (raw(v="1"), UNSUPPORTED_VERSION, "v is '1'"),
    "v true": (raw(v=True), UNSUPPORTED_VERSION, "v is True"),
    "a long v": (raw(v="9" * 9999), UNSUPPORTED_VERSION, "v is '9999"),
    "no v": (without("v"), UNSUPPORTED_VERSION, "v is None"),
    "an unknown op": (raw(op="drop"), BAD_REQUEST, "unknown op 'drop'; known: get, get_many"),
    "an op in another case": (raw(op="GET"), BAD_REQUEST, "unknown op 'GET'"),
    "an op that is no text": (raw(op=1), BAD_REQUEST, "unknown op 1;"),
    "an op that is a list": (raw(op=["get"]), BAD_REQUEST, "unknown op ['get'];"),
    "a long op": (raw(op="x" * 999), BAD_REQUEST, "unknown op 'xxx"),
    "no op": (without("op"), BAD_REQUEST, "unknown op None;"),
    "keys missing": (raw(op="get_many"), BAD_REQUEST, "`keys`"),
    "keys nil": (raw(op="get_many", keys=None), BAD_REQUEST, "`$.keys`"),
    "keys no list": (raw(op="get_many", keys="a.com"), BAD_REQUEST, "`$.keys`"),
    "too many keys": (raw(op="get_many", keys=["a"] * 1025), BAD_REQUEST, "1025 keys; 1024 at most"),
    "a long key": (raw(key="a" * 1025), BAD_REQUEST, "a key of 1025 bytes; 1024 at most"),
    "a key long in bytes": (raw(key="é" * 513), BAD_REQUEST, "a key of 1026 bytes"),
    "a long key of many": (raw(op="get_many", keys=["a", "a" * 1025]), BAD_REQUEST, "a key of 1025 bytes"),
    "a long key of trail": (raw(op="trail", key="a" * 1025), BAD_REQUEST, "a key of 1025 bytes"),
    "no key": (without("key"), BAD_REQUEST, "missing required field `key`"),
    "key nil": (raw(key=None), KEY_NOT_SUPPORTED, "NoneType, not a string"),
    "key int": (raw(key=1), KEY_NOT_SUPPORTED, "int, not a string"),
    "key float": (raw(key=1.5), KEY_NOT_SUPPORTED, "float, not a string"),
    "key bool": (raw(key=True), KEY_NOT_SUPPORTED, "bool, not a string"),
    "key bytes": (raw(key=b"a.com"), KEY_NOT_SUPPORTED, "bytes, not a string"),
    "key list": (raw(key=["a.com"]), KEY_NOT_SUPPORTED, "list, not a string"),
    "key map": (raw(key={"a": 1}), KEY_NOT_SUPPORTED, "dict, not a string"),
    "key time stamp": (raw(key=msgpack.Timestamp(1)), KEY_NOT_SUPPORTED, "Timestamp, not a string"),
    "key of many int": (raw(op="get_many", keys=["a", 1]), KEY_NOT_SUPPORTED, "int, not a string"),
    "no key of trail": (encode_request("trail"), BAD_REQUEST, "missing required field `key`"),
    "key of trail int": (raw(op="trail", key=1), KEY_NOT_SUPPORTED, "int, not a string"),
    "at NaN": (raw(at=math.nan), BAD_REQUEST, "at is no time"),
    "at infinite": (raw(at=-math.inf), BAD_REQUEST, "at is no time"),
    "at text": (raw(at="now"), BAD_REQUEST, "`$.at`"),
    "at bool": (raw(at=True), BAD_REQUEST, "`$.at`"),
    "after no list": (raw(after="x"), BAD_REQUEST, "`$.after`"),
    "after nil": (raw(after=None), BAD_REQUEST, "`$.after`"),
    "after a mark alone": (raw(after=["start", 1]), BAD_REQUEST, "`$.after[0]`"),
    "a mark of one": (raw(after=[["start"]]), BAD_REQUEST, "`$.after[0]`"),
    "a mark of three": (raw(after=[["start", 1, 2]]), BAD_REQUEST, "`$.after[0]`"),
    "a mark the wrong way round": (raw(after=[["start", 1], [1, "start"]]), BAD_REQUEST, "`$.after[1][0]`"),
    "a turn that is no whole number": (raw(after=[["start", 1.5]]), BAD_REQUEST, "`$.after[0][1]`"),
    "too many marks": (raw(after=[["start", 1]] * 65), BAD_REQUEST, "65 marks; 64 at most"),
    "marks of an op without a key": (raw(op="health", after=[["start", 1]] * 65), BAD_REQUEST, "65 marks; 64 at most"),
    "at and at_ns": (raw(at=1.5, at_ns=1_500_000_000), BAD_REQUEST, "at and at_ns"),
    "at and at_ns of rank": (rank(at=0, at_ns=0), BAD_REQUEST, "at and at_ns"),
    "at_ns in seconds": (raw(at_ns=1.5), BAD_REQUEST, "`$.at_ns`"),
    "at_ns too great": (raw(at_ns=1 << 62), BAD_REQUEST, "`$.at_ns`"),
    "at of trail": (raw(op="trail", at=math.inf), BAD_REQUEST, "at is no time"),
    "at of many": (raw(op="get_many", keys=[], at=math.nan), BAD_REQUEST, "at is no time"),
    "at of rank": (rank(at=math.nan), BAD_REQUEST, "at is no time"),
    "no connections": (raw(op="rank"), BAD_REQUEST, "`connections`"),
    "connections nil": (rank(None), BAD_REQUEST, "`$.connections`"),
    "connections that are addresses": (rank(["192.0.2.1"]), BAD_REQUEST, "`$.connections[0]`"),
    "too many connections": (rank([{"address": "::1"}] * 1025), BAD_REQUEST, "1025 connections; 1024 at most"),
    "a connection to nowhere": (rank([{"address": "::1"}, {"port": 1}]), BAD_REQUEST, "`$.connections[1]`"),
    "a connection to a name": (rank([{"address": "a.com"}]), BAD_REQUEST, "address is no address"),
    "a connection to nothing": (rank([{"address": ""}]), BAD_REQUEST, "address is no address"),
    "a connection to a number": (rank([{"address": 1}]), BAD_REQUEST, "`$.connections[0].address`"),
    "a connection to very long text": (rank([{"address": "1" * 257}]), BAD_REQUEST, "<= 256"),
    "a client that is no address": (rank([{"address": "::1", "client": "here"}]), BAD_REQUEST, "client is no address"),
    "a port out of range": (rank([{"address": "::1", "port": 1 << 16}]), BAD_REQUEST, "`$.connections[0].port`"),
    "a process out of range": (rank([{"address": "::1", "process": -1}]), BAD_REQUEST, ">= 0"),
    "a long container": (rank([{"address": "::1", "container": "c" * 257}]), BAD_REQUEST, "<= 256"),
    "past 1 MiB": (bytes(1024 * 1024 + 1), BAD_REQUEST, "a message of 1048577 bytes; 1048576 at most"),
}

MARK = ("start", 1)
ACCEPTED = {
    "get": (raw(), GetRequest(key="a.com")),
    "no name at all": (raw(key=""), GetRequest(key="")),
    "trail": (raw(op="trail"), TrailRequest(key="a.com")),
    "get_many": (raw(op="get_many", keys=["b", "a", "b"]), GetManyRequest(keys=("b", "a", "b"))),
    "no keys": (raw(op="get_many", keys=[]), GetManyRequest(keys=())),
    "all keys": (raw(op="get_many", keys=["a"] * 1024), GetManyRequest(keys=("a",) * 1024)),
    "the longest key": (raw(key="é" * 512), GetRequest(key="é" * 512)),
    "at": (raw(at=1.5), GetRequest(key="a.com", at=1.5)),
    "at a whole number": (raw(at=-3), GetRequest(key="a.com", at=-3.0)),
    "at_ns": (raw(at_ns=1_700_000_000_123_456_789), GetRequest(key="a.com", at_ns=1_700_000_000_123_456_789)),
    "at nil, at_ns": (raw(at=None, at_ns=-7), GetRequest(key="a.com", at_ns=-7)),
    "at nil": (raw(at=None), GetRequest(key="a.com")),
    "after": (raw(after=[MARK, ("b", 2)]), GetRequest(key="a.com", after=(MARK, ("b", 2)))),
    "owner": (raw(owner=["web1", 7]), GetRequest(key="a.com", owner=("web1", 7))),
    "all marks": (raw(after=[MARK] * 64), GetRequest(key="a.com", after=(MARK,) * 64)),
    "fields of later versions": (raw(new={"a": [[]]}), GetRequest(key="a.com")),
    "losses": (
        raw(op="lost", worker="w", lost={NET_PACKET_DNS: 3, TURN: 1}),
        LostRequest(worker="w", lost={NET_PACKET_DNS: 3, TURN: 1}),
    ),
    "no connections": (rank([]), RankRequest(connections=())),
    "connections": (
        rank([{"address": "::1", "process": 7, "port": 443, "later": 1}, {"address": "::2", "client": "::1"}], at=1),
        RankRequest(
            connections=(
                ConnectionTo(address="::1", process=7, port=443),
                ConnectionTo(address="::2", client="::1"),
            ),
            at=1.0,
        ),
    ),
    "all connections": (
        rank([{"address": "::1"}] * 1024),
        RankRequest(connections=(ConnectionTo(address="::1"),) * 1024),
    ),
    "just nested enough": (raw(more=nested(3)), GetRequest(key="a.com")),
}
FIELDS = ("key", "keys", "at", "after", "connections", "client", "worker", "lost", "more")
FREE = ("schema", "keys", "version", "stats", "health")


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_request_is_refused(case):
    """A wrong request is refused with its error code and a short text that names the fault."""
    body, code, text = REFUSED[case]
    with pytest.raises(RefusedRequestError) as caught:
        decode_request(body)
    assert caught.value.code == code
    assert text in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_valid_request_is_decoded(case):
    """A valid request is decoded to the Struct of its operation."""
    body, request = ACCEPTED[case]
    assert decode_request(body) == request


@pytest.mark.parametrize("op", FREE)
def test_an_operation_without_a_key_ignores_one(op):
    """An operation without a key ignores one."""
    assert decode_request(encode_request(op)) == decode_request(raw(op=op, key=1, keys=[1])) == OPERATIONS[op]()


def test_the_operations_of_this_version():
    """These are the operations of this version."""
    assert set(OPERATIONS) == {
        "get",
        "get_many",
        "trail",
        "trail_many",
        "rank",
        "connections",
        "lost",
        "join",
        "dump",
        *FREE,
    }


def test_a_request_of_the_client_is_decoded():
    """A request that the client encodes is decoded to the same values."""
    body = encode_request("get_many", keys=["a", "b"], after=[MARK], at=2.5)
    assert decode_request(body) == GetManyRequest(keys=("a", "b"), at=2.5, after=(MARK,))


def test_replies_have_the_documented_form():
    """A reply is one map: v, ok, and either data with complete or error with message."""
    assert msgpack.unpackb(encode_data([1])) == {"v": 1, "ok": True, "data": [1], "complete": True}
    assert msgpack.unpackb(encode_data(None, complete=False)) == {"v": 1, "ok": True, "data": None, "complete": False}
    refused = {"v": 1, "ok": False, "error": "overloaded", "message": "why"}
    assert msgpack.unpackb(encode_error(RefusedRequestError("overloaded", "why"))) == refused
    assert msgpack.unpackb(encode_error(RefusedRequestError("overloaded", "why"), complete=False)) == {
        **refused,
        "complete": False,
    }


def decodes_or_refuses(body):
    outcome: object
    try:
        outcome = isinstance(decode_request(body), Request)
    except RefusedRequestError as refused:
        outcome = refused.code
    assert outcome in {True, BAD_REQUEST, KEY_NOT_SUPPORTED, UNSUPPORTED_VERSION}


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=12)),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(string.ascii_lowercase, max_size=5), inner),
    max_leaves=20,
)


@given(st.binary(max_size=200))
@example(b"\xd6\xff\x00\x00\x00\x00")
@example(b"\xc7\x0c\xff\xff\xff\xff\xff" + bytes(8))
def test_any_bytes_are_decoded_or_refused(body):
    """Any bytes are decoded or refused; nothing else is raised."""
    decodes_or_refuses(body)


@given(VALUES)
def test_any_value_is_decoded_or_refused(value):
    """Any MessagePack value is decoded or refused."""
    decodes_or_refuses(msgpack.packb(value))


@given(
    st.fixed_dictionaries(
        {"v": st.just(1), "op": st.sampled_from([*OPERATIONS])},
        optional=dict.fromkeys(FIELDS, VALUES),
    )
)
def test_any_fields_are_decoded_or_refused(fields):
    """Any values in the fields of a known operation are decoded or refused."""
    decodes_or_refuses(msgpack.packb(fields))


def test_every_reason_of_a_loss_is_accepted():
    """A report with one unknown reason would be refused whole: the cache knows the reasons of all workers."""
    lost = dict.fromkeys((NET_PACKET_DNS, TURN, *LOSS_REASONS), 1)
    assert decode_request(raw(op="lost", worker="w", lost=lost)) == LostRequest(worker="w", lost=lost)
