"""Events and findings in tracee's JSON shape."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from builders.dns_builders import response_to
from dnstrail.captured import CLIENT, FORWARDER, SERVER, Captured, Flow, Process
from dnstrail.events import (
    DNS_ANSWER_CONFLICT,
    NAMES,
    NET_PACKET_DNS,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    SCHED_PROCESS_EXEC,
    SCHED_PROCESS_EXIT,
    SCHED_PROCESS_FORK,
    Event,
)
from dnstrail.signature import Finding, SignatureMetadata
from dnstrail.tracee.event_shape import event_map, finding_map, signature_ids
from dnstrail_signatures.loading.load import find, load

FIRST_OTHER = 6100  # the first id of the signatures that state none
STAMP = 1_700_000_000_123_456_789
FLOW = Flow(bytes([10, 0, 0, 53]), 53, bytes([10, 0, 0, 2]), 40000)
FLOW_ARGS = [
    {"name": "src", "type": "const char*", "value": "10.0.0.53"},
    {"name": "dst", "type": "const char*", "value": "10.0.0.2"},
    {"name": "src_port", "type": "u16", "value": 53},
    {"name": "dst_port", "type": "u16", "value": 40000},
]
PING = Process(
    pid=42,
    name="ping",
    path="/usr/bin/ping",
    parent_pid=7,
    user_id=1000,
    container_id="c0ffee",
    thread_id=43,
    cgroup_id=196,
    container_name="web",
    container_image="nginx:1",
    container_labels=(("app", "web"),),
    mount_namespace=4026531841,
    pid_namespace=4026531836,
    start_time=STAMP - 5,
)
CONNECTING = Flow(
    source=b"",
    source_port=0,
    destination=bytes([192, 0, 2, 1]),
    destination_port=443,
    transport="tcp",
    socket=5,
    namespace=7,
    egress=True,
)
METADATA = SignatureMetadata(
    id="DT-1",
    version="1.2.3",
    name="Watched name",
    event_name="watched_name",
    description="It was asked.",
    tags=("t",),
    properties={"Severity": 2},
)
RESPONSE = response_to("a.com", "a.com A 1.1.1.1")
FRAME = {
    "timestamp": STAMP,
    "threadStartTime": 0,
    "processorId": 0,
    "processId": 0,
    "cgroupId": 0,
    "threadId": 0,
    "parentProcessId": 0,
    "hostProcessId": 0,
    "hostThreadId": 0,
    "hostParentProcessId": 0,
    "userId": 0,
    "mountNamespace": 0,
    "pidNamespace": 0,
    "processName": "",
    "executable": {"path": ""},
    "hostName": "host1",
    "containerId": "",
    "container": {},
    "kubernetes": {},
    "eventId": "2006",
    "eventName": "net_packet_dns",
    "matchedPolicies": [""],
    "argsNum": 4,
    "returnValue": 0,
    "syscall": "",
    "stackAddresses": [0],
    "contextFlags": {"containerStarted": False, "isCompat": False},
    "threadEntityId": 0,
    "processEntityId": 0,
    "parentEntityId": 0,
    "args": FLOW_ARGS,
    "networkNamespace": 0,
    "unit": "",
    "slice": "",
}


def event(payload: bytes, flow: Flow | None = FLOW, **args: Any) -> Event:
    """Return a DNS packet."""
    return Event(NET_PACKET_DNS, Captured(STAMP, payload, flow, args=args), ("s", 1), "host1")


def args_of(event: Event, *, parse_arguments: bool = False) -> dict[str, Any]:
    """Return the arguments of an event by name; no name may occur twice, and their number must be right."""
    shaped = event_map(event, parse_arguments=parse_arguments)
    values = {arg["name"]: arg["value"] for arg in shaped["args"]}
    assert len(values) == len(shaped["args"]) == shaped["argsNum"]
    return values


def rewritten(role: str = CLIENT, *, egress: bool = True, port: int = 44932, meant: bytes = b"\x7f\0\0\x0b") -> Flow:
    """Return a question to Docker's embedded DNS, as NAT leaves it."""
    return Flow(
        source=bytes([127, 0, 0, 1]),
        source_port=40000,
        destination=bytes([127, 0, 0, 11]),
        destination_port=port,
        transport="udp",
        socket=5,
        namespace=7,
        egress=egress,
        meant=meant,
        meant_port=53,
        role=role,
    )


def test_the_frame_of_a_packet() -> None:
    """An event without a process has all of tracee's keys in its order, with zero values; ours come last."""
    shaped = event_map(event(b""))
    assert shaped == FRAME
    assert list(shaped) == list(FRAME)


def test_the_frame_of_a_process() -> None:
    """An event of a process has its ids, its start, its namespaces, its program and its container."""
    shaped = event_map(Event(SCHED_PROCESS_EXIT, Captured(STAMP, process=PING, processor=3), host_name="host1"))
    assert shaped == {
        **FRAME,
        "threadStartTime": STAMP - 5,
        "processorId": 3,
        "processId": 42,
        "cgroupId": 196,
        "threadId": 43,
        "parentProcessId": 7,
        "hostProcessId": 42,
        "hostThreadId": 43,
        "hostParentProcessId": 7,
        "userId": 1000,
        "mountNamespace": 4026531841,
        "pidNamespace": 4026531836,
        "processName": "ping",
        "executable": {"path": "/usr/bin/ping"},
        "containerId": "c0ffee",
        "container": {"id": "c0ffee", "name": "web", "image": "nginx:1", "labels": {"app": "web"}},
        "eventId": "716",
        "eventName": "sched_process_exit",
        "argsNum": 0,
        "contextFlags": {"containerStarted": True, "isCompat": False},
        "args": [],
    }


def test_times_are_shown_as_wall_time() -> None:
    """The difference to wall time is added to the time of the event and to the start of its process, if it is known."""
    hour = 3600 * 10**9
    shaped = event_map(Event(SCHED_PROCESS_EXIT, Captured(STAMP, process=PING), difference=hour))
    assert (shaped["timestamp"], shaped["threadStartTime"]) == (STAMP + hour, STAMP - 5 + hour)
    shaped = event_map(Event(SCHED_PROCESS_EXIT, Captured(STAMP, process=Process(1)), difference=-hour))
    assert (shaped["timestamp"], shaped["threadStartTime"]) == (STAMP - hour, 0)


def test_arguments_have_tracees_types() -> None:
    """An argument has the type of tracee's definition, and otherwise one that fits its value."""
    args = {"exit_code": 0, "signal_code": 9, "process_group_exit": True, "prev_comm": "sh", "argv": ["-c"], "x": None}
    shaped = event_map(Event(SCHED_PROCESS_EXIT, Captured(STAMP, process=PING, args=args)))
    assert [(arg["name"], arg["type"], arg["value"]) for arg in shaped["args"]] == [
        ("exit_code", "long", 0),
        ("signal_code", "int", 9),
        ("process_group_exit", "bool", True),
        ("prev_comm", "const char*", "sh"),
        ("argv", "const char**", ["-c"]),
        ("x", "unknown", None),
    ]


def test_a_packet_has_tracees_arguments_first() -> None:
    """A DNS packet has the addresses, the direction and the message as in tracee, then what dnstrail adds."""
    names = list(args_of(event(RESPONSE, rewritten(), foreign=True)))
    tracees = ["src", "dst", "src_port", "dst_port", "metadata", "proto_dns"]
    assert names == [*tracees, "role", "original_dst", "original_dst_port", "foreign"]


def test_parse_arguments_changes_the_direction_alone() -> None:
    """The direction of a live packet is tracee's number, or a word with parse-arguments; nothing else differs."""
    for egress, number, word in ((True, 2, "egress"), (False, 1, "ingress")):
        packet = event(RESPONSE, rewritten(egress=egress))
        plain, parsed = args_of(packet), args_of(packet, parse_arguments=True)
        assert (plain.pop("metadata"), parsed.pop("metadata")) == ({"direction": number}, {"direction": word})
        assert plain == parsed


def test_a_live_packet_has_its_role_and_what_nat_changed() -> None:
    """A live packet has the role of its process, its network namespace, and the destination before NAT."""
    args = args_of(event(b"", rewritten()))
    assert args["role"] == "client"
    assert (args["dst_port"], args["original_dst"], args["original_dst_port"]) == (44932, "127.0.0.11", 53)
    assert event_map(event(b"", rewritten()))["networkNamespace"] == 7


@pytest.mark.parametrize(
    "flow", [rewritten(port=53), rewritten(egress=False), rewritten(SERVER), rewritten(meant=b""), FLOW]
)
def test_a_destination_that_nat_did_not_change_has_no_original(flow: Flow) -> None:
    """Only a packet that leaves a client for another destination than it meant has an original destination."""
    assert "original_dst" not in args_of(event(b"", flow))


def test_a_forwarder_has_an_original_destination_too() -> None:
    """A forwarder asks as a client does."""
    assert args_of(event(b"", rewritten(FORWARDER)))["original_dst_port"] == 53


def test_a_connection_has_tracees_arguments() -> None:
    """A live connection attempt has its destination and the names behind it, and no source."""
    args = {"dst": "192.0.2.1", "dst_port": 443}
    connection = Event(NET_TCP_CONNECT, Captured(STAMP, b"", CONNECTING, PING, args), args={"dst_dns": ["a.com"]})
    shaped = event_map(connection)
    assert (shaped["eventId"], shaped["args"]) == (
        "2016",
        [
            {"name": "dst", "type": "const char*", "value": "192.0.2.1"},
            {"name": "dst_port", "type": "int", "value": 443},
            {"name": "dst_dns", "type": "const char **", "value": ["a.com"]},
        ],
    )
    assert (connection.arg("src"), connection.arg("dst"), connection.arg("dst_dns")) == ("", "192.0.2.1", ["a.com"])


def test_a_connection_of_a_file_has_each_argument_once() -> None:
    """A connection that a capture file shows has tracee's arguments, then its source, and no name twice."""
    flow = Flow(bytes([10, 0, 0, 2]), 50000, bytes([192, 0, 2, 1]), 443, "tcp")
    captured = Captured(STAMP, b"", flow, args={"dst": "192.0.2.1", "dst_port": 443})
    args = args_of(Event(NET_TCP_CONNECT, captured, args={"dst_dns": []}))
    assert list(args) == ["dst", "dst_port", "dst_dns", "src", "src_port"]
    assert list(args.values()) == ["192.0.2.1", 443, [], "10.0.0.2", 50000]


def test_a_result_of_a_connection_has_its_outcome() -> None:
    """The result of a connection attempt has the destination, whether it was established, and the error."""
    args = {"dst": "192.0.2.1", "dst_port": 443, "connected": False, "error": "ECONNREFUSED"}
    shaped = event_map(Event(NET_TCP_CONNECT_RESULT, Captured(STAMP, b"", CONNECTING, PING, args)))
    assert (shaped["eventName"], shaped["processId"]) == ("net_tcp_connect_result", PING.pid)
    assert shaped["args"] == [
        {"name": "dst", "type": "const char*", "value": "192.0.2.1"},
        {"name": "dst_port", "type": "int", "value": 443},
        {"name": "connected", "type": "bool", "value": False},
        {"name": "error", "type": "const char*", "value": "ECONNREFUSED"},
    ]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (bytes(5), "5 bytes are too few for a DNS header, which has 12"),
        (RESPONSE[:-1], f"the message is cut short or damaged after byte {len(RESPONSE) - 16} of {len(RESPONSE) - 1}"),
    ],
    ids=["no header", "cut short"],
)
def test_a_message_that_is_not_whole_has_the_reason(payload: bytes, reason: str) -> None:
    """An event whose message cannot be read whole has the reason as an argument; a whole message has none."""
    args = args_of(event(payload))
    assert args["proto_dns_error"] == reason
    assert ("proto_dns" in args) == (len(payload) > 12)
    assert "proto_dns_error" not in args_of(event(RESPONSE))
    assert "proto_dns_error" not in args_of(event(b""))


def test_every_event_has_an_id_of_its_own() -> None:
    """Events have tracee's ids, and those that tracee does not have are apart from its ids and from findings."""
    known = {SCHED_PROCESS_FORK: 714, SCHED_PROCESS_EXEC: 715, SCHED_PROCESS_EXIT: 716, DNS_ANSWER_CONFLICT: 7003}
    ids = {name: int(event_map(Event(name, Captured(STAMP)))["eventId"]) for name in NAMES}
    assert {name: ids[name] for name in known} == known
    assert len({*ids.values()}) == len(NAMES)
    assert not {*ids.values()}.intersection(range(6000, 7000))


def test_signatures_that_ship_have_fixed_ids() -> None:
    """Every signature that ships with dnstrail states an id of its own, below those that are given to others."""
    shipped = [cls.metadata for cls in load(find()) if cls.__module__.startswith("dnstrail_signatures.")]
    stated = {one.event_id for one in shipped}
    assert len(stated) == len(shipped)
    assert all(6000 <= number < FIRST_OTHER for number in stated)


def named(*names: str, number: int = 0) -> list[SignatureMetadata]:
    """Return the metadata of signatures that report these events."""
    return [SignatureMetadata(id=name, version="1", name=name, event_name=name, event_id=number) for name in names]


def test_other_signatures_are_numbered_by_their_event_names() -> None:
    """The ids of further signatures depend on their event names alone, not on the order of loading."""
    signatures = named("ZETA", "ALPHA", "ZETA")
    assert signature_ids(signatures) == signature_ids(reversed(signatures))
    assert signature_ids(signatures) == {"ALPHA": FIRST_OTHER, "ZETA": FIRST_OTHER + 1}


def test_a_stated_id_belongs_to_all_signatures_with_the_event() -> None:
    """Two signatures that report one event share the id that one of them states."""
    signatures = [*named("ZETA", "ALPHA"), *named("ZETA", number=6001)]
    assert signature_ids(signatures) == signature_ids(reversed(signatures)) == {"ALPHA": FIRST_OTHER, "ZETA": 6001}


def test_a_finding_is_an_event_with_its_cause() -> None:
    """A finding has its data as arguments, then what triggered it, the signature's metadata, and ours last."""
    cause = event(RESPONSE)
    ids = signature_ids([METADATA])
    shaped = finding_map(Finding({"name": "a.com", "count": 2, "names": ["x"], "part": 0.5}, cause, METADATA), ids)
    assert (shaped["eventName"], shaped["eventId"], shaped["timestamp"]) == ("watched_name", str(FIRST_OTHER), STAMP)
    assert shaped["args"][:4] == [
        {"name": "name", "type": "const char *", "value": "a.com"},
        {"name": "count", "type": "int", "value": 2},
        {"name": "names", "type": "unknown", "value": ["x"]},
        {"name": "part", "type": "long double", "value": 0.5},
    ]
    [triggered] = shaped["args"][4:]
    assert (triggered["name"], triggered["type"]) == ("triggeredBy", "unknown")
    assert triggered["value"] == {
        "id": 2006,
        "name": "net_packet_dns",
        "args": event_map(cause, parse_arguments=True)["args"],
        "returnValue": 0,
    }
    assert shaped["argsNum"] == 5
    assert shaped["metadata"] == {
        "Version": "1.2.3",
        "Description": "It was asked.",
        "Tags": ["t"],
        "Properties": {"Severity": 2, "signatureID": "DT-1", "signatureName": "Watched name"},
    }
    ours = ["networkNamespace", "unit", "slice"]
    assert list(shaped) == [*list(FRAME)[:-3], "metadata", *ours, "coverage", "findingId", "since", "mark"]


def test_a_finding_that_a_finding_led_to_names_its_id() -> None:
    """The cause of a finding may be a finding of another signature, with that signature's id."""
    ids = signature_ids([*named("first"), METADATA])
    cause = Event("first", Captured(STAMP), args={"depth": 1})
    shaped = finding_map(Finding({}, cause, METADATA), ids)
    assert shaped["args"][0]["value"]["id"] == ids["first"]


def test_a_finding_that_led_to_a_finding_keeps_the_types_of_its_event() -> None:
    """The arguments that a finding has from its event have the types that they have there; its data those of values."""
    cause = Event("first", Captured(STAMP, b"", FLOW, args={"bytes_sent": 1}), args={"depth": 1})
    args = finding_map(Finding({}, cause, METADATA), {})["args"][0]["value"]["args"]
    types = {arg["name"]: arg["type"] for arg in args}
    assert (types["src_port"], types["bytes_sent"], types["depth"]) == ("u16", "u64", "int")


def test_a_finding_without_data_or_cause_has_no_arguments() -> None:
    """A finding without data, of an event without arguments, has no arguments."""
    shaped = finding_map(Finding({}, Event(SCHED_PROCESS_EXIT, Captured(STAMP, process=PING)), METADATA), {})
    assert (shaped["args"], shaped["argsNum"], shaped["processName"]) == ([], 0, "ping")


def test_events_and_findings_are_json() -> None:
    """An event and a finding about it are JSON, and are read back as they were."""
    for shaped in (event_map(event(RESPONSE)), finding_map(Finding({"n": 1}, event(RESPONSE), METADATA), {})):
        assert json.loads(json.dumps(shaped)) == shaped
        assert msgspec.json.decode(msgspec.json.encode(shaped)) == shaped
