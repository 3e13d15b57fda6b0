from __future__ import annotations

import math
import string

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dnstrail.events import NET_PACKET_DNS
from dnstrail.protocol.batches import TURN
from dnstrail.protocol.lookups import (
    BAD_REQUEST,
    KEY_NOT_SUPPORTED,
    OPERATIONS,
    UNSUPPORTED_VERSION,
    RefusedError,
    Request,
    decode_request,
    encode_data,
    encode_error,
    encode_request,
)


def raw(**fields):
    return msgpack.packb({"v": 1, "op": "get", "key": "a.com", **fields})


def without(name):
    return msgpack.packb({key: value for key, value in {"v": 1, "op": "get", "key": "a"}.items() if key != name})


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
    "an op that is no text": (raw(op=1), BAD_REQUEST, "`$.op`"),
    "no op": (without("op"), BAD_REQUEST, "`op`"),
    "keys missing": (raw(op="get_many"), BAD_REQUEST, "get_many without keys"),
    "keys nil": (raw(op="get_many", keys=None), BAD_REQUEST, "get_many without keys"),
    "keys no list": (raw(op="get_many", keys="a.com"), BAD_REQUEST, "`$.keys`"),
    "too many keys": (raw(op="get_many", keys=["a"] * 1025), BAD_REQUEST, "1025 keys; 1024 at most"),
    "a long key": (raw(key="a" * 1025), BAD_REQUEST, "a key of 1025 bytes; 1024 at most"),
    "a key long in bytes": (raw(key="é" * 513), BAD_REQUEST, "a key of 1026 bytes"),
    "a long key of many": (raw(op="get_many", keys=["a", "a" * 1025]), BAD_REQUEST, "a key of 1025 bytes"),
    "a long key of trail": (raw(op="trail", key="a" * 1025), BAD_REQUEST, "a key of 1025 bytes"),
    "no key": (without("key"), KEY_NOT_SUPPORTED, "NoneType, not a string"),
    "key nil": (raw(key=None), KEY_NOT_SUPPORTED, "NoneType, not a string"),
    "key int": (raw(key=1), KEY_NOT_SUPPORTED, "int, not a string"),
    "key float": (raw(key=1.5), KEY_NOT_SUPPORTED, "float, not a string"),
    "key bool": (raw(key=True), KEY_NOT_SUPPORTED, "bool, not a string"),
    "key bytes": (raw(key=b"a.com"), KEY_NOT_SUPPORTED, "bytes, not a string"),
    "key list": (raw(key=["a.com"]), KEY_NOT_SUPPORTED, "list, not a string"),
    "key map": (raw(key={"a": 1}), KEY_NOT_SUPPORTED, "dict, not a string"),
    "key time stamp": (raw(key=msgpack.Timestamp(1)), KEY_NOT_SUPPORTED, "Timestamp, not a string"),
    "key of many int": (raw(op="get_many", keys=["a", 1]), KEY_NOT_SUPPORTED, "int, not a string"),
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
    "past 1 MiB": (bytes(1024 * 1024 + 1), BAD_REQUEST, "a message of 1048577 bytes; 1048576 at most"),
}

MARK = ("start", 1)
ACCEPTED = {
    "get": (raw(), Request("get", ("a.com",))),
    "no name at all": (raw(key=""), Request("get", ("",))),
    "trail": (raw(op="trail"), Request("trail", ("a.com",))),
    "get_many": (raw(op="get_many", keys=["b", "a", "b"]), Request("get_many", ("b", "a", "b"))),
    "no keys": (raw(op="get_many", keys=[]), Request("get_many")),
    "all keys": (raw(op="get_many", keys=["a"] * 1024), Request("get_many", ("a",) * 1024)),
    "the longest key": (raw(key="é" * 512), Request("get", ("é" * 512,))),
    "at": (raw(at=1.5), Request("get", ("a.com",), 1.5)),
    "at a whole number": (raw(at=-3), Request("get", ("a.com",), -3.0)),
    "at nil": (raw(at=None), Request("get", ("a.com",))),
    "after": (raw(after=[MARK, ("b", 2)]), Request("get", ("a.com",), None, (MARK, ("b", 2)))),
    "all marks": (raw(after=[MARK] * 64), Request("get", ("a.com",), None, (MARK,) * 64)),
    "fields of later versions": (raw(new={"a": [[]]}), Request("get", ("a.com",))),
    "losses": (
        raw(op="lost", worker="w", lost={NET_PACKET_DNS: 3, TURN: 1}),
        Request("lost", worker="w", lost={NET_PACKET_DNS: 3, TURN: 1}),
    ),
    "just nested enough": (raw(more=nested(3)), Request("get", ("a.com",))),
}
FREE = ("schema", "keys", "version", "stats", "health")


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_request_is_refused(case):
    """What is no request is refused with its code and a text that says what is wrong and stays short."""
    body, code, text = REFUSED[case]
    with pytest.raises(RefusedError) as caught:
        decode_request(body)
    assert caught.value.code == code
    assert text in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_request_is_read(case):
    """A good request keeps its operation, keys, time and marks."""
    body, request = ACCEPTED[case]
    assert decode_request(body) == request


@pytest.mark.parametrize("op", FREE)
def test_what_takes_no_key_ignores_one(op):
    """An operation without a key does not look at any."""
    assert decode_request(encode_request(op)) == decode_request(raw(op=op, key=1, keys=[1])) == Request(op)


def test_every_operation_is_read():
    """The operations of this version are those that the tests know."""
    assert set(OPERATIONS) == {"get", "get_many", "trail", "lost", *FREE}


def test_what_the_client_writes_is_read():
    """A request as the client encodes it is read as it was meant."""
    body = encode_request("get_many", keys=["a", "b"], after=[MARK], at=2.5)
    assert decode_request(body) == Request("get_many", ("a", "b"), 2.5, (MARK,))


def test_replies_have_the_documented_form():
    """A reply is one map: version, ok, and the data with its completeness, or the error with its message."""
    assert msgpack.unpackb(encode_data([1])) == {"v": 1, "ok": True, "data": [1], "complete": True}
    assert msgpack.unpackb(encode_data(None, complete=False)) == {"v": 1, "ok": True, "data": None, "complete": False}
    refused = {"v": 1, "ok": False, "error": "overloaded", "message": "why"}
    assert msgpack.unpackb(encode_error("overloaded", "why")) == refused
    assert msgpack.unpackb(encode_error("overloaded", "why", complete=False)) == {**refused, "complete": False}


def decodes_or_refuses(body):
    outcome: object
    try:
        outcome = type(decode_request(body))
    except RefusedError as refused:
        outcome = refused.code
    assert outcome in {Request, BAD_REQUEST, KEY_NOT_SUPPORTED, UNSUPPORTED_VERSION}


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
    """Whatever bytes come, they are a request or refused, and nothing else is raised."""
    decodes_or_refuses(body)


@given(VALUES)
def test_any_value_is_decoded_or_refused(value):
    """Whatever MessagePack value comes, it is a request or refused."""
    decodes_or_refuses(msgpack.packb(value))


@given(
    st.fixed_dictionaries(
        {"v": st.just(1), "op": st.sampled_from(OPERATIONS)},
        optional=dict.fromkeys(("key", "keys", "at", "after", "worker", "lost", "more"), VALUES),
    )
)
def test_any_fields_are_decoded_or_refused(fields):
    """Whatever a request of a known operation has in its fields, it is a request or refused."""
    decodes_or_refuses(msgpack.packb(fields))
