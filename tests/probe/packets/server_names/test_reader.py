"""Tests of dnstrail_probe.packets.server_names.client_hello."""

from __future__ import annotations

import ssl
import sys
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP

from builders.connects import Connect, connects, is_literal
from builders.corpus import CORPUS
from dnstrail.capture_options import CaptureOptions
from dnstrail.events import NET_SERVER_NAME
from dnstrail_probe.packets.assembly import Assembly
from dnstrail_probe.packets.server_names import client_hello, http_requests
from dnstrail_probe.packets.server_names.reader import FIRST_BYTES, HOST, SNI, ServerName, ServerNameReader, server_name
from dnstrail_probe.packets.tcp_stream import Arrival
from dnstrail_probe.sources.capture_file import CaptureFileSource

RAW = 101
CONNECTS = connects()


def hello(name: str | None) -> bytes:
    """Return the ClientHello that OpenSSL sends to a server of this name: one record."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


def in_records(record: bytes, size: int) -> bytes:
    """Return the handshake message of a record, split into records of `size` bytes."""
    message = record[5:]
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(record[:3] + len(part).to_bytes(2) + part for part in parts)


def requests(*fields: str, target: str = "/", method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\n".encode() + "".join(f"{field}\r\n" for field in (*fields, "")).encode()


HELLO = hello("www.example.com")
SERVER_HELLO = b"\x16\x03\x03\x00\x31\x02\x00\x00\x2d\x03\x03" + bytes(43)
GET = requests("User-Agent: x", "Host: www.example.com")
BY_SNI, BY_HOST = ServerName("www.example.com", SNI), ServerName("www.example.com", HOST)
OTHER = ServerName("other.example", HOST)
TO_OTHER = requests("Host: other.example")

STREAMS = {
    "a ClientHello": (HELLO, [BY_SNI], {}),
    "a ClientHello with what follows it": (HELLO + bytes(30_000), [BY_SNI], {}),
    "a ClientHello in records of 100 bytes": (in_records(HELLO, 100), [BY_SNI], {}),
    "a ClientHello in records of two bytes": (in_records(HELLO, 2), [BY_SNI], {}),
    "a ClientHello without a name": (hello(None), [], {"server_name_none": 1}),
    "a ClientHello that ends too soon": (HELLO[:-1], [], {"tcp_incomplete": 1}),
    "a ClientHello with a broken extension": (HELLO[:9] + bytes(34) + b"\xff" * (len(HELLO) - 43), [], {}),
    "a ClientHello of 16 MiB": (b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(20_000), [], {}),
    "a ServerHello": (SERVER_HELLO, [], {}),
    "a request": (GET, [BY_HOST], {}),
    "a request with bare line feeds": (GET.replace(b"\r\n", b"\n"), [BY_HOST], {}),
    "a request without a Host": (requests("User-Agent: x"), [], {"server_name_none": 1}),
    "a request without fields": (requests(), [], {"server_name_none": 1}),
    "requests, one after the other": (GET + TO_OTHER + GET, [BY_HOST, OTHER, BY_HOST], {}),
    "a request behind a body": (
        requests("Host: www.example.com", "Content-Length: 2000", method="POST") + bytes(2000) + TO_OTHER,
        [BY_HOST, OTHER],
        {},
    ),
    "a body without a length": (
        requests("Host: www.example.com", "Transfer-Encoding: chunked") + TO_OTHER,
        [BY_HOST],
        {},
    ),
    "a request to a proxy": (
        requests("Host: www.example.com", target="http://www.example.com/"),
        [],
        {"server_name_none": 1},
    ),
    "a tunnel through a proxy": (
        requests("Host: www.example.com:443", target="www.example.com:443", method="CONNECT"),
        [],
        {"server_name_none": 1},
    ),
    "a request far behind the first bytes": (
        requests("Host: www.example.com", f"Content-Length: {FIRST_BYTES}") + bytes(FIRST_BYTES) + TO_OTHER,
        [BY_HOST],
        {},
    ),
    "a head without end": (requests("Host: www.example.com", f"Cookie: {'x' * FIRST_BYTES}"), [], {}),
    "an answer": (b"HTTP/1.1 200 OK\r\nHost: www.example.com\r\n\r\n", [], {}),
    "mail": (b"EHLO www.example.com\r\nHost: www.example.com\r\n\r\n", [], {}),
}


def play(data: bytes, places: list[int], *, syn: bool = True):
    """Return the names in a connection whose data are cut at these places, and the counters."""
    counters: Counter[str] = Counter()
    assembly = Assembly(CaptureOptions(server_names=True), counters)
    edges = [0, *sorted({place for place in places if 0 < place < len(data)}), len(data)]
    segments = [("S", 99, b"")] * syn + [("PA", 100 + start, data[start:end]) for start, end in pairwise(edges)]
    events = []
    for place, (flags, sequence, part) in enumerate(segments):
        frame = IP(src="192.0.2.1", dst="192.0.2.2") / TCP(sport=40000, dport=8443, seq=sequence, flags=flags) / part
        events += assembly.frame(place, RAW, bytes(frame))
    events += assembly.finish()
    assert {topic for topic, _ in events} <= {NET_SERVER_NAME}
    assert {(event.flow.transport, event.flow.destination_port) for _, event in events} <= {("tcp", 8443)}
    return [ServerName(e.args["server_name"], e.args["evidence"]) for _, e in events], counters


@pytest.mark.parametrize("case", STREAMS)
@pytest.mark.parametrize("size", [1400, 60_000])
def test_names_are_found_in_the_first_bytes(case, size):
    """A ClientHello and each of the first requests yield a name; other data yield none, and nothing raises."""
    data, names, counted = STREAMS[case]
    found, counters = play(data, list(range(size, len(data), size)))
    assert found == names
    assert counted.items() <= counters.items()


@pytest.mark.parametrize(
    "case", ["a ClientHello", "a ClientHello in records of two bytes", "requests, one after the other"]
)
@given(data=st.data())
def test_any_split_yields_the_same_names(case, data):
    """A stream yields the same names however its segments are cut, with or without its SYN."""
    stream, names, _ = STREAMS[case]
    places = data.draw(st.lists(st.integers(1, len(stream)), max_size=12))
    assert play(stream, places, syn=data.draw(st.booleans()))[0] == names


def read(data: bytes, edges: list[int]) -> tuple[list[ServerName], Counter[str], bool]:
    """Return the names in a stream that arrives in segments with these edges, the counters, and if the search ended."""
    counters: Counter[str] = Counter()
    reader = ServerNameReader(counters)
    segments = enumerate(pairwise([0, *edges, len(data)]))
    found = [one for place, (a, b) in segments for one in reader.take(data[a:b], Arrival(place, place))]
    return [name for _, name in found], counters, reader.done


MALFORMED = GET.replace(b"x\r\n", b"x\rx\r\n")


@given(
    st.sampled_from([*(stream for stream, _, _ in STREAMS.values()), GET + HELLO, HELLO + GET, MALFORMED]), st.data()
)
def test_any_split_yields_the_same_result(stream, data):
    """Names, counters and the end of the search do not depend on the segments, for damaged streams too."""
    damaged = bytearray(stream)
    for place in data.draw(st.lists(st.integers(0, min(len(stream), 700) - 1), max_size=3)):
        damaged[place] = data.draw(st.sampled_from(b"\r\n \x16\0Hx"))
    cuts = data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=30))
    assert read(bytes(damaged), sorted(cuts)) == read(bytes(damaged), [])


@pytest.mark.parametrize("stream", [GET + HELLO, GET + TO_OTHER + GET, in_records(HELLO, 1), MALFORMED + TO_OTHER])
def test_single_bytes_yield_the_same_result(stream):
    """A stream whose segments have one byte each yields what it yields as one segment."""
    assert read(stream, list(range(1, len(stream)))) == read(stream, [])


def test_malformed_head_is_counted():
    """A head that ends without being valid is counted, and nothing behind it is read."""
    assert read(MALFORMED + TO_OTHER, []) == ([], {"server_name_incomplete": 1}, True)


ENDLESS_HELLO = b"\1\0\x4e\x20" + bytes(FIRST_BYTES)  # of 20,000 bytes
LABORIOUS = {
    "a ClientHello in one record": b"\x16\x03\1\x40\0" + ENDLESS_HELLO,
    "a ClientHello in small records": in_records(b"\x16\x03\1\0\0" + ENDLESS_HELLO, 11),
    "a request with an endless first line": b"GET /".ljust(FIRST_BYTES, b"x"),
    "a request with a long first line": b"GET /".ljust(FIRST_BYTES // 2, b"x")
    + b" HTTP/1.1\r\n"
    + b"a\n" * FIRST_BYTES,
    "a request with short fields": b"GET / HTTP/1.1\r\n" + b"a\n" * FIRST_BYTES,
    "a request with a long field": b"GET / HTTP/1.1\r\na: ".ljust(FIRST_BYTES, b"x"),
    "a malformed head": b"GET / HTTP/1.1\r\n" + b"a\n" * 4_000 + b"\rx\n" + b"\n" * FIRST_BYTES,
    "requests": b"GET / HTTP/1.1\n\n" * FIRST_BYTES,
}


class CountingPattern(SimpleNamespace):
    """A regular expression that adds up the bytes that it is given."""

    def _counted(self, search, data, *start):
        self.work["bytes"] += len(data) - sum(start)
        return search(data, *start)

    def __getattr__(self, name):
        return lambda *given: self._counted(getattr(self.pattern, name), *given)


def work_for_single_bytes(stream: bytes, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return the work for a stream in segments of one byte: bytes given to patterns, and lines run by the readers."""
    work: Counter[str] = Counter()
    for name in ("_FIRST_LINE", "_FIRST_LINE_SO_FAR", "_HEAD", "_BLANK_LINE"):
        monkeypatch.setattr(http_requests, name, CountingPattern(pattern=getattr(http_requests, name), work=work))
    files = {client_hello.__file__, http_requests.__file__}

    def trace(frame, event, _):
        work["lines"] += event == "line"
        return trace if frame.f_code.co_filename in files else None

    reader = ServerNameReader(Counter())
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for place in range(len(stream)):
            reader.take(stream[place : place + 1], Arrival(place, place))
    finally:
        sys.settrace(before)
    return work


@pytest.mark.parametrize("stream", LABORIOUS.values(), ids=LABORIOUS)
def test_work_is_linear_in_the_bytes(stream, monkeypatch):
    """The work for a connection grows with its bytes, not with bytes times segments."""
    work = work_for_single_bytes(stream[:FIRST_BYTES], monkeypatch)
    assert work["lines"] < 40 * FIRST_BYTES
    assert work["bytes"] < 40 * FIRST_BYTES


def test_ports_are_used_again():
    """A second connection from the same ports has a name of its own, even if the first one was not read to its end."""
    assembly = Assembly(CaptureOptions(server_names=True), Counter())
    events = []
    for isn, data in ((99, HELLO), (70_000, GET)):
        for flags, sequence, part in (("S", isn, b""), ("A", isn + 1, data), ("FA", isn + 1 + len(data), b"")):
            tcp = TCP(sport=40000, dport=8443, seq=sequence, flags=flags)
            events += assembly.frame(1, RAW, bytes(IP(src="192.0.2.1", dst="192.0.2.2") / tcp / part))
    assert [event.args["evidence"] for _, event in events] == [SNI, HOST]


@given(st.sampled_from([HELLO, GET + TO_OTHER, in_records(HELLO, 50)]), st.data())
def test_any_damage_is_taken(stream, data):
    """A stream with any byte changed raises nothing, and yields only valid names."""
    mutated = bytearray(stream)
    for place in data.draw(st.lists(st.integers(0, len(stream) - 1), max_size=8)):
        mutated[place] = data.draw(st.integers(0, 255))
    found, _ = play(bytes(mutated), data.draw(st.lists(st.integers(1, len(stream)), max_size=3)))
    assert all(server_name(one.name.encode(), one.evidence) == one for one in found)


def test_a_connection_holds_its_first_bytes_at_most():
    """Only the first bytes of a connection are held, and none once its protocol is known."""
    assembly = Assembly(CaptureOptions(server_names=True), Counter())
    address = IP(src="192.0.2.1", dst="192.0.2.2")
    for place in range(100):
        data = b"GET / HTTP/1.1\r\n".ljust(1000, b"x") if place == 0 else bytes([0x78]) * 1000
        frame = address / TCP(sport=40000, dport=80, seq=place * 1000, flags="A") / data
        assembly.frame(0, RAW, bytes(frame))
        assert assembly._names.held <= FIRST_BYTES
    assert assembly._names.held == 0


def test_bulk_data_are_not_searched():
    """Bytes that look like a ClientHello deep inside a connection are ignored."""
    assembly = Assembly(CaptureOptions(server_names=True), Counter())
    address = IP(src="192.0.2.1", dst="192.0.2.2")
    parts = [(0, HELLO), (1 << 22, HELLO), (1 << 24, GET)]
    frames = [bytes(address / TCP(sport=40000, dport=80, seq=at, flags="A") / part) for at, part in parts]
    assert [len(assembly.frame(0, RAW, frame)) for frame in frames] == [1, 0, 0]


def test_server_names_are_off_by_default():
    """Server names are searched only if the option is set."""
    assembly = Assembly(CaptureOptions(), Counter())
    frame = IP(src="192.0.2.1", dst="192.0.2.2") / TCP(sport=40000, dport=443, seq=1, flags="PA") / HELLO
    assert assembly.frame(0, RAW, bytes(frame)) == []


@pytest.mark.parametrize("payload", [HELLO, GET], ids=["hello", "request"])
@pytest.mark.parametrize("port", [80, 443, 8080])
def test_a_datagram_has_no_server_name(payload, port):
    """Server names come from TCP alone: anybody can send a datagram with any source address."""
    counters = Counter()
    frame = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=40000, dport=port) / payload
    assert Assembly(CaptureOptions(server_names=True), counters).frame(0, RAW, bytes(frame)) == []
    assert counters == {"other_port": 1}


NAMES = {
    (b"WWW.Example.COM", SNI): ServerName("www.example.com", SNI),
    (b"www.example.com.", SNI): ServerName("www.example.com", SNI),
    (b"_a.b_c.x-1.example", SNI): ServerName("_a.b_c.x-1.example", SNI),
    (b" www.example.com:8080 ", HOST): ServerName("www.example.com", HOST),
    (b"www.example.com:", HOST): ServerName("www.example.com", HOST),
    (b"localhost", HOST): ServerName("localhost", HOST),
    (b"192.0.2.1", SNI): "server_name_is_address",
    (b"192.0.2.1:80", HOST): "server_name_is_address",
    (b"[2001:db8::1]:80", HOST): "server_name_is_address",
    (b"2001:db8::1", SNI): "server_name_is_address",
    (b"www.example.com:443", SNI): "server_name_invalid",
    (b"1.2.3", SNI): "server_name_invalid",
    (b"a..b", SNI): "server_name_invalid",
    (b"-a.example", SNI): "server_name_invalid",
    (b"a.example-", SNI): "server_name_invalid",
    (b"a b", HOST): "server_name_invalid",
    (b"caf\xc3\xa9.example", SNI): "server_name_invalid",
    (b"a" * 64 + b".example", SNI): "server_name_invalid",
    (b"a." * 130 + b"example", SNI): "server_name_invalid",
    (b"a.example\n", HOST): ServerName("a.example", HOST),
    (b".", SNI): "server_name_invalid",
    (b"*.example", SNI): "server_name_invalid",
}


@pytest.mark.parametrize(("stated", "evidence"), NAMES)
def test_only_names_of_hosts_are_evidence(stated, evidence):
    """A name is lower-cased, without dot and port; an address or an invalid name has its reason."""
    assert server_name(stated, evidence) == NAMES[stated, evidence]


@pytest.mark.corpus
@pytest.mark.skipif(not CONNECTS, reason="DNSTRAIL_CORPUS names no folder of captures")
@pytest.mark.parametrize("capture", CONNECTS)
def test_names_are_tsharks(capture):
    """The names in a capture are those that tshark finds, each with its time and connection."""
    source = CaptureFileSource(str(CORPUS / "captures" / capture), CaptureOptions(server_names=True))
    found = []
    while (batch := source.read(1)) is not None:
        for topic, event in batch:
            if topic == NET_SERVER_NAME:
                flow, args = event.flow, event.args
                ends = (flow.source_text, flow.destination_text, flow.destination_port)
                found.append(Connect(event.timestamp, *ends, args["server_name"], args["evidence"]))
    source.close()
    assert sorted(found) == sorted(row for row in CONNECTS[capture] if not is_literal(row.name))
    by_tcp = [row for row in CONNECTS[capture] if is_literal(row.name) and ":" not in row.name]  # the others are SSDP
    assert source.counters["server_name_is_address"] == len(by_tcp)
