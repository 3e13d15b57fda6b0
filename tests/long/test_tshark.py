"""Transactions of a capture file as tshark, another implementation, reports them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import dns.message
import dns.rrset
import pytest

from builders.capture_files import RAW_IPV4, pcap, udp
from builders.corpus import CORPUS, needs_corpus
from builders.dns_builders import AAAA, A
from builders.facts import stored
from builders.talk import answer, query
from live.namespaces import skip
from live.processes import dnstrail
from live.workers import response

UNPACKED = Path(__file__).parents[2] / ".tshark/root/usr"
FIELDS = ("dns.qry.name", "dns.qry.type", "dns.flags.rcode", "dns.time", "dns.a", "dns.aaaa")
ANSWERS = "udp.srcport == 53 && dns.flags.response == 1 && dns.time && !icmp"
# Answered questions by capture. Their answers have no additional addresses, which tshark does not tell apart.
REAL = {
    "ndpi__teams.pcap": 22,
    "ndpi__alexa-app.pcapng": 31,
    "ndpi__android.pcap": 21,
    "ndpi__zoom.pcap": 6,
    "pktvisor__dns_udp_mixed_rcode.pcap": 12,
}
Row = tuple[str, int, int, int, list[str]]
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


def of_tshark(capture: Path) -> list[Row]:
    """Return name, type, rcode, time (us) and addresses of each answered question over UDP, as tshark reports them."""
    if not (UNPACKED / "bin/tshark").exists():
        skip("tshark is not unpacked: deploy/setup-tshark.sh")
    # A library that this host has installed is not unpacked.
    folders = sorted({str(found.parent) for found in UNPACKED.glob("lib/*/*.so.*")})
    fields = [word for field in FIELDS for word in ("-e", field)]
    command = [UNPACKED / "bin/tshark", "-r", capture, "-Y", ANSWERS, "-T", "fields", *fields]
    env = {**os.environ, "LD_LIBRARY_PATH": ":".join(folders)} if folders else None
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    rows = (line.split("\t") for line in done.stdout.splitlines())
    return sorted(
        (
            name.lower(),
            int(kind),
            int(rcode),
            round(float(waited) * 1e6),
            sorted(filter(None, f"{a},{aaaa}".split(","))),
        )
        for name, kind, rcode, waited, a, aaaa in rows
    )


def of_history(folder: Path) -> list[Row]:
    """Return the same of the transactions that a history holds."""
    return sorted(
        (
            fact.values.name,
            fact.values.type,
            fact.values.rcode,
            round(fact.values.waited / 1000),
            sorted(target for _, kind, target, _ in fact.values.owned if kind in (A, AAAA)),
        )
        for fact in stored(folder)
        if fact.values.waited is not None and fact.values.rcode is not None and fact.flow.transport == "udp"
    )


@pytest.mark.parametrize(("name", "count"), [pytest.param(*one, marks=needs_corpus, id=one[0]) for one in REAL.items()])
def test_real_transactions_as_tshark_reports_them(tmp_path, name, count):
    """Each answered question of real captures has name, type, response code, time and addresses of tshark."""
    capture = CORPUS / "captures" / name
    done = dnstrail("history", "--folder", tmp_path / "history", "load", capture)
    assert done.returncode == 0, done.stderr
    found = of_history(tmp_path / "history")
    assert len(found) == count
    assert found == of_tshark(capture)


def test_ten_transactions_as_tshark_reports_them(tmp_path, capture):
    """Type, response code, time to the answer and addresses are those of tshark. It finds no answer to one question."""
    done = dnstrail("history", "--folder", tmp_path / "history", "load", capture)
    assert done.returncode == 0, done.stderr
    found = of_history(tmp_path / "history")
    assert found == of_tshark(capture)
    assert len(found) == len(ASKED) - 1
    unanswered = [fact.values.name for fact in stored(tmp_path / "history") if fact.values.rcode is None]
    assert unanswered == ["gone.example"]
