"""The logs of Zeek, as its tools read them."""

from __future__ import annotations

import json
from typing import Any

import communityid
import pytest

from builders.facts import BEGIN, OF_UNIT, fact_of
from builders.log_entries import connection, live
from dnstrail.history.log.entries import LogEntry
from dnstrail_cli.log_formats import zeek

READERS = {"time": float, "interval": float, "count": int, "port": int}
HOSTILE = "a\tb\nc\x1b\x7f\u00e9\\,#"


def read_tsv(lines: str) -> list[dict[str, Any]]:
    """Return the rows of a log as zat does: by the separator, the names and the types that its header states."""
    heads, rows = {}, []
    for line in lines.splitlines():
        if line.startswith("#"):
            name, *values = line.split(" " if line.startswith("#separator") else "\t")
            heads[name] = values
            continue
        values = line.split("\t")
        assert len(values) == len(heads["#fields"]) == len(heads["#types"])
        typed = zip(heads["#fields"], heads["#types"], values, strict=True)
        rows.append({name: read_value(kind, value) for name, kind, value in typed if value != "-"})
    return rows


def read_value(kind: str, value: str) -> Any:
    if kind.startswith("vector["):
        return [read_value(kind[7:-1], one) for one in value.split(",")]
    return value == "T" if kind == "bool" else READERS.get(kind, str)(value)


def both(log: zeek.ZeekLog, *entries: LogEntry) -> list[dict[str, Any]]:
    """Return the rows of entries, which are the same by both forms."""
    lines = [zeek.header(log, BEGIN / 1e9), *(zeek.tsv_line(log, entry) for entry in entries)]
    rows = read_tsv("\n".join(lines))
    assert rows == [json.loads(zeek.json_of(log, entry)) for entry in entries]
    return rows


def test_a_question_is_a_line_of_dns_log():
    """A line has the fields of Zeek with its values, and beside them the process and the Community ID."""
    [row] = both(zeek.DNS, live(fact_of(process=OF_UNIT)))
    uid = row.pop("uid")
    assert (uid[0], uid.isalnum()) == ("C", True)
    assert row == {
        "ts": 1794999999.98,
        "id.orig_h": "10.0.0.2",
        "id.orig_p": 40000,
        "id.resp_h": "10.0.0.53",
        "id.resp_p": 53,
        "proto": "udp",
        "rtt": 0.02,
        "query": "a.example",
        "qclass": 1,
        "qclass_name": "C_INTERNET",
        "qtype": 1,
        "qtype_name": "A",
        "rcode": 0,
        "rcode_name": "NOERROR",
        "answers": ["b.example", "192.0.2.1"],
        "TTLs": [60.0, 30.0],
        "rejected": False,
        "community_id": communityid.CommunityID().calc(
            communityid.FlowTuple.make_udp("10.0.0.2", "10.0.0.53", 40000, 53)
        ),
        "pid": 7,
        "process": "curl",
        "container": "web",
        "unit": "web.service",
    }


def test_what_is_unknown_is_unset():
    """A question without an answer and a process has neither rcode nor rtt; a type without a name has its number."""
    [row] = both(zeek.DNS, live(fact_of(process=None, relations=(), outcome=6, rcode=None, type=65280)))
    assert row.keys().isdisjoint({"rtt", "rcode", "rcode_name", "answers", "TTLs", "pid", "process"})
    assert (row["qtype"], row["qtype_name"]) == (65280, "query-65280")


@pytest.mark.parametrize(
    ("outcome", "rcode", "expected"),
    [(3, 5, {"rejected": True, "rcode_name": "REFUSED"}), (5, 0, {"TC": True}), (4, 4000, {"rcode_name": "4000"})],
    ids=["refused", "truncated", "another code"],
)
def test_an_outcome_is_a_flag(outcome, rcode, expected):
    """Refused and truncated answers have the flags of Zeek, and each response code has a name."""
    [row] = both(zeek.DNS, live(fact_of(relations=(), outcome=outcome, rcode=rcode)))
    assert expected.items() <= row.items()


@pytest.mark.parametrize(
    ("stated", "state"),
    [
        ({}, "SF"),
        ({"why": "evicted"}, "OTH"),
        ({"stage": "result", "connected": False, "error": "ECONNREFUSED", "why": None}, "REJ"),
        ({"stage": "result", "connected": False, "error": "ETIMEDOUT", "why": None}, "S0"),
    ],
    ids=["closed", "evicted", "refused", "timeout"],
)
def test_a_connection_is_a_line_of_conn_log(stated, state):
    """A line has duration, bytes and the state of the connection, and the name that it meant."""
    [row] = both(zeek.CONN, connection(**stated))
    assert (row["conn_state"], row["duration"], row["orig_bytes"], row["resp_bytes"]) == (state, 3.0, 100, 2000)
    assert (row["ts"], row["id.resp_h"], row["resp_name"]) == (1794999997.0, "192.0.2.7", "shop.example")
    assert row["community_id"].startswith("1:")


def test_a_socket_has_one_uid():
    """Entries of one socket share their uid, as dns.log and conn.log of Zeek do; others differ."""
    uids = [
        json.loads(zeek.json_of(zeek.DNS, live(fact_of(number, socket=socket))))["uid"]
        for number, socket in ((0, 5), (1, 5), (2, 6), (3, None), (4, None))
    ]
    assert uids[0] == uids[1]
    assert len({*uids}) == 4
    again = live(fact_of(0, socket=5, id="t/0/0"))
    assert json.loads(zeek.json_of(zeek.DNS, again))["uid"] not in uids  # cookies begin anew


@pytest.mark.parametrize("text", [HOSTILE, "-", "(empty)", "", "#fields", ",", "\\x2d"])
def test_a_text_stays_within_its_field(text):
    """A name of a stranger makes neither a field nor a line, and is not read as unset or empty."""
    entry = live(fact_of(name="x", relations=(("x", 5, f"{text}y", 1), ("x", 1, f"{text}z", 1))))
    line = zeek.tsv_line(zeek.DNS, entry)
    assert line.isascii()
    assert line.isprintable() or line.replace("\t", "").isprintable()
    assert len(line.split("\t")) == len(zeek.DNS.fields)
    assert len(read_tsv("\n".join([zeek.header(zeek.DNS, 0), line]))[0]["answers"]) == 2
    named = live(fact_of(name=text, relations=()))
    [row] = read_tsv("\n".join([zeek.header(zeek.DNS, 0), zeek.tsv_line(zeek.DNS, named)]))
    written = row["query"]
    assert written == "(empty)" if not text else written not in ("-", "(empty)")
    assert json.loads(zeek.json_of(zeek.DNS, named))["query"] == text
