"""A watch list of names: one of them, or a name below one, is asked for, or an answer leads to it through an alias.

Sees: every listed name that is asked for, whatever the answer, once for a lookup: the questions of one process, or of
one client without a process, for one name within five seconds, and their retries. A type that was answered before
begins a lookup. The finding comes with the first answer that has data, or with NXDOMAIN, else with the last answer;
after five seconds it comes without one. `outcome` is `answered`, `no data`, `NXDOMAIN`, `refused`, `failed`,
`truncated`, `rcode N`, or `pending`: no answer within five seconds.
Cannot see: names that are asked through encrypted DNS, and aliases of them that are not answered.
False positives: those of the list.
MITRE: T1071.004.
Settings: `file` holds one name on each line, and `#` starts a comment; "" selects the file in DNSTRAIL_WATCH_LIST, else
the list that ships with dnstrail. With `--state` the last good list is kept there, and applies if a restart finds none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from dnstrail.datasource import DataSource
from dnstrail.dns import ResourceRecord
from dnstrail.dns.names import lookup_key, reverse_address
from dnstrail.dns.rdata import CNAME
from dnstrail.errors import DataNotFound, DataSourceMissing, SettingsError, Unavailable
from dnstrail.events import NET_PACKET_DNS, Event, Question
from dnstrail.regular_file import read_regular
from dnstrail.signature import EventSelector, Finding, Signal, SignatureContext, SignatureMetadata
from dnstrail_signatures.detection.bounded_state import BoundedTable, StatefulSignature
from dnstrail_signatures.detection.known_file import KnownFile
from dnstrail_signatures.detection.open_lookups import (
    ANSWERED,
    NXDOMAIN,
    TRUNCATED,
    OpenLookup,
    OpenLookups,
    outcome_of,
)

#: variable: file of watched names for `WATCHED_NAME` (default: a bundled list for the demo)
WATCH_LIST = "DNSTRAIL_WATCH_LIST"
MOST_BYTES = 64 << 20  #: bytes of a watch list -> it is refused
_RELOAD = "reload"
_KEPT = "watch_list"  # the file of the last good list, in the folder of `--state`
_SHOWN = 100  # characters of a line that is no name
_first_label = re.compile(r"(?:[^.\\]|\\.)*\.?", re.DOTALL).match  # a backslash escapes a dot within a label


class WatchedNameSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The list."""

    file: str = ""


class WatchedName(StatefulSignature):
    """Reports the lookup of a watched name, or of a name below one, once, with the addresses that the cache holds."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-1",
        version="1",
        name="Watched name asked",
        event_name="WATCHED_NAME",
        event_id=6001,
        description="A name on the watch list was asked for, or an answer led to it through an alias.",
        tags=("dns",),
        properties={
            "Severity": 2,
            "Category": "command-and-control",
            "Technique": "DNS",
            "id": "attack-pattern--1996eef1-ced3-4d7f-bf94-33298cabbf72",
            "external_id": "T1071.004",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (
        EventSelector(source="tracee", name=NET_PACKET_DNS, origin="*"),
    )
    settings: ClassVar[WatchedNameSettings] = WatchedNameSettings()

    def init(self, ctx: SignatureContext) -> None:
        """Read the list and find the data source.

        Raises:
            DataSourceMissing: This run has no data source tracee/dns.
            SettingsError: The list cannot be read or is empty, and none is kept.
        """
        super().init(ctx)
        source = ctx.get_data_source("tracee", "dns")
        if source is None:
            raise DataSourceMissing("tracee", "dns")
        self.dns: DataSource = source
        self._lookups = OpenLookups(self._report_pending)
        kept = str(ctx.state / _KEPT) if ctx.state is not None and self._own_list else ""
        self._kept = KnownFile(kept, "kept watch list")
        try:
            self.watched = self._read()
        except SettingsError as error:
            self.watched = frozenset(self._kept.read(self._names_kept))
            if not self.watched:
                raise
            self.fault = f"{error}; the list kept in {ctx.state} applies"

    def reload(self) -> None:
        """Read the list again. The old one stays where the new one is wrong.

        Raises:
            SettingsError: The list cannot be read, is empty, or cannot be kept.
        """
        self.watched = self._read()

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return the lookups."""
        return (self._lookups.table,)

    def on_event(self, event: Event) -> None:
        """Check a question, and all aliases in an answer, against the list."""
        if event.time is not None:
            self._lookups.pass_time(*event.time)
        if event.asked is not None:
            watched = self._find((event.asked.name,))
            if watched is not None:
                self._lookups.ask(event, event.asked, watched)
        elif event.answered is not None:
            lookup = self._lookups.of(event, event.answered)
            if lookup is not None and lookup.awaits(event, event.answered):
                self._end(lookup, event, event.answered)
            elif event.answers and (lookup is None or not lookup.holds(event, event.answered)):
                self._on_answer_alone(event, event.answered)

    def on_time(self, start: str, now: int) -> None:
        """Report the lookups that have no answer after five seconds."""
        self._lookups.pass_time(start, now)

    def close(self) -> None:
        """Report the lookups that have no answer yet."""
        self._lookups.close()

    def _end(self, lookup: OpenLookup, event: Event, question: Question) -> None:
        """End a query of a lookup by its answer. An answer that the cache did not admit ends nothing."""
        found, outcome = _nothing(question.name), outcome_of(event, question)
        if event.answers and not lookup.reported:
            try:
                found = self.dns.get(question.name)
            except DataNotFound:
                return
            except Unavailable:
                lookup.outcome = outcome
                raise
        if outcome == TRUNCATED:  # the client asks again over TCP
            lookup.outcome = outcome
            return
        lookup.end(event, question)
        if not lookup.reported and (outcome in (ANSWERED, NXDOMAIN) or not lookup.queries):
            lookup.reported = True
            self._report_lookup(lookup, event, outcome, found)

    def _on_answer_alone(self, event: Event, question: Question) -> None:
        """Report an answer whose question was not seen, or whose alias leads to a watched name."""
        watched = self._find(_reached(question.name, event.answers))
        if watched is None:
            return
        try:
            found = self.dns.get(question.name)
        except DataNotFound:
            return
        lookup = self._lookups.answer(event, question, watched)
        self._report_lookup(lookup, event, outcome_of(event, question), found)

    def _report_pending(self, lookup: OpenLookup) -> None:
        question = lookup.event.question
        self._report_lookup(lookup, lookup.event, lookup.outcome, _nothing(question.name if question else ""))

    def _report_lookup(self, lookup: OpenLookup, event: Event, outcome: str, found: dict[str, Any]) -> None:
        """Report a lookup. The id of the finding follows from its first event."""
        data = {"watched_name": lookup.watched, **found, "outcome": outcome}
        self.ctx.callback(Finding(data, event, self.metadata, begun_by=lookup.event))

    def on_signal(self, signal: Signal) -> None:
        """Read the list again after a reload of the worker."""
        if signal.name == _RELOAD:
            self.reload()

    @property
    def _own_list(self) -> str:
        """The path of the list, "" for the one that ships with dnstrail."""
        return self.settings.file or os.environ.get(WATCH_LIST, "")

    def _read(self) -> frozenset[str]:
        if not self._own_list:
            return _SHIPPED
        place = f"file of [signature.{self.metadata.event_name}]" if self.settings.file else WATCH_LIST
        try:
            watched = read_watch_list(Path(self._own_list))
            self._kept.write([_heading(self._own_list), *(name.encode() for name in watched)])
        except SettingsError as error:
            raise SettingsError(f"{error}: correct this list, or name another one ({place})") from error
        except OSError as error:
            raise SettingsError(f"watch list {self._own_list} cannot be kept: {error}") from error
        return watched

    def _names_kept(self, content: bytes) -> list[str]:
        """Return the names that were kept of the same file; none if they are those of another one."""
        heading, _, names = content.partition(b"\n")
        return names.decode().split("\n")[:-1] if heading == _heading(self._own_list) else []

    def _find(self, names: Iterable[str]) -> str | None:
        """Return the first watched name that is one of these names or above one, or None."""
        checked: set[str] = set()
        for name in names:
            address = reverse_address(name)
            if address in self.watched:
                return address
            key = name
            while key and key not in checked:
                if key in self.watched:
                    return key
                checked.add(key)
                key = _parent(key)
        return None


def _nothing(name: str) -> dict[str, Any]:
    """Return the result of a lookup of a name without an answer."""
    return {"ip_addresses": [], "dns_queries": [name], "dns_root": name}


def _reached(name: str, answers: Iterable[ResourceRecord]) -> dict[str, None]:
    """Return a name and the names that its aliases lead to, in that order."""
    aliases: dict[str, list[str]] = {}
    for record in answers:
        if record.type == CNAME and isinstance(record.target, str):
            aliases.setdefault(record.owner, []).append(record.target)
    reached, names = {name: None}, [name]
    for one in names:  # grows by the aliases of each name
        new = dict.fromkeys(alias for alias in aliases.pop(one, ()) if alias not in reached)
        reached |= new
        names += new
    return reached


def _parent(name: str) -> str:
    """Return the name above a name, "" above the last label."""
    if "\\" not in name:
        return name.partition(".")[2]
    label = _first_label(name)
    return name[label.end() :] if label else ""


def read_watch_list(path: Path) -> frozenset[str]:
    """Return the names in a watch list.

    Raises:
        SettingsError: The file cannot be read, a line is not a name, or no line is.
    """
    try:
        content = BytesIO(read_regular(path, MOST_BYTES))
        names = frozenset(_names(path, TextIOWrapper(content, "utf-8")))
    except PermissionError as error:
        raise SettingsError(f"watch list {path}: user {os.geteuid()} of this worker may not read it") from error
    except OSError as error:
        raise SettingsError(f"watch list {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"watch list {path}: {error}") from error
    if not names:
        raise SettingsError(f"watch list {path}: it has no name")
    return names


def _heading(path: str) -> bytes:
    """Return the first line of a kept list: the file that it was read from."""
    return f"# {path!r}".encode(errors="backslashreplace")


def _names(path: Path, lines: Iterable[str]) -> Iterator[str]:
    """Yield the names in the lines of a watch list."""
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        name = lookup_key(text) if text else None
        if name:
            yield name
        elif text:
            raise SettingsError(f"watch list {path}, line {number}: {text[:_SHOWN]!r} is not a domain name")


_SHIPPED = read_watch_list(Path(__file__).with_name("watch_list.txt"))  # while this file can be read: see load.find
