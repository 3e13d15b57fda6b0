"""Records become events at the time that the test gives; no kernel is needed."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address
from struct import pack

import pytest
from scapy.layers.inet import TCP

from builders.dns_builders import response_to
from dnstrail.capture_options import CaptureOptions
from dnstrail.captured import Captured
from dnstrail.events import (
    DNS_SOCKET_CLOSE,
    EVENTS,
    NET_PACKET_DNS,
    NET_SERVER_NAME,
    NET_TCP_CLOSE,
    NET_TCP_CONNECT_RESULT,
    NET_UDP_CLOSE,
    NET_UDP_CONNECT,
    SCHED_PROCESS_EXEC,
    SCHED_PROCESS_EXIT,
)
from dnstrail_probe.ebpf import records
from dnstrail_probe.ebpf.attribution import Attribution
from dnstrail_probe.ebpf.record_translator import RecordTranslator
from dnstrail_probe.packets.assembly import Assembly
from dnstrail_probe.packets.connection_args import community_id

SECOND = 10**9
EPOCH = 1_700_000_000 * SECOND  # of the monotonic clock
BOOT = EPOCH - 60 * SECOND  # the host was suspended for a minute
PID = 1 << 23  # beyond every real process
COUNTED = {"bytes_sent": 5, "bytes_received": 1 << 40}
SERVER, CLIENT = ip_address("192.0.2.53").packed, ip_address("192.0.2.1").packed


@pytest.fixture
def counters() -> Counter[str]:
    """Return what the translator counts."""
    return Counter()


@pytest.fixture
def translator(tmp_path, counters) -> Iterator[RecordTranslator]:
    """Yield a translator on a host without cgroups."""
    attribution = Attribution(str(tmp_path), BOOT)
    options = CaptureOptions()
    found = RecordTranslator(
        epoch=EPOCH,
        ports=options.ports,
        attribution=attribution,
        assembly=Assembly(options, counters),
        counters=counters,
    )
    yield found
    found.close()
    attribution.close()


def process(kind: int, stamp: int, path: str = "", status: int = 0, started: int = SECOND) -> bytes:
    """Return a record of a process event; `path` for an exec."""
    parts = [*reversed(path.split("/"))] if path else []
    head = records._PROCESS.pack(
        stamp, kind, PID, 9, started, 1, 1000, status, len(parts), 4026531832, 4026531836, 3, b"dig"
    )
    return head + b"".join(part.encode().ljust(records.PART, b"\0") for part in parts)


def packet(payload: bytes, **changes: object) -> bytes:
    """Return a record of a packet: a response that reached the process, unless something else is given."""
    values: dict[str, object] = dict.fromkeys(records.PacketRecord.__struct_fields__, 0)
    values |= {"ts": 5 * SECOND, "noted": 5 * SECOND, "kind": records.PACKET, "captured": len(payload), "pid": PID}
    values |= {"cookie": 77, "sport": 53, "dport": 4000, "family": 4, "protocol": records.UDP, "processor": 2}
    values |= {"saddr": SERVER, "daddr": CLIENT, "meant": b"", "comm": b"dig", "tid": PID + 1, "uid": 1000}
    return records._PACKET.pack(*(values | changes).values()) + payload


def only(events: list[tuple[str, Captured]]) -> tuple[str, Captured]:
    """Return the only event; its specification has all of its arguments."""
    [(name, event)] = events
    assert event.args.keys() <= {field.name for field in EVENTS[name].fields}
    return name, event


def test_packets_of_one_thread_share_their_process_until_it_changes(translator):
    """The process of a packet is made anew only if something in it changed, as by an exec."""
    payload = response_to("a.example", "a.example A 192.0.2.1")
    translator.events(process(records.EXEC, SECOND, "usr/bin/dig"))
    first, again = (only(translator.events(packet(payload)))[1].process for _ in range(2))
    assert again is first
    translator.events(process(records.EXEC, 2 * SECOND, "usr/bin/curl"))
    assert first.path == "/usr/bin/dig"
    assert only(translator.events(packet(payload)))[1].process.path == "/usr/bin/curl"
    assert only(translator.events(packet(payload, tid=PID + 2)))[1].process.thread_id == PID + 2


def test_a_packet_has_the_process_of_its_exec(translator):
    """A packet carries the program, the namespaces and the start of its process, and its own time and processor."""
    translator.events(process(records.EXEC, SECOND, "/usr/bin/dig"))
    name, event = only(translator.events(packet(response_to("a.test"))))
    assert (name, event.timestamp, event.processor) == (NET_PACKET_DNS, EPOCH + 5 * SECOND, 2)
    found = event.process
    assert (found.pid, found.thread_id, found.path, found.user_id) == (PID, PID + 1, "/usr/bin/dig", 1000)
    assert (found.mount_namespace, found.pid_namespace) == (4026531832, 4026531836)
    assert found.start_time == BOOT + SECOND


def test_the_start_of_a_process_is_unknown_without_btf(translator):
    """A process whose start and namespaces are unknown has 0 in their place."""
    _, event = only(translator.events(packet(response_to("a.test"))))
    assert event.process.pid == PID
    assert (event.process.start_time, event.process.mount_namespace, event.process.pid_namespace) == (0, 0, 0)


@pytest.mark.parametrize(
    ("status", "code", "signal"), [(7 << 8, 7, 0), (9, 0, 9), (0, 0, 0)], ids=["code", "signal", "neither"]
)
def test_an_exit_has_its_code_or_its_signal(translator, status, code, signal):
    """An exit carries the exit code or the signal, and is reported once."""
    record = process(records.EXIT, SECOND, status=status)
    name, event = only(translator.events(record))
    assert (name, event.processor) == (SCHED_PROCESS_EXIT, 3)
    assert (event.args["exit_code"], event.args["signal_code"]) == (code, signal)
    assert translator.events(record) == []


@pytest.mark.parametrize(("path", "found"), [("/usr/bin/dig", "/usr/bin/dig"), ("/x", "/x")])
def test_an_exec_has_the_path_of_its_program(translator, path, found):
    """An exec carries the path that the program walked."""
    name, event = only(translator.events(process(records.EXEC, SECOND, path)))
    assert (name, event.process.path, event.process.name) == (SCHED_PROCESS_EXEC, found, "dig")


@pytest.mark.parametrize(
    ("kind", "error", "args"),
    [
        (records.CONNECTED, 0, {"connected": True, "error": ""}),
        (records.NOT_CONNECTED, errno.ECONNREFUSED, {"connected": False, "error": "ECONNREFUSED"}),
        (records.NOT_CONNECTED, 250, {"connected": False, "error": "250"}),
    ],
)
def test_the_result_of_a_connection_names_its_error(translator, kind, error, args):
    """The result of a connection carries the name of its error, or its number if it has no name."""
    record = packet(b"", kind=kind, error=error, protocol=records.TCP, daddr=SERVER, dport=443, sport=0)
    name, event = only(translator.events(record))
    to = {"dst": "192.0.2.53", "dst_port": 443, "socket": event.flow.socket}
    assert (name, event.args) == (NET_TCP_CONNECT_RESULT, {**to, **args})
    assert event.flow.source == b""


@pytest.mark.parametrize("kind", [records.CONNECTED, records.NOT_CONNECTED, records.CLOSED])
def test_a_connection_can_be_joined_to_its_flow(translator, kind):
    """From the result on, a connection carries its source, the cookie of its socket, and its Community ID."""
    client = bytes([192, 0, 2, 2])
    record = packet(b"", kind=kind, protocol=records.TCP, saddr=client, sport=40000, daddr=SERVER, dport=443)
    name, event = only(translator.events(record))
    assert name == (NET_TCP_CLOSE if kind == records.CLOSED else NET_TCP_CONNECT_RESULT)
    assert (event.flow.source, event.flow.source_port) == (client, 40000)
    assert event.args["community_id"] == community_id("tcp", client, 40000, bytes([192, 0, 2, 53]), 443)


@pytest.mark.parametrize(("payload", "args"), [(b"", {}), (pack("<2Q", 5, 1 << 40), COUNTED)])
def test_the_end_of_a_connection_has_the_bytes_that_the_kernel_counted(translator, payload, args):
    """The end of a connection has the bytes that it sent and received, if this kernel counts them."""
    record = packet(payload, kind=records.CLOSED, protocol=records.TCP, daddr=SERVER, dport=443, sport=40000)
    name, event = only(translator.events(record))
    assert name == NET_TCP_CLOSE
    assert {one: value for one, value in event.args.items() if one in COUNTED} == args


@pytest.mark.parametrize(("kind", "topic"), [(records.CONNECT, NET_UDP_CONNECT), (records.CLOSED, NET_UDP_CLOSE)])
def test_a_connection_over_udp_has_events_of_its_own(translator, kind, topic):
    """The first datagram of a connected UDP socket, and its close, are events of UDP."""
    record = packet(b"", kind=kind, daddr=SERVER, dport=443, sport=40000)
    name, event = only(translator.events(record))
    assert (name, event.args["dst_port"], event.flow.transport) == (topic, 443, "udp")


def test_the_end_of_a_lookup_is_reported_for_clients(translator):
    """The close of a UDP socket that asked is an event of a client, and none of a process that serves DNS."""
    record = packet(b"", kind=records.DNS_CLOSED, daddr=SERVER, dport=53, sport=0)
    name, event = only(translator.events(record))
    assert (name, event.args["dst_port"], event.process.pid) == (DNS_SOCKET_CLOSE, 53, PID)
    translator._attribution.processes.at(PID, 5 * SECOND).answers = True
    assert translator.events(record) == []


def test_a_packet_without_owner_is_counted(translator, counters):
    """A packet of a socket without a known owner is reported without a process, and counted."""
    _, event = only(translator.events(packet(response_to("a.test"), pid=0)))
    assert event.process is None
    assert (counters["packets"], counters["unattributed"]) == (1, 1)


@pytest.mark.parametrize("last", [0, 5])
def test_each_datagram_of_a_packet_is_an_event(translator, counters, last):
    """A packet of several datagrams of one size yields each of them, the last of which can be shorter."""
    messages = [response_to(f"{letter}.test") for letter in "abc"]
    size = len(messages[0])
    payload = b"".join(messages)[: 3 * size - last]
    events = translator.events(packet(payload, datagram_size=size))
    assert [event.payload for _, event in events] == [*messages[:2], messages[2][: size - last]]
    assert {event.process.pid for _, event in events} == {PID}
    assert counters["packets"] == 1


def test_a_segment_carries_its_header(translator, counters):
    """A TCP record holds the segment with its header; a header that was cut, and a segment far off, is counted."""
    message = response_to("a.test")
    segment = bytes(TCP(sport=53, dport=4000, seq=9, flags="PA") / (len(message).to_bytes(2) + message))
    _, event = only(translator.events(packet(segment, protocol=records.TCP)))
    assert (event.payload, event.flow.transport) == (message, "tcp")
    assert translator.events(packet(segment[:19], protocol=records.TCP)) == []
    assert counters["header_cut"] == 1
    assert translator.events(packet(segment, protocol=records.TCP, distance=records.FARTHEST + 1, cookie=78)) == []
    assert counters["tcp_out_of_window"] == 1


REQUEST = b"GET / HTTP/1.1\r\nHost: bank.test\r\n\r\n"


@pytest.mark.parametrize("server_names", [False, True])
def test_server_names_come_from_tcp_and_only_if_they_are_wanted(tmp_path, counters, server_names):
    """A connection to another port yields its server name with --evidence sni alone; a datagram never does.

    Without it, the programs report such a segment if NAT rewrote its DNS port and its owner is not known.
    """
    attribution, options = Attribution(str(tmp_path), BOOT), CaptureOptions(server_names=server_names)
    translator = RecordTranslator(
        ports=options.ports,
        attribution=attribution,
        assembly=Assembly(options, counters),
        counters=counters,
        epoch=EPOCH,
    )
    sent = {"egress": 1, "sport": 4000, "dport": 8080, "protocol": records.TCP, "pid": 0}
    opening = bytes(TCP(sport=4000, dport=8080, seq=9, flags="S"))
    segment = bytes(TCP(sport=4000, dport=8080, seq=10, flags="PA") / REQUEST)
    found = translator.events(packet(opening, **sent)) + translator.events(packet(segment, **sent))
    names = [event.args["server_name"] for name, event in found if name == NET_SERVER_NAME]
    assert names == ["bank.test"] * server_names
    datagram = translator.events(packet(REQUEST, **{**sent, "protocol": records.UDP}))
    assert NET_SERVER_NAME not in dict(datagram)
    translator.close()
    attribution.close()


def test_a_record_of_an_unknown_kind_is_ignored(translator):
    """A record of an unknown kind yields no event."""
    assert translator.events(packet(b"", kind=99)) == []


def test_calls_of_getaddrinfo_are_ignored_unless_they_are_watched(translator):
    """Without GetaddrinfoCalls the record of a call yields no event."""
    assert translator.events(packet(b"", kind=records.RESOLVED)) == []


@pytest.mark.parametrize("protocol", [records.UDP, records.TCP])
def test_a_question_that_nat_passes_to_a_process(translator, protocol):
    """The capture at the client has pid and start of the relay, as the relay's own packets have them."""
    relay = PID + 1
    started = records._PROCESS.pack(SECOND, records.FORK, relay, 9, 3 * SECOND, 1, 0, 0, 0, 1, 2, 3, b"dockerd")
    translator.events(started)
    query = response_to("a.test")[:2] + b"\1\0" + response_to("a.test")[4:]
    if protocol == records.TCP:
        query = bytes(TCP(sport=4000, dport=44932, flags="PA")) + len(query).to_bytes(2, "big") + query
    asked = {"sport": 4000, "dport": 44932, "meant_port": 53, "meant": CLIENT, "protocol": protocol}
    _, sent = only(translator.events(packet(query, **asked, egress=1, relay=relay)))
    _, own = only(translator.events(packet(response_to("a.test"), pid=relay)))
    assert sent.args["relay"] == (own.process.pid, own.process.start_time) == (relay, BOOT + 3 * SECOND)
    assert own.flow.role == "forwarder"


def test_a_response_of_a_local_server_makes_its_client_no_server(translator):
    """A client that asks a server of this host from an address of the loopback device stays a client."""
    client = PID + 1
    answer = response_to("a.test")
    query = answer[:2] + b"\1\0" + answer[4:]
    _, sent = only(translator.events(packet(answer, sport=53, dport=4000, egress=1, relay=client)))
    _, own = only(translator.events(packet(query, sport=4001, dport=53, egress=1, pid=client)))
    assert ("relay" in sent.args, own.flow.role) == (False, "client")


def test_a_server_on_the_host_of_the_client_has_seen_its_asker(translator):
    """The capture at the client lacks `asker_seen`; the one at the server has it."""
    query = response_to("a.test")[:2] + b"\1\0" + response_to("a.test")[4:]
    asked = {"sport": 4000, "dport": 53, "saddr": CLIENT, "daddr": SERVER}
    _, sent = only(translator.events(packet(query, **asked, egress=1)))
    _, received = only(translator.events(packet(query, **asked, cookie=78, pid=PID + 1)))
    assert (sent.flow.role, sent.args) == ("client", {})
    assert (received.flow.role, received.args) == ("server", {"asker_seen": True})
