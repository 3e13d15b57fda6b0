"""Transactions of a capture file as tshark, another implementation, reports them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import dns.message
import dns.rrset
import pytest

from builders.capture_files import RAW_IPV4, pcap, udp
from builders.dns_builders import AAAA
from builders.talk import answer, query
from live.namespaces import skip
from live.processes import dnstrail, run_dir
from live.workers import response

UNPACKED = Path(__file__).parents[2] / ".tshark/root/usr"
FIELDS = ("dns.qry.name", "dns.qry.type", "dns.flags.rcode", "dns.time", "dns.a", "dns.aaaa", "dns.cname")
TYPES = {"1": "A", "28": "AAAA", "16": "TXT"}
CLIENT, SERVER = "192.0.2.100", ("192.0.2.53", 53)
SECOND = 1_793_534_400


def of_address6(name: str, address: str) -> bytes:
    """Return an answer with an IPv6 address."""
    reply = dns.message.make_response(dns.message.from_wire(query(name, AAAA)))
    reply.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "AAAA", address))
    return reply.to_wire()


ASKED = (  # name, type, answer, and the time until it (us)
    ("a.example", {}, answer("192.0.2.1", name="a.example"), 1),
    ("two.example", {}, answer("192.0.2.1", "192.0.2.2", name="two.example"), 20_000),
    ("six.example", {"kind": AAAA}, of_address6("six.example", "2001:db8::1"), 300_000),
    ("none.example", {}, response("none.example", id_=1, rcode="NXDOMAIN"), 999_999),
    ("refused.example", {}, response("refused.example", id_=1, rcode="REFUSED"), 1_000),
    ("failed.example", {}, response("failed.example", id_=1, rcode="SERVFAIL"), 5_000_000),
    ("empty.example", {}, response("empty.example", id_=1), 40),
    ("slow.example", {}, answer("192.0.2.4", name="slow.example"), 29_000_000),
    ("MiXeD.example", {}, answer("192.0.2.5", name="MiXeD.example"), 123_456),
    ("gone.example", {}, None, 0),
)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Return a capture of ten transactions, of which one has no answer."""
    records = []
    for number, (name, question, reply, after) in enumerate(ASKED):
        ends = (CLIENT, 40_000 + number), SERVER
        records.append((SECOND, number, udp(*ends, query(name, **question))))
        if reply is not None:
            seconds, rest = divmod(number + after, 1_000_000)
            records.append((SECOND + seconds, rest, udp(*reversed(ends), reply)))
    path = tmp_path / "ten.pcap"
    path.write_bytes(pcap(*sorted(records), linktype=RAW_IPV4))
    return path


def of_tshark(capture: Path) -> dict[str, tuple]:
    """Return type, rcode, waited time (us) and addresses of each transaction by name, as tshark reports them."""
    [library] = [*UNPACKED.glob("lib/*/libwireshark.so.*[0-9]")][:1]
    fields = [word for field in FIELDS for word in ("-e", field)]
    command = [UNPACKED / "bin/tshark", "-r", capture, "-Y", "dns.flags.response == 1", "-T", "fields", *fields]
    env = {**os.environ, "LD_LIBRARY_PATH": str(library.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return {
        name.lower(): (
            TYPES[kind],
            int(rcode),
            round(float(time) * 1e6),
            sorted(filter(None, f"{a},{aaaa}".split(","))),
        )
        for name, kind, rcode, time, a, aaaa, _ in rows
    }


def test_ten_transactions_as_tshark_reports_them(capture):
    """Type, response code, time to the answer and addresses are those of tshark. It finds no answer to one question."""
    if not (UNPACKED / "bin/tshark").exists():
        skip("tshark is not unpacked: deploy/setup-tshark.sh")
    with run_dir() as folder:
        done = dnstrail("replay", capture, "--run-dir", folder, "--events", "dns_transaction", "--output", "json")
    assert done.returncode == 0, done.stderr
    events = [{one["name"]: one["value"] for one in json.loads(line)["args"]} for line in done.stdout.splitlines()]
    assert len(events) == len(ASKED)
    ours = {
        row["name"]: (row["type"], row["rcode"], row["waited"] // 1000, sorted(one[2] for one in row["relations"]))
        for row in events
        if row["outcome"] != "unanswered"
    }
    assert ours == of_tshark(capture)
    assert {row["name"] for row in events} - {*ours} == {"gone.example"}
