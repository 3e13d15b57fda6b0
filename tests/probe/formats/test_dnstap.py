"""Tests of dnstrail_probe.formats.dnstap, dnstrail_probe.formats.protobuf."""

from __future__ import annotations

import struct

import dnstap_pb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.dnstap_builders import WHOLE, tap
from dnstrail.captured import Captured, Flow
from dnstrail_probe.formats.dnstap import MOST_FIELDS, read_dnstap

ARRIVAL = 1_600_000_000_000_000_000
CLIENT, SERVER = (WHOLE["query_address"], 40000), (WHOLE["response_address"], 853)
ENDS = ("AUTH", "RESOLVER", "CLIENT", "FORWARDER", "STUB", "TOOL")


def test_a_response_goes_from_server_to_client_at_its_own_time():
    """A response flows from the server to the client, at the time of the response, and names its transport."""
    found = read_dnstap(tap("CLIENT_RESPONSE", b"ns1", response_message=b"payload", **WHOLE), ARRIVAL)
    assert found == Captured(
        1_700_000_001_000_000_007,
        b"payload",
        Flow(*SERVER, *CLIENT, "tcp"),
        None,
        {"dnstap": "CLIENT_RESPONSE", "transport": "dot", "identity": "ns1"},
    )


def test_a_query_goes_from_client_to_server_at_its_own_time():
    """A query flows from the client to the server, at the time of the query."""
    found = read_dnstap(tap("CLIENT_QUERY", query_message=b"payload", **WHOLE), ARRIVAL)
    assert (found.timestamp, found.flow) == (1_700_000_000_000_000_005, Flow(*CLIENT, *SERVER, "tcp"))


@pytest.mark.parametrize("kind", [f"{end}_{what}" for end in ENDS for what in ("QUERY", "RESPONSE")])
def test_each_type_is_named(kind):
    """Queries and responses of every role of a resolver are read under their type, each with its own message."""
    found = read_dnstap(tap(kind, query_message=b"QUERY", response_message=b"RESPONSE", **WHOLE), ARRIVAL)
    assert (found.args["dnstap"], found.payload) == (kind, kind.rpartition("_")[2].encode())


TRANSPORTS = {
    "UDP": ("udp", None),
    "TCP": ("tcp", None),
    "DOT": ("tcp", "dot"),
    "DOH": ("tcp", "doh"),
    "DNSCryptUDP": ("udp", "dnscrypt"),
    "DNSCryptTCP": ("tcp", "dnscrypt"),
    "DOQ": ("udp", "doq"),
}


@pytest.mark.parametrize("protocol", TRANSPORTS)
def test_transports(protocol):
    """The flow names the transport, and the arguments name the encrypted protocol on top of it."""
    found = read_dnstap(tap(response_message=b"x", **{**WHOLE, "socket_protocol": protocol}), ARRIVAL)
    assert (found.flow.transport, found.args.get("transport")) == TRANSPORTS[protocol]


def test_without_a_time_of_its_own():
    """A response without a time has the time of its query; without both it has the time of its arrival."""
    query_alone = {name: value for name, value in WHOLE.items() if not name.startswith("response_time")}
    assert read_dnstap(tap(response_message=b"x", **query_alone), ARRIVAL).timestamp == 1_700_000_000_000_000_005
    assert read_dnstap(tap(response_message=b"x"), ARRIVAL).timestamp == ARRIVAL


def test_without_addresses():
    """A missing end is the unspecified address of the same family; without both ends there is no flow."""
    client = {"query_address": bytes(15) + b"\1", "query_port": 4000}
    assert read_dnstap(tap(response_message=b"x", **client), ARRIVAL).flow == Flow(
        bytes(16), 0, bytes(15) + b"\1", 4000, "udp"
    )
    assert read_dnstap(tap(response_message=b"x"), ARRIVAL).flow is None


def test_an_identity_is_plain_and_bounded():
    """The identity of a server may be any bytes; it becomes text of bounded length."""
    found = read_dnstap(tap(identity=b"\xff" + b"a" * 5000, response_message=b"x"), ARRIVAL)
    assert found.args["identity"] == "\\xff" + "a" * 254


def test_unknown_fields_are_skipped():
    """Unknown fields of every wire type change nothing."""
    later = b"\xf8\x07\x01" + b"\xfd\x07abcd" + b"\xf9\x07abcdefgh" + b"\xfa\x07\x03xyz"
    frame = tap(response_message=b"x", **WHOLE)
    assert read_dnstap(later + frame + later, ARRIVAL) == read_dnstap(frame, ARRIVAL)


def field(number: int, kind: int, rest: bytes) -> bytes:
    """Return a field with a tag of one byte."""
    return bytes([number << 3 | kind]) + rest


MESSAGE = field(15, 0, b"\x01")
HOSTILE = {
    "nothing": (b"", "dnstap_other_type"),
    "no message": (MESSAGE, "dnstap_bad_message"),
    "another type": (field(15, 0, b"\x02"), "dnstap_other_type"),
    "an empty message": (MESSAGE + field(14, 2, b"\x00"), "dnstap_other_type"),
    "no payload": (tap(**WHOLE), "empty_payload"),
    "a query without its message": (tap("CLIENT_QUERY", response_message=b"x"), "empty_payload"),
    "an update": (tap("UPDATE_QUERY", query_message=b"x"), "dnstap_other_type"),
    "type 99": (MESSAGE + field(14, 2, b"\x02\x08\x63"), "dnstap_other_type"),
    "a message larger than its frame": (MESSAGE + field(14, 2, b"\x7f\x08\x06"), "dnstap_bad_message"),
    "a length of 2**63": (MESSAGE + field(14, 2, b"\xff" * 9 + b"\x01"), "dnstap_bad_message"),
    "a number that never ends": (field(15, 0, b"\xff" * 20), "dnstap_bad_message"),
    "a number cut short": (field(15, 0, b"\xff"), "dnstap_bad_message"),
    "a tag alone": (field(15, 0, b""), "dnstap_bad_message"),
    "a fixed number cut short": (MESSAGE + field(13, 5, b"ab"), "dnstap_bad_message"),
    "a group": (MESSAGE + field(1, 3, b""), "dnstap_bad_message"),
    "wire type 7": (MESSAGE + field(1, 7, b""), "dnstap_bad_message"),
    "an address of 5 bytes": (tap(response_message=b"x", query_address=b"12345"), "dnstap_bad_message"),
    "port 65536": (tap(response_message=b"x", query_port=65536), "dnstap_bad_message"),
    "a payload of 64 KiB": (tap(response_message=bytes(65536)), "dnstap_bad_message"),
    "a second of too many ns": (
        tap(response_message=b"x", response_time_sec=1, response_time_nsec=10**9),
        "bad_timestamp",
    ),
    "the year 2262": (tap(response_message=b"x", response_time_sec=2**63 // 10**9 + 1), "bad_timestamp"),
    "the end of all time": (tap(response_message=b"x", response_time_sec=2**64 - 1), "bad_timestamp"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_frame_without_a_message_gives_the_reason(case):
    """A frame without a usable message gives the reason under which it is counted."""
    frame, reason = HOSTILE[case]
    assert read_dnstap(frame, ARRIVAL) == reason


ADDRESSES = st.sampled_from([b"", bytes([192, 0, 2, 1]), bytes(15) + b"\1"])
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "socket_protocol": st.sampled_from(list(TRANSPORTS)),
        "query_address": ADDRESSES,
        "response_address": ADDRESSES,
        "query_port": st.integers(0, 65535),
        "response_port": st.integers(0, 65535),
        "query_time_sec": st.integers(0, 2**33),
        "query_time_nsec": st.integers(0, 10**9 - 1),
        "response_time_sec": st.integers(0, 2**33),
        "response_time_nsec": st.integers(0, 10**9 - 1),
        "query_message": st.binary(min_size=1, max_size=300),
        "response_message": st.binary(min_size=1, max_size=300),
        "query_zone": st.binary(max_size=5),
    },
)


def test_the_fields_of_a_message_are_bounded():
    """A frame, and the message in it, may each have MOST_FIELDS fields, so that a frame costs bounded time."""
    frame = dnstap_pb.Dnstap.FromString(tap(response_message=b"x"))
    message = frame.message.SerializeToString()  # two fields, like the frame itself
    more = MOST_FIELDS - 2
    for count, found in ((more, Captured), (more + 1, str)):
        unknown = b"\xf8\x07\x01" * count
        frame.message.MergeFromString(unknown)
        assert isinstance(read_dnstap(tap(response_message=b"x") + unknown, ARRIVAL), found)
        assert isinstance(read_dnstap(frame.SerializeToString(), ARRIVAL), found)
        frame.message.ParseFromString(message)


@given(FIELDS, st.sampled_from([f"{end}_{what}" for end in ENDS for what in ("QUERY", "RESPONSE")]))
def test_fields_are_protobufs(fields, kind):
    """Every message is read as the protobuf library reads it."""
    frame = tap(kind, **fields)
    theirs = dnstap_pb.Dnstap.FromString(frame).message
    found = read_dnstap(frame, ARRIVAL)
    payload = theirs.response_message if kind.endswith("RESPONSE") else theirs.query_message
    if not payload:
        assert found == "empty_payload"
        return
    assert found.payload == payload
    ends = [(theirs.query_address, theirs.query_port), (theirs.response_address, theirs.response_port)]
    if found.flow is None:
        assert not any(address for address, _ in ends)
        return
    flow = [(found.flow.source, found.flow.source_port), (found.flow.destination, found.flow.destination_port)]
    for expected, (address, port) in zip(ends, reversed(flow) if kind.endswith("RESPONSE") else flow, strict=True):
        assert (expected[0] or bytes(len(address)), expected[1]) == (address, port)


@given(FIELDS, st.data())
def test_any_damage_is_a_message_or_a_reason(fields, data):
    """A frame with changed bytes, or cut anywhere, gives a message within bounds or a reason, and never raises."""
    frame = bytearray(tap(**fields))
    for at, value in data.draw(
        st.dictionaries(st.integers(0, len(frame) - 1), st.integers(0, 255), max_size=4)
    ).items():
        frame[at] = value
    found = read_dnstap(bytes(frame[: data.draw(st.integers(0, len(frame)))]), ARRIVAL)
    assert_bounded(found)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_a_reason(frame):
    """Arbitrary bytes give a message within bounds or a reason, and never raise."""
    assert_bounded(read_dnstap(MESSAGE + field(14, 2, bytes([len(frame)])) + frame, ARRIVAL))


def assert_bounded(found: Captured | str) -> None:
    if isinstance(found, str):
        assert found in ("dnstap_bad_message", "dnstap_other_type", "bad_timestamp", "empty_payload")
        return
    assert found.payload
    struct.pack("!q", found.timestamp)
    if found.flow is not None:
        assert found.flow.source_text
        assert found.flow.destination_text
        struct.pack("!HH", found.flow.source_port, found.flow.destination_port)
