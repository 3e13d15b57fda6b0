"""The logs for Zeek as zat, a library for Zeek's logs, reads them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import dnstrail_probe
from builders.facts import BEGIN, SECOND, stage_of
from builders.log_entries import fill
from live.namespaces import skip
from live.processes import dnstrail

INSTALLED = Path(__file__).parents[2] / ".zat"
DEMO = Path(dnstrail_probe.__file__).parent / "sources/demo.pcap"
ENDS = ("src", "src_port", "dst", "dst_port")


def logged(folder: Path, *options: str) -> str:
    """Return the log of a history."""
    done = dnstrail("log", "--folder", folder, "--since", "0", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def both(folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> list[tuple[dict[str, Any], ...]]:
    """Return each entry as zat reads it, and as JSON. zat raises for a value that has not the type of its field."""
    if not INSTALLED.exists():
        skip("zat is not installed: deploy/setup-zat.sh")
    monkeypatch.syspath_prepend(INSTALLED)
    reader = import_module("zat.zeek_log_reader")
    path.write_text(logged(folder, "--output", "zeek", *options))
    rows = [*reader.ZeekLogReader(str(path), strict=True).readrows()]
    entries = [json.loads(line) for line in logged(folder, "--json", *options).splitlines()]
    assert len(rows) == len(entries) > 0
    return [*zip(rows, entries, strict=True)]


def seconds(found: datetime | timedelta) -> float:
    return found.timestamp() if isinstance(found, datetime) else found.total_seconds()


def test_zat_reads_dns_log(tmp_path, monkeypatch):
    """Zat reads time, ends, question, response code, answers and TTLs of each question of a capture."""
    assert dnstrail("history", "--folder", tmp_path / "history", "load", DEMO).returncode == 0
    for row, entry in both(tmp_path / "history", tmp_path / "dns.log", monkeypatch):
        assert [row[f"id.{end}"] for end in ("orig_h", "orig_p", "resp_h", "resp_p")] == [entry[end] for end in ENDS]
        assert (row["query"], row["qtype_name"], row["proto"]) == (entry["name"], entry["type"], entry["transport"])
        assert row["rcode"] == entry.get("rcode", 0)
        relations = entry.get("relations", [])
        assert row["answers"] == (",".join(one[2] for one in relations) or "-")
        assert [float(ttl) for ttl in row["TTLs"].split(",") if ttl != "-"] == [one[3] for one in relations]
        if "rcode" in entry:
            assert seconds(row["rtt"]) == pytest.approx(entry["waited"] / SECOND, abs=1e-5)
            assert seconds(row["ts"]) + seconds(row["rtt"]) == pytest.approx(entry["timestamp"] / SECOND, abs=1e-5)


def test_zat_reads_conn_log(tmp_path, monkeypatch):
    """Zat reads ends, duration, bytes and process of each connection."""
    kinds = [{"stage": "end", "why": "closed", "lasted": 3 * SECOND, "bytes_sent": 100, "bytes_received": 2000}]
    kinds += [{"stage": "result", "connected": False, "error": "ECONNREFUSED"}, {"stage": "end", "why": "evicted"}]
    fill(tmp_path / "history", (stage_of(one, time=BEGIN + one * SECOND, **kinds[one % 3]) for one in range(9)))
    for row, entry in both(tmp_path / "history", tmp_path / "conn.log", monkeypatch, "--connections"):
        assert [row[f"id.{end}"] for end in ("orig_h", "orig_p", "resp_h", "resp_p")] == [entry[end] for end in ENDS]
        assert seconds(row["duration"]) == pytest.approx((entry.get("lasted") or 0) / SECOND)
        assert (row["orig_bytes"], row["resp_bytes"]) == (entry.get("bytes_sent", 0), entry.get("bytes_received", 0))
        assert (row["process"], row["pid"]) == ("curl", 7)
