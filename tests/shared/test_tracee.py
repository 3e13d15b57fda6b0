"""Events and findings in tracee's JSON shape."""

from __future__ import annotations

import json
from typing import Any

import dns.message
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.dns_builders import A, by_hand, record, response_to
from builders.hostile import ONE, QUESTION, P
from dnstrail.captured import CLIENT, FORWARDER, SERVER, Captured, Flow, Process
from dnstrail.events import NET_PACKET_DNS, NET_TCP_CONNECT, NET_TCP_CONNECT_RESULT, SCHED_PROCESS_EXIT, Event
from dnstrail.signature import Finding, SignatureMetadata
from dnstrail.tracee import event_map, finding_map

STAMP = 1_700_000_000_123_456_789
FLOW = Flow(bytes([10, 0, 0, 53]), 53, bytes([10, 0, 0, 2]), 40000)
FLOW_ARGS = [
    {"name": "src", "type": "const char*", "value": "10.0.0.53"},
    {"name": "dst", "type": "const char*", "value": "10.0.0.2"},
    {"name": "src_port", "type": "u16", "value": 53},
    {"name": "dst_port", "type": "u16", "value": 40000},
]
PING = Process(42, "ping", "/usr/bin/ping", 7, 1000, "c0ffee")
METADATA = SignatureMetadata("DT-1", "1.2.3", "Watched name", "watched_name", "It was asked.", ("t",), {"Severity": 2})


def event(payload: bytes, flow: Flow | None = FLOW) -> Event:
    """A DNS packet."""
    return Event(NET_PACKET_DNS, Captured(STAMP, payload, flow), ("s", 1), "host1")


def proto_dns(payload: bytes, *, parse_arguments: bool = False) -> dict[str, Any]:
    """The DNS message of an event in its shape."""
    return event_map(event(payload), parse_arguments=parse_arguments)["args"][-1]["value"]


def args_of(flow: Flow, *, parse_arguments: bool = False) -> dict[str, Any]:
    """The arguments of a packet of a flow, by their names."""
    shaped = event_map(event(b"", flow), parse_arguments=parse_arguments)["args"]
    return {arg["name"]: arg["value"] for arg in shaped}


def rewritten(role: str = CLIENT, *, egress: bool = True, port: int = 44932, meant: bytes = b"\x7f\0\0\x0b") -> Flow:
    """A question to Docker's embedded DNS, as NAT leaves it."""
    there = bytes([127, 0, 0, 11])
    return Flow(bytes([127, 0, 0, 1]), 40000, there, port, "udp", 5, 7, egress, meant, 53, role)


def test_live_packet_tells_direction_role_and_what_nat_has_changed() -> None:
    """A live packet has tracee's metadata, the role of its process, and the destination that its process meant."""
    shaped = args_of(rewritten())
    assert (shaped["metadata"], shaped["role"]) == ({"direction": 2}, "client")
    assert (shaped["dst_port"], shaped["original_dst"], shaped["original_dst_port"]) == (44932, "127.0.0.11", 53)
    assert args_of(rewritten(), parse_arguments=True)["metadata"] == {"direction": "egress"}
    assert args_of(rewritten(egress=False))["metadata"] == {"direction": 1}
    assert event_map(event(b"", rewritten()))["networkNamespace"] == 7


@pytest.mark.parametrize(
    "flow", [rewritten(port=53), rewritten(egress=False), rewritten(SERVER), rewritten(meant=b""), FLOW]
)
def test_destination_that_nobody_changed_has_no_original(flow: Flow) -> None:
    """Only a packet that leaves a client, and goes elsewhere than was meant, has an original destination."""
    assert "original_dst" not in args_of(flow)


def test_forwarder_has_an_original_destination_too() -> None:
    """What forwards asks as well."""
    assert args_of(rewritten(FORWARDER))["original_dst_port"] == 53


def test_container_as_tracee_has_it() -> None:
    """A container is an id with what is known besides; threads, parents and cgroups have tracee's names."""
    process = Process(42, "ping", "/usr/bin/ping", 7, 0, "c0ffee", 43, 196, "web", "nginx:1")
    shaped = event_map(Event(SCHED_PROCESS_EXIT, Captured(STAMP, process=process)))
    assert shaped["container"] == {"id": "c0ffee", "name": "web", "image": "nginx:1"}
    assert (shaped["threadId"], shaped["hostThreadId"], shaped["cgroupId"]) == (43, 43, 196)
    assert (shaped["parentProcessId"], shaped["hostParentProcessId"]) == (7, 7)


def test_connection_has_tracees_arguments_alone() -> None:
    """A connection that is about to be made has a destination, the names behind it, and no source."""
    flow = Flow(b"", 0, bytes([192, 0, 2, 1]), 443, "tcp", 5, 7, egress=True)
    args = {"dst": "192.0.2.1", "dst_port": 443}
    connection = Event(NET_TCP_CONNECT, Captured(STAMP, b"", flow, PING, args), args={"dst_dns": ["a.com"]})
    shaped = event_map(connection)
    assert (shaped["eventId"], shaped["args"]) == (
        "2016",
        [
            {"name": "dst", "type": "const char*", "value": "192.0.2.1"},
            {"name": "dst_port", "type": "long", "value": 443},
            {"name": "dst_dns", "type": "[]string", "value": ["a.com"]},
        ],
    )
    assert (connection.arg("src"), connection.arg("dst"), connection.arg("dst_dns")) == ("", "192.0.2.1", ["a.com"])


def test_result_of_a_connection_has_an_outcome_too() -> None:
    """What became of a connection is told with the destination, whether it came about, and the error."""
    flow = Flow(b"", 0, bytes([192, 0, 2, 1]), 443, "tcp", 5, 7, egress=True)
    args = {"dst": "192.0.2.1", "dst_port": 443, "connected": False, "error": "ECONNREFUSED"}
    shaped = event_map(Event(NET_TCP_CONNECT_RESULT, Captured(STAMP, b"", flow, PING, args)))
    assert (shaped["eventName"], shaped["processId"]) == ("net_tcp_connect_result", PING.pid)
    assert shaped["args"] == [
        {"name": "dst", "type": "const char*", "value": "192.0.2.1"},
        {"name": "dst_port", "type": "long", "value": 443},
        {"name": "connected", "type": "bool", "value": False},
        {"name": "error", "type": "const char*", "value": "ECONNREFUSED"},
    ]


def test_the_frame_of_a_packet() -> None:
    """An event of a packet without a known process has tracee's fields, zeros for the process, and its flow."""
    shaped = event_map(event(b"", FLOW))
    assert shaped == {
        "timestamp": STAMP,
        "processId": 0,
        "hostProcessId": 0,
        "threadId": 0,
        "hostThreadId": 0,
        "parentProcessId": 0,
        "hostParentProcessId": 0,
        "cgroupId": 0,
        "userId": 0,
        "processName": "",
        "executable": {"path": ""},
        "hostName": "host1",
        "containerId": "",
        "container": {},
        "networkNamespace": 0,
        "eventId": "2006",
        "eventName": "net_packet_dns",
        "argsNum": 4,
        "returnValue": 0,
        "args": FLOW_ARGS,
    }


def test_the_frame_of_a_process() -> None:
    """An event of a process without a payload has the process and its arguments, each with its type."""
    args = {"exit_code": 0, "process_group_exit": True, "prev_comm": "sh", "argv": ["ping", "-c1"], "x": None}
    shaped = event_map(Event(SCHED_PROCESS_EXIT, Captured(STAMP, b"", None, PING, args), host_name="host1"))
    assert {
        name: shaped[name] for name in ("processId", "parentProcessId", "userId", "processName", "containerId")
    } == {
        "processId": 42,
        "parentProcessId": 7,
        "userId": 1000,
        "processName": "ping",
        "containerId": "c0ffee",
    }
    assert (shaped["executable"], shaped["eventName"]) == ({"path": "/usr/bin/ping"}, "sched_process_exit")
    assert [(arg["name"], arg["type"], arg["value"]) for arg in shaped["args"]] == [
        ("exit_code", "long", 0),
        ("process_group_exit", "bool", True),
        ("prev_comm", "const char*", "sh"),
        ("argv", "[]string", ["ping", "-c1"]),
        ("x", "unknown", None),
    ]
    assert shaped["argsNum"] == 5


def test_a_dns_message_has_its_header() -> None:
    """Flags, codes and counts of a response are given one by one, codes as numbers or as names."""
    payload = response_to("a.com", "a.com A 1.1.1.1", flags=0x0403)
    header = {"ID": 1, "QR": 1, "AA": 1, "TC": 0, "RD": 1, "RA": 1, "Z": 0}
    header |= {"QDCount": 1, "ANCount": 1, "NSCount": 0, "ARCount": 0}
    for parse, codes in (
        (False, {"opCode": 0, "responseCode": 3}),
        (True, {"opCode": "QUERY", "responseCode": "NXDOMAIN"}),
    ):
        shaped = proto_dns(payload, parse_arguments=parse)
        assert {name: shaped[name] for name in shaped if not isinstance(shaped[name], list)} == header | codes


RECORDS = {
    "a.com A 1.1.1.1": (1, "A", {"IP": "1.1.1.1"}),
    "a.com AAAA 2001:db8::1": (28, "AAAA", {"IP": "2001:db8::1"}),
    "a.com CNAME b.com": (5, "CNAME", {"CNAME": "b.com"}),
    "a.com NS ns.a.com": (2, "NS", {"NS": "ns.a.com"}),
    "a.com PTR b.com": (12, "PTR", {"PTR": "b.com"}),
    "a.com MX 10 mx.a.com": (15, "MX", {"MX": {"preference": 10, "name": "mx.a.com"}}),
    "a.com SRV 1 2 443 s.a.com": (
        33,
        "SRV",
        {"SRV": {"priority": 1, "weight": 2, "port": 443, "name": "s.a.com"}},
    ),
    'a.com TXT "two words" x': (16, "TXT", {"TXTs": ["two words", "x"]}),
    r'a.com TXT "\255\000"': (16, "TXT", {"TXTs": ["\ufffd\x00"]}),
    "a.com HTTPS 1 . ipv4hint=1.1.1.1": (65, "HTTPS", {"rdata": '1 . ipv4hint="1.1.1.1"'}),
    "a.com CAA 0 issue ca.org": (257, "CAA", {"rdata": '0 issue "ca.org"'}),
    r"a.com MX 10 x\032y.com": (15, "MX", {"MX": {"preference": 10, "name": "x\\032y.com"}}),
}


@pytest.mark.parametrize(("line", "expected"), RECORDS.items(), ids=RECORDS)
def test_each_record_has_the_field_of_its_type(line: str, expected: tuple[int, str, dict[str, Any]]) -> None:
    """A record has name, type, class, TTL and what tracee fills for its type, all others their presentation form."""
    number, name, value = expected
    payload = response_to("a.com ANY", line, ttl=77)
    [numbered] = proto_dns(payload)["answers"]
    [named] = proto_dns(payload, parse_arguments=True)["answers"]
    assert numbered == {"name": "a.com", "type": number, "class": 1, "TTL": 77, **value}
    assert named == {"name": "a.com", "type": name, "class": "IN", "TTL": 77, **value}


@pytest.mark.parametrize("kind", [1, 28, 33, 65])
def test_a_record_of_another_class_has_its_bytes(kind: int) -> None:
    """A type that is known in class IN alone is told in its unknown form (RFC 3597) elsewhere, not as an address."""
    [answer] = proto_dns(by_hand(QUESTION, record(P, kind, b"\xab", klass=254)))["answers"]
    assert answer == {"name": "q.example", "type": kind, "class": 254, "TTL": 300, "rdata": r"\# 1 ab"}


def test_records_keep_their_order_and_ttls() -> None:
    """Records of one name are told one by one, each with the TTL that it had."""
    lines = ["a.com A 1.1.1.1 ttl=1", "b.com A 2.2.2.2 ttl=2", "a.com A 1.1.1.2 ttl=3"]
    answers = proto_dns(response_to("a.com", *lines))["answers"]
    assert [(answer["name"], answer["TTL"], answer["IP"]) for answer in answers] == [
        ("a.com", 1, "1.1.1.1"),
        ("b.com", 2, "2.2.2.2"),
        ("a.com", 3, "1.1.1.2"),
    ]


def test_a_question_and_the_other_sections() -> None:
    """Questions have name, type and class; authorities and additionals are told like answers."""
    payload = by_hand(QUESTION, *[record(P, A, ONE)] * 2, counts="1 1 1")
    shaped = proto_dns(payload, parse_arguments=True)
    assert shaped["questions"] == [{"name": "q.example", "type": "A", "class": "IN"}]
    assert (len(shaped["answers"]), len(shaped["authorities"]), len(shaped["additionals"])) == (1, 0, 1)


def test_the_root_is_a_dot() -> None:
    """The name of the root is not lost with its dot."""
    assert proto_dns(response_to(". NS", ". NS a.root-servers.net"))["questions"][0]["name"] == "."


def test_a_damaged_message_is_told_as_far_as_it_is_whole() -> None:
    """Of a message that was cut its whole records are told, with the counts that its header promised."""
    shaped = proto_dns(by_hand(QUESTION, record(P, A, ONE), record(P, A, ONE))[:-1])
    assert (shaped["ANCount"], [answer["IP"] for answer in shaped["answers"]]) == (2, ["1.1.1.1"])


def test_what_is_no_message_is_told_without_it() -> None:
    """A payload that is no DNS message leaves the flow alone."""
    assert event_map(event(b"\x00" * 5))["args"] == FLOW_ARGS


def test_a_finding_is_an_event_with_its_cause() -> None:
    """A finding has its data as arguments, then what triggered it, and the signature's metadata."""
    cause = event(response_to("a.com", "a.com A 1.1.1.1"))
    shaped = finding_map(Finding({"name": "a.com", "count": 2}, cause, METADATA))
    assert (shaped["eventName"], shaped["eventId"], shaped["timestamp"]) == ("watched_name", "6000", STAMP)
    assert shaped["args"][:2] == [
        {"name": "name", "type": "const char*", "value": "a.com"},
        {"name": "count", "type": "long", "value": 2},
    ]
    [triggered] = shaped["args"][2:]
    assert (triggered["name"], triggered["type"]) == ("triggeredBy", "unknown")
    assert triggered["value"]["name"] == "net_packet_dns"
    assert triggered["value"]["args"] == event_map(cause, parse_arguments=True)["args"]
    assert shaped["argsNum"] == 3
    assert shaped["metadata"] == {
        "Version": "1.2.3",
        "Description": "It was asked.",
        "Tags": ["t"],
        "Properties": {"Severity": 2, "signatureID": "DT-1", "signatureName": "Watched name"},
    }


def test_a_finding_without_data_or_cause_has_no_arguments() -> None:
    """Nothing is made up for a finding that has no data, of an event that has no arguments."""
    shaped = finding_map(Finding({}, Event(SCHED_PROCESS_EXIT, Captured(STAMP, process=PING)), METADATA))
    assert (shaped["args"], shaped["argsNum"], shaped["processName"]) == ([], 0, "ping")


def header(flags: int, tail: bytes) -> bytes:
    """A message with any flags and four records promised in each section."""
    return b"\x00\x01" + flags.to_bytes(2) + b"\x00\x01\x00\x02\x00\x01\x00\x02" + tail


kinds = st.one_of(st.integers(1, 300), st.sampled_from([12, 15, 16, 33, 41, 46, 50, 64, 65, 249, 250, 257, 65535]))
odd_records = st.builds(
    lambda kind, data, klass: record(P, kind, data, klass=klass),
    kinds,
    st.binary(max_size=30),
    st.sampled_from([1, 1, 1, 3, 254, 255]),
)
payloads = st.one_of(
    st.binary(max_size=80),
    st.builds(header, st.integers(0, 65535), st.binary(max_size=60)),
    st.builds(
        header, st.integers(0, 65535), st.lists(odd_records, max_size=5).map(lambda all_: QUESTION + b"".join(all_))
    ),
    st.lists(odd_records, max_size=5).map(lambda all_: by_hand(QUESTION, *all_)),
)


@given(payloads, st.booleans())
def test_any_payload_can_be_written_as_json(payload: bytes, parse_arguments: bool) -> None:
    """Whatever a packet holds, its event and a finding about it are JSON, and read back as they were."""
    for shaped in (
        event_map(event(payload), parse_arguments=parse_arguments),
        finding_map(Finding({"payload_length": len(payload)}, event(payload), METADATA)),
    ):
        assert json.loads(json.dumps(shaped)) == shaped
        assert msgspec.json.decode(msgspec.json.encode(shaped)) == shaped


def test_odd_payloads_are_read_as_messages_at_all() -> None:
    """The odd records of these tests reach the printer: dnspython reads a message that holds them."""
    parsed = dns.message.from_wire(by_hand(QUESTION, record(P, 65280, b"\xff")), one_rr_per_rrset=True)
    assert proto_dns(parsed.to_wire())["answers"][0]["rdata"] == r"\# 1 ff"
