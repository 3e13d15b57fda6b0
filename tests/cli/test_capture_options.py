"""Tests of dnstrail_cli.lookups.options."""

from __future__ import annotations

import json
import struct

import dns.message
import pytest
from scapy.layers.inet import IP, TCP, UDP

from dnstrail.capture_options import MAX_LABELS
from live.processes import dnstrail, run_dir

ANSWER = """id 7
opcode QUERY
rcode NOERROR
flags QR RD RA
;QUESTION
{name}. IN A
;ANSWER
{name}. 300 IN A {address}
"""
TO_CLIENT, TO_SERVER = IP(src="192.0.2.53", dst="192.0.2.2"), IP(src="192.0.2.2", dst="198.51.100.1")
REQUEST = b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"


def answer(name: str, address: str) -> bytes:
    return dns.message.from_text(ANSWER.format(name=name, address=address)).to_wire()


@pytest.fixture
def capture(tmp_path):
    """Return a capture with an answer over UDP on port 5353, an answer over TCP on port 53, and an HTTP request."""
    by_tcp = answer("tcp.example", "198.51.100.2")
    frames = [
        TO_CLIENT / UDP(sport=5353, dport=4000) / answer("udp.example", "198.51.100.1"),
        TO_CLIENT / TCP(sport=53, dport=4000, seq=9, flags="SA"),
        TO_CLIENT / TCP(sport=53, dport=4000, seq=10, flags="PA") / (len(by_tcp).to_bytes(2) + by_tcp)[:20],
        TO_CLIENT / TCP(sport=53, dport=4000, seq=30, flags="PA") / (len(by_tcp).to_bytes(2) + by_tcp)[20:],
        TO_SERVER / TCP(sport=4001, dport=8080, seq=1, flags="PA") / REQUEST,
    ]
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    records = [struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame for frame in map(bytes, frames)]
    path = tmp_path / "x.pcap"
    path.write_bytes(head + b"".join(records))
    return path


@pytest.mark.parametrize(
    ("options", "known"), [((), {"tcp.example"}), (("--dns-ports", "53, 5353"), {"tcp.example", "udp.example"})]
)
def test_ports_are_a_choice(capture, options, known):
    """DNS is found on port 53 over both transports, and on the ports that --dns-ports names."""
    done = dnstrail("get", "--json", "--capture", capture, *options, "tcp.example", "udp.example")
    assert {line["key"] for line in map(json.loads, done.stdout.splitlines()) if line["found"]} == known


@pytest.mark.parametrize("command", [("get", "--capture", "x", "a"), ("replay", "x"), ("probe",), ()])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--dns-ports", "53,dns"), "'dns'"),
        (("--dns-ports", "0"), "'0'"),
        (("--dns-ports", "65536"), "'65536'"),
        (("--dns-ports", ""), "''"),
        (("--dns-ports", ",".join(map(str, range(1, 66)))), "65 ports"),
        (("--evidence", "dns"), "'dns'"),
    ],
)
def test_wrong_port_or_evidence_is_refused(command, options, named):
    """With a value that these options do not accept, every command exits with 2 and names the value."""
    done = dnstrail(*command, *options)
    assert done.returncode == 2
    assert named in done.stderr


@pytest.mark.parametrize(("options", "names"), [((), []), (("--evidence", "sni"), ["www.example.com"])])
def test_server_names_are_shown_with_evidence_sni(capture, options, names):
    """With --evidence sni a replay shows the server names that clients used; without it, none."""
    with run_dir() as folder:
        done = dnstrail(
            "replay", capture, *options, "--events", "net_server_name", "--output", "json", "--run-dir", folder
        )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    shown = [{arg["name"]: arg["value"] for arg in event["args"]} for event in events]
    assert [args["server_name"] for args in shown] == names
    assert {(args["evidence"], args["dst"], args["dst_port"]) for args in shown} <= {("host", "198.51.100.1", 8080)}


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (["app=web"], "is no key of a label"),
        ([""], "is no key of a label"),
        (["app\n"], "is no key of a label"),
        (["a" * 318], "is no key of a label"),
        ([f"k{number}" for number in range(MAX_LABELS + 1)], "9 keys; 8 at most"),
    ],
    ids=lambda one: str(one)[:20],
)
def test_a_key_that_no_label_has_is_refused(tmp_path, keys, reason):
    """A key that is empty, too long, or not printable, and one more than the bound, are refused, in settings, too."""
    (tmp_path / "settings.toml").write_text(f"[probe]\nlabel = {json.dumps(keys)}\n")
    given = [word for key in keys for word in ("--label", key)]
    for options in (given, ("--config", tmp_path / "settings.toml")):
        done = dnstrail("probe", *options, "--capture", "x.pcap")
        assert (done.returncode, reason in done.stderr) == (2, True), done.stderr


def test_the_longest_keys_and_as_many_as_can_be_are_accepted():
    """As many keys as the bound are accepted: the missing file is refused after them."""
    keys = [f"{number}{'a' * 316}" for number in range(MAX_LABELS)]
    done = dnstrail("probe", *(f"--label={key}" for key in keys), "--capture", "x.pcap")
    assert "x.pcap" in done.stderr
    assert "key" not in done.stderr
