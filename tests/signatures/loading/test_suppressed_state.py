"""Events whose findings the settings suppress use up nothing of the others: no gate, and no time to be quiet.

Tests of dnstrail_signatures.loading.scope, dnstrail_signatures.detection.stateful_signature.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from msgspec.structs import replace

from builders.detection_events import CURL, answered, connected, missing, queries
from dnstrail.datasource import DataSources
from dnstrail.process.config_file import ConfigFile
from dnstrail.testing import FakeDns, dns_query, dns_response, event
from dnstrail_signatures.builtin.connection_without_dns import ConnectionWithoutDns
from dnstrail_signatures.builtin.dns_chunks import DnsChunks
from dnstrail_signatures.builtin.dns_foreign_resolver import DnsForeignResolver
from dnstrail_signatures.builtin.dns_generated_name import DnsGeneratedName
from dnstrail_signatures.builtin.dns_rare_type import DnsRareType
from dnstrail_signatures.builtin.dns_rebinding import DnsRebinding
from dnstrail_signatures.builtin.dns_reverse_sweep import DnsReverseSweep
from dnstrail_signatures.builtin.dns_tunnel_tool import DnsTunnelTool
from dnstrail_signatures.builtin.dns_txt_code import DnsTxtCode
from dnstrail_signatures.builtin.encrypted_dns import EncryptedDns
from dnstrail_signatures.builtin.stale_address import StaleAddress
from dnstrail_signatures.engine.engine import Engine
from dnstrail_signatures.loading.signature_settings import settings_of

ALLOWED = replace(CURL, pid=50, user_id=1000)
WATCHED = replace(CURL, pid=60, user_id=33)
ONLY = "only.users = [33]\n"


def settings(cls, text):
    table = f"[signature.{cls.metadata.event_name}]\n{text}"
    return settings_of(ConfigFile(Path("/f.toml"), tomllib.loads(table)), [cls])


def started(cls, text):
    """Return an engine of a signature with the settings of a text, and its findings."""
    found = []
    return Engine([cls], DataSources(FakeDns({})), found.append, settings=settings(cls, text)), found


def passed(cls, text, events):
    """Return the times (s) of the findings on some events, and how many findings were suppressed."""
    engine, found = started(cls, text)
    for one in events:
        engine.on_event(one)
    assert not engine.errors
    return [finding.event.timestamp / 1e9 for finding in found], engine.suppressed[cls.metadata.event_name]


def foreign(process, at):
    return event(
        "net_packet_dns",
        dns_response("a.example", "a.example 60 A 192.0.2.1").captured.payload,
        process=process,
        at=at,
        args={"foreign": True, "src": "192.0.2.53"},
    )


GENERATED = [f"kq{'abcdefghij'[place]}zwxyv.com" for place in range(10)]
BEFORE = {
    ConnectionWithoutDns: [answered("a.example", "198.51.100.7", at=-9000)],
    DnsGeneratedName: [*map(missing, GENERATED), answered("kqzzwxyv.com", "198.51.100.7", at=1)],
    DnsRebinding: [answered("a.example", "198.51.100.7", "10.0.0.7")],
    StaleAddress: [
        answered("a.example", "198.51.100.7", at=-9000),
        answered("a.example", "198.51.100.8", at=-8000),
    ],
}
EACH = {
    DnsRareType: lambda process, at: [dns_query("a.evil.example NULL", process=process, at=at)],
    DnsTunnelTool: lambda process, at: [dns_query("dnscat.a.evil.example", process=process, at=at)],
    DnsTxtCode: lambda process, at: [
        dns_response("a.evil.example TXT", 'a.evil.example 60 TXT "powershell x"', process=process, at=at)
    ],
    DnsChunks: lambda process, at: [
        dns_query(f"{place}-mzxw6ytboi2dcnbs.evil.example", process=process, at=at) for place in range(30)
    ],
    DnsReverseSweep: lambda process, at: [
        dns_query(f"{place}.2.0.192.in-addr.arpa PTR", process=process, at=at) for place in range(30)
    ],
    EncryptedDns: lambda process, at: [connected("192.0.2.1", port=853, process=process, at=at)],
    ConnectionWithoutDns: lambda process, at: [connected("8.8.8.8", process=process, at=at)],
    DnsForeignResolver: lambda process, at: [foreign(process, at)],
    StaleAddress: lambda process, at: [connected("198.51.100.7", process=process, at=at)],
    DnsRebinding: lambda process, at: [connected("10.0.0.7", process=process, at=at)],
    DnsGeneratedName: lambda process, at: [connected("198.51.100.7", process=process, at=at)],
}


@pytest.mark.parametrize("cls", EACH, ids=lambda cls: cls.metadata.event_name)
def test_a_suppressed_finding_begins_no_quiet_time(cls):
    """A user who is not watched cannot silence the one who is, by the same program: each is counted once."""
    of = EACH[cls]
    events = [one for at, user in ((10, ALLOWED), (11, ALLOWED), (12, WATCHED), (13, WATCHED)) for one in of(user, at)]
    assert passed(cls, ONLY, [*BEFORE.get(cls, ()), *events]) == ([12.0], 1)


def test_events_that_are_suppressed_count_to_no_gate():
    """The events of a gate are those on which a finding is reported, however many others are among them."""
    names = [f"{place}.2.0.192.in-addr.arpa PTR" for place in range(30)]
    of_both = [dns_query(name, process=(ALLOWED, WATCHED)[place % 2]) for place, name in enumerate(names)]
    assert passed(DnsReverseSweep, ONLY, of_both) == ([], 0)
    assert passed(DnsReverseSweep, ONLY, [*of_both, *queries(names[::2], each=0.1, process=WATCHED)]) == ([1.4], 0)


def test_a_mute_hides_nothing_after_its_end():
    """A program that was muted is reported on its first event after the mute, though the `quiet` time has not ended."""
    text = 'mute = {reason = "a test", until = 1970-01-01T00:00:12Z}\n'
    events = [dns_query("a.evil.example NULL", process=CURL, at=at) for at in (10, 11, 12, 13)]
    assert passed(DnsRareType, text, events) == ([12.0], 1)


def test_a_reload_changes_what_is_suppressed():
    """A signature that stays at a reload keeps the events apart by the settings of now, and what it has reported."""
    engine, found = started(DnsRareType, ONLY)
    engine.on_event(dns_query("a.evil.example NULL", process=ALLOWED, at=1))
    engine.adopt(engine.prepare([DnsRareType], settings(DnsRareType, "only.users = [1000]\n")))
    for user, at in ((WATCHED, 2), (ALLOWED, 3), (WATCHED, 4)):
        engine.on_event(dns_query("a.evil.example NULL", process=user, at=at))
    assert [finding.event.timestamp for finding in found] == [3_000_000_000]
