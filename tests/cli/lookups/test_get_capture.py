"""Tests of dnstrail_cli.lookups.found_text, dnstrail_cli.lookups.lookup."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP

from builders.capture_files import pcap
from builders.dnstap_builders import START, STOP, WHOLE, framed, tap
from dnstrail.capture_options import CaptureOptions
from dnstrail.settings import DnsCache
from dnstrail_cli.lookups.capture_backend import CaptureLookup
from dnstrail_probe.registry import open_source
from live.processes import dnstrail, run_dir
from live.workers import response

DEMO = Path(__file__).parents[3] / "services/probe/dnstrail_probe/sources/demo.pcap"
BEGIN = 1_793_534_400


def ask(*lines: object, capture: Path | str = DEMO, dnscache: str = "grace=0") -> list[dict]:
    """Return the answers of `get --capture FILE -` to these lines."""
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    done = dnstrail("get", "--capture", capture, "--dnscache", dnscache, "-", stdin=text)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_lookup_of_a_file_needs_no_server():
    """A lookup over a file returns the names behind an address, as of the end of the file."""
    done = dnstrail("get", "--capture", DEMO, "--json", "192.0.2.10")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["dns_queries"] == ["news.example", "edge.cdn.example", "shop.example", "host-10.isp.example"]
    assert found["dns_root"] == "news.example"


def test_at_looks_back():
    """--at looks up the image as of a time, in epoch seconds or RFC 3339."""
    for at in (str(BEGIN + 1), "2026-11-01T12:00:01Z", "2026-11-01T13:00:01+01:00"):
        done = dnstrail("get", "--capture", DEMO, "--json", "--at", at, "192.0.2.10")
        assert json.loads(done.stdout)["dns_queries"] == ["shop.example", "edge.cdn.example"]


def test_not_found_is_code_1():
    """If one key is not found, the others are shown, and the exit code is 1."""
    done = dnstrail("get", "--capture", DEMO, "--json", "shop.example", "nothing.example")
    assert done.returncode == 1
    assert [json.loads(line)["found"] for line in done.stdout.splitlines()] == [True, False]


def test_lines_are_answered_in_order():
    """Each line has an answer as of its own time, with key and time as they were given."""
    answers = ask(
        {"key": "192.0.2.10", "at": BEGIN - 1},
        {"key": "192.0.2.10", "at": BEGIN + 0.2},
        {"key": "NEWS.Example.", "at": BEGIN + 2},
        {"key": "..", "at": BEGIN + 2},
        {"key": "shop.example"},
    )
    assert answers[0] == {
        "key": "192.0.2.10",
        "at": BEGIN - 1,
        "found": False,
        "ip_addresses": [],
        "dns_queries": [],
        "dns_root": "",
        "state": "",
    }
    assert answers[1]["dns_queries"] == ["shop.example", "edge.cdn.example"]
    assert (answers[2]["key"], answers[2]["ip_addresses"]) == ("NEWS.Example.", ["192.0.2.10", "2001:db8::10"])
    assert answers[3]["found"] is False
    assert answers[4]["at"] is None
    assert answers[4]["dns_root"] == "shop.example"


def test_later_connections_are_not_held(tmp_path):
    """Connections later than the time of a lookup are not held, and the DNS messages behind them count."""
    answers = [response(f"{name}.test", f"{name}.test 900 A 192.0.2.{number}") for number, name in enumerate("abc")]
    stamped = [(10, answers[0]), *((30 + number, b"") for number in range(50)), (20, answers[1]), (40, answers[2])]
    records = [(at, 0, dns_or_syn(number, data)) for number, (at, data) in enumerate(stamped)]
    path = tmp_path / "connections.pcap"
    path.write_bytes(pcap(*records, linktype=101))
    with closing(CaptureLookup(str(path), DnsCache(), CaptureOptions(), lambda: None)) as lookup:
        for at, names in ((5.0, ""), (15.0, "a"), (35.0, "ab"), (45.0, "abc")):
            assert "".join(name for name in "abc" if lookup.get(f"{name}.test", at)) == names
            assert len(lookup._read) <= 1


def dns_or_syn(number: int, data: bytes = b"") -> bytes:
    """Return a packet with a DNS message, or the SYN of a connection of its own."""
    if data:
        return bytes(IP(src="192.0.2.53", dst="192.0.2.1") / UDP(sport=53, dport=4000) / data)
    return bytes(IP(src="192.0.2.1", dst="192.0.2.80") / TCP(sport=2000 + number, dport=443, flags="S"))


def test_message_at_the_time_itself_counts():
    """A message with the stamp `at` counts; a message one microsecond later does not."""
    stamp = BEGIN + 0.012345678
    assert [
        a["found"] for a in ask({"key": "shop.example", "at": stamp - 1e-6}, {"key": "shop.example", "at": stamp})
    ] == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    "line",
    ["no json\n", "[]\n", "{}\n", '{"key": 5}\n', '{"key": "a", "at": "soon"}\n', '{"key": "a", "at": NaN}\n',
     '{"key": "a", "at": true}\n', "\n", "[" * 100_000 + "\n"],
)  # fmt: skip
def test_bad_line_has_an_error_in_its_place(line):
    """A line that cannot be read has an error in its place, and the next line is answered."""
    answers = ask(line, {"key": "shop.example"})
    assert list(answers[0]) == ["error"]
    assert answers[1]["found"] is True


def test_line_that_goes_back_has_an_error():
    """A line earlier than the line before it has an error, also after a line without a time."""
    answers = ask({"key": "a", "at": 5}, {"key": "a", "at": 4}, {"key": "a"}, {"key": "a", "at": 6})
    assert ["error" in answer for answer in answers] == [False, True, False, True]


def test_no_capture_is_code_2(tmp_path):
    """A file that is missing, or is no capture, exits with 2 and one line that names it."""
    text = tmp_path / "text.pcap"
    text.write_text("certainly no capture")
    for path in (text, tmp_path / "missing.pcap", tmp_path):
        for command in (["get", "--capture", path, "a.example"], ["get", "--capture", path, "-"], ["replay", path]):
            done = dnstrail(*command, stdin="")
            assert done.returncode == 2, command
            assert len(done.stderr.splitlines()) == 1
            assert path.name in done.stderr


def test_capture_cut_short_warns_and_counts(tmp_path):
    """A capture that is cut short counts up to the cut; the command warns and exits with 0."""
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(DEMO.read_bytes()[:-7])
    whole = sum(1 for _ in iter_messages(cut))
    assert whole == 17
    done = dnstrail("get", "--capture", cut, "updates.example", "shop.example")
    assert (done.returncode, "cut short" in done.stderr) == (1, True)
    done = dnstrail("get", "--capture", cut, "-", stdin='{"key": "shop.example"}\n')
    assert (done.returncode, "cut short" in done.stderr) == (0, True)
    with run_dir() as folder:
        done = dnstrail("replay", cut, "--run-dir", folder)
    assert (done.returncode, "file_cut_short" in done.stderr) == (0, True)
    assert "17 messages" in done.stderr


def test_text_of_strangers_is_escaped(tmp_path):
    """Control bytes in a key reach the terminal escaped."""
    done = dnstrail("get", "--capture", DEMO, "evil\x1b[31m.example")
    assert "\x1b" not in done.stdout
    assert "\\x1b" in done.stdout


def iter_messages(path: Path):
    source = open_source(str(path))
    while (captured := source.read(1)) is not None:
        yield from captured
    source.close()


@pytest.fixture
def tapped(tmp_path) -> Path:
    """Return a dnstap file with an answer over TLS at 1,700,000,001 s, TTL 100 s, and a message that is skipped."""
    answer = response("www.example", "www.example 100 CNAME edge.example.", "edge.example 100 A 192.0.2.80")
    path = tmp_path / "resolver.fstrm"
    path.write_bytes(START + framed(tap(response_message=answer, **WHOLE), b"\xff") + STOP)
    return path


def test_dnstap_file_is_a_capture(tapped):
    """A dnstap file answers lookups like any capture, with the times of the resolver."""
    at = 1_700_000_001
    answers = ask(*({"key": "192.0.2.80", "at": at + seconds} for seconds in (-1, 0.5, 101)), capture=tapped)
    assert [answer["dns_queries"] for answer in answers] == [[], ["www.example", "edge.example"], []]


def test_dnstap_file_is_replayed(tapped):
    """A dnstap file goes through the whole pipeline; each event names the kind of its dnstap message."""
    with run_dir() as folder:
        done = dnstrail("replay", tapped, "--run-dir", folder, "--events", "net_packet_dns", "--output", "json")
    assert done.returncode == 0, done.stderr
    args = {arg["name"]: arg["value"] for arg in json.loads(done.stdout)["args"]}
    assert (args["dnstap"], args["transport"], args["src"]) == ("CLIENT_RESPONSE", "dot", "192.0.2.53")
    assert args["proto_dns"]["answers"][1]["IP"] == "192.0.2.80"
