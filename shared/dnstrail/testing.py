"""Tests of signatures without a bus: pass events to a signature, give it lookups, and read its findings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dns.message
import dns.rrset
import msgspec
import structlog

from dnstrail.captured import Captured, Process
from dnstrail.datasource import DataSources, DnsIdentity
from dnstrail.dns.names import lookup_key, name_text
from dnstrail.errors import DataNotFound, KeyNotSupported
from dnstrail.events import DNS_TRANSACTION, NET_PACKET_DNS, Event
from dnstrail.signature import Finding, Signal, Signature, SignatureContext

_START = ("test", 0)  # the mark of all events
_SECOND = 1_000_000_000


class FakeDns(DnsIdentity):
    """The data source ("tracee", "dns") with the results of a test by key. `asked` holds the keys of the lookups."""

    def __init__(self, results: Mapping[str, dict[str, Any]]) -> None:
        self.results = dict(results)
        self.asked: list[object] = []

    def get(self, key: object, **_about: object) -> dict[str, Any]:
        """Return the result of a key, whatever the time and the connection of the lookup.

        Raises:
            DataNotFound: the test gave no result for the key.
            KeyNotSupported: the key is no string.
        """
        self.asked.append(key)
        if not isinstance(key, str):
            raise KeyNotSupported(key)
        if key not in self.results:
            raise DataNotFound(key)
        return self.results[key]


class SignatureRun:
    """One signature in a test. It receives the events that it selects. Its errors are those of the test."""

    def __init__(
        self,
        cls: type[Signature],
        lookups: Mapping[str, dict[str, Any]] | None = None,
        settings: msgspec.Struct | None = None,
    ) -> None:
        self.findings: list[Finding] = []
        self.dns = FakeDns(lookups or {})
        self.signature = cls()
        if settings is not None:
            vars(self.signature)["settings"] = settings
        self.signature.init(SignatureContext(self.findings.append, DataSources(self.dns), structlog.get_logger()))

    def event(self, event: Event) -> list[Finding]:
        """Pass an event on if the signature selects it; return the findings that it leads to."""
        known = len(self.findings)
        if any(selector.selects(event) for selector in self.signature.selected_events):
            self.signature.on_event(event)
        return self.findings[known:]

    def time(self, at: float) -> list[Finding]:
        """Pass the time on, in epoch seconds; return the findings to which it leads."""
        known = len(self.findings)
        self.signature.on_time(_START[0], round(at * _SECOND))
        return self.findings[known:]

    def signal(self, name: str) -> None:
        """Pass a signal on, such as "source_complete"."""
        self.signature.on_signal(Signal(name))

    def close(self) -> None:
        """Close the signature."""
        self.signature.close()


def dns_response(question: str, *records: str, process: Process | None = None, at: float = 0.0) -> Event:
    """Return the event of a DNS response, at epoch seconds.

    `question` is "name" or "name TYPE". Each record is "owner TTL TYPE data"; all names are absolute.
    """
    name, _, kind = question.partition(" ")
    message = dns.message.make_response(dns.message.make_query(f"{name.rstrip('.')}.", kind or "A"))
    for record in records:
        owner, ttl, rdtype, data = record.split(maxsplit=3)
        message.answer.append(dns.rrset.from_text(f"{owner.rstrip('.')}.", int(ttl), "IN", rdtype, data))
    return event(NET_PACKET_DNS, message.to_wire(), process=process, at=at)


def dns_query(question: str, *, process: Process | None = None, at: float = 0.0) -> Event:
    """Return the event of a DNS query, at epoch seconds. `question` is "name" or "name TYPE"."""
    name, _, kind = question.partition(" ")
    message = dns.message.make_query(f"{name.rstrip('.')}.", kind or "A")
    return event(NET_PACKET_DNS, message.to_wire(), process=process, at=at)


def dns_transaction(
    question: str,
    *records: str,
    outcome: str = "",
    hop: str = "client",
    process: Process | None = None,
    at: float = 0.0,
) -> Event:
    """Return the event of a DNS transaction that ended at epoch seconds. `question` and `records`: see `dns_response`.

    The outcome is "answered" if there are records, else "no_data", unless it is stated.
    """
    name, _, kind = question.partition(" ")
    relations = []
    for record in records:
        owner, ttl, rdtype, target = record.split(maxsplit=3)
        relations.append((lookup_key(owner), rdtype, lookup_key(target), int(ttl)))
    args = {
        "id": f"test/{question}/{at}",
        "hop": hop,
        "name": name_text(name),
        "type": kind or "A",
        "outcome": outcome or ("answered" if records else "no_data"),
        "tries": 1,
        "waited": 1_000_000,
        "relations": relations,
        "matched": True,
    }
    return event(DNS_TRANSACTION, process=process, at=at, args=args | ({"admitted": True} if records else {}))


def event(
    name: str,
    payload: bytes = b"",
    *,
    process: Process | None = None,
    at: float = 0.0,
    args: Mapping[str, Any] | None = None,
) -> Event:
    """Return an event at epoch seconds, with the arguments that the probe captured."""
    return Event(name, Captured(round(at * _SECOND), payload, None, process, dict(args or {})), _START)
