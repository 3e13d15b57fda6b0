"""A watch list of names: one of them, or a name below one, is asked for, or an answer leads to it through an alias.

Sees: every listed name that is asked for, whatever the answer, once in five seconds for one asker and name; once more
if the first question had no whole answer, and another type or the question over TCP has one. `outcome` is that of
`dns_transaction`: a name without an answer is reported after 30 seconds, unless a question of this asker and name was
reported in the last 35 seconds. A finding of a rule states its `rule`.
Cannot see: names that are asked through encrypted DNS, and aliases of them that are not answered. `first_seen` of a
rule knows only what this worker saw since its start, or since a change of this rule.
False positives: those of the list, and of the rules.
MITRE: T1071.004.
Settings: `file` holds one name on each line, and `#` starts a comment; "" selects the file in DNSTRAIL_WATCH_LIST, else
the list that ships with dnstrail. A name may begin with `*.`, and a backslash precedes a character that no host name
contains. With `--state` the last good list is kept there, and applies if a restart finds none. `watch` holds the rules
`[[watch]]` of the settings file.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from dnstrail.dns.names import address_text
from dnstrail.errors import DataSourceMissing, SettingsError
from dnstrail.events import ANSWERED, DNS_TRANSACTION, SOURCE, Event
from dnstrail.registered_domain import registered_domain
from dnstrail.signature import EventSelector, Finding, Signal, Signature, SignatureContext, SignatureMetadata
from dnstrail_signatures.detection.bounded_state import BoundedTable, FirstSeen
from dnstrail_signatures.detection.known_file import KnownFile
from dnstrail_signatures.detection.stateful_signature import StatefulSignature
from dnstrail_signatures.detection.subjects import party_of
from dnstrail_signatures.detection.watch_table import WatchTable, read_watch_list
from dnstrail_signatures.loading.watch_rule import TakesRules, WatchRule

#: variable: file of watched names for `WATCHED_NAME` (default: a bundled list for the demo)
WATCH_LIST = "DNSTRAIL_WATCH_LIST"
#: lookups of watched names that were reported -> the one reported longest ago can be reported again: `evicted`
MOST_LOOKUPS = 4096
#: domains by host, container or program that all rules with `first_seen` remember, each an equal part -> the one asked
#: longest ago is new again: `evicted`
MOST_SEEN = 100_000
_ONCE = 5_000_000_000  # ns in which one asker and name are reported once
_UNANSWERED = "unanswered"
_LATE = _ONCE + 30_000_000_000  # the same for a question without an answer, which ends 30 s after it was asked
_RELOAD = "reload"
_KEPT = "watch_list"  # the file of the last good list, in the folder of `--state`
_ALIAS = "CNAME"
_THE_LIST = 1  # the bit of the first rule


class WatchedNameSettings(TakesRules, frozen=True, forbid_unknown_fields=True):
    """The list, and the rules."""

    file: str = ""


class WatchedName(StatefulSignature):
    """Reports the transactions that match the list, or a rule.

    Each rule has a bit: the list has the first one, and rules follow in the order of the settings.
    `reported` holds the lookups that were reported, and `seen` what each rule with `first_seen` has seen.
    """

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-1",
        version="2",
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
    selected_events: ClassVar[tuple[EventSelector, ...]] = (EventSelector(name=DNS_TRANSACTION),)
    settings: ClassVar[WatchedNameSettings] = WatchedNameSettings()

    def init(self, ctx: SignatureContext) -> None:
        """Read the list and the files of the rules.

        Raises:
            DataSourceMissing: This run receives no facts.
            SettingsError: A file cannot be read or is empty; of the list, if none is kept.
        """
        super().init(ctx)
        if not ctx.facts:
            raise DataSourceMissing(SOURCE, "facts")
        self.reported: BoundedTable[Hashable, tuple[int, bool]] = BoundedTable(MOST_LOOKUPS)
        self._rules = {_THE_LIST << place: rule for place, rule in enumerate((_LIST, *self.settings.watch))}
        # The rules that any name matches.
        self._any = sum(bit for bit, rule in self._rules.items() if not rule.has_suffixes)
        first = [rule for rule in self.settings.watch if rule.first_seen]
        self.seen = {rule.name: FirstSeen(MOST_SEEN // len(first), rule.learn) for rule in first}
        kept = str(ctx.state / _KEPT) if ctx.state is not None and self._own_list else ""
        self._kept = KnownFile(kept, "kept watch list")
        try:
            listed = self._read_list()
        except SettingsError as error:
            listed = self._kept.read(self._names_kept)
            if not listed:
                raise
            self.fault = f"{error}; the list kept in {ctx.state} applies"
        self._table = self._table_of(listed)

    def reload(self) -> None:
        """Read the files again. The old names stay where a file is wrong.

        Raises:
            SettingsError: A file cannot be read or is empty, or the list cannot be kept.
        """
        self._table = self._table_of(self._read_list())

    def take_over(self, former: Signature) -> None:
        """Take over what was reported, and what the rules that did not change have seen."""
        if isinstance(former, WatchedName):
            self.reported = former.reported
            for rule in self.settings.watch:
                if rule.first_seen and rule in former.settings.watch:
                    self.seen[rule.name].take_over(former.seen[rule.name])

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return the lookups that were reported, and what the rules have seen."""
        return (self.reported, *(seen.table for seen in self.seen.values()))

    def on_event(self, event: Event) -> None:
        """Check a transaction against all rules: its name and, if the image holds them, its aliases."""
        args = event.captured.args
        found = self._table.of(args["name"]) | self._any
        relations = args["relations"]
        if relations and args.get("admitted"):
            for _, kind, target, _ in relations:
                if kind == _ALIAS:
                    found |= self._table.of(target)
        if found:
            self._match(event, args, found)

    def on_signal(self, signal: Signal) -> None:
        """Read the files again after a reload of the worker."""
        if signal.name == _RELOAD:
            self.reload()

    def _match(self, event: Event, args: Mapping[str, Any], found: int) -> None:
        """Report a transaction by each of these rules that it matches, in their order."""
        due = {
            bit: rule
            for bit, rule in self._rules.items()
            if found & bit
            and rule.matches(event, args)
            and (rule.first_seen is None or self._is_first(event, rule, args["name"]))
            and self._is_due(event, rule, args)
        }
        if due:
            self._report_rules(event, args, due)

    def _is_first(self, event: Event, rule: WatchRule, name: str) -> bool:
        """Return whether a rule sees a domain for the first time on its host, in its container, or of its program."""
        if rule.first_seen == "program":
            place = party_of(event)
        else:
            place = event.host_name if rule.first_seen == "host" else event.container_id
        if rule.first_seen == "container" and not place:
            return False
        return self.seen[rule.name].is_new((place, registered_domain(name) or name), event.timestamp)

    def _is_due(self, event: Event, rule: WatchRule, args: Mapping[str, Any]) -> bool:
        """Return whether a lookup was not reported lately, or not as answered, and is answered now; and note it."""
        flow, process, outcome = event.captured.flow, event.process, args["outcome"]
        answered, once = outcome == ANSWERED, _LATE if outcome == _UNANSWERED else _ONCE
        asker: Hashable = (process.pid, process.start_time) if process.pid else flow and flow.source
        key = self.is_suppressed(event), rule.name, event.host_name, asker, args["name"]
        last = self.reported.get(key)
        if last is not None and abs(event.timestamp - last[0]) < once and (last[1] or not answered):
            return False
        self.reported.put(key, (event.timestamp, answered))
        return True

    def _report_rules(self, event: Event, args: Mapping[str, Any], due: Mapping[int, WatchRule]) -> None:
        name, addresses, names = args["name"], dict[str, None](), {args["name"]: None}
        for _, _, target, _ in args["relations"]:
            (addresses if address_text(target) else names)[target] = None
        aliases = (target for _, kind, target, _ in args["relations"] if kind == _ALIAS)
        watched = self._table.watched((name, *aliases), sum(due))
        found = {
            "ip_addresses": [*addresses],
            "dns_queries": [*names],
            "dns_root": name,
            "outcome": args["outcome"],
        }
        for bit, rule in due.items():
            data, metadata = {"watched_name": watched.get(bit, ""), **found}, self.metadata
            if rule is not _LIST:
                data, metadata = {"rule": rule.name, **data}, replace(metadata, name=rule.name)
            self.ctx.callback(Finding(data, event, metadata))

    @property
    def _own_list(self) -> str:
        """The path of the list, "" for the one that ships with dnstrail."""
        return self.settings.file or os.environ.get(WATCH_LIST, "")

    def _read_list(self) -> list[str]:
        if not self._own_list:
            return _SHIPPED
        place = f"file of [signature.{self.metadata.event_name}]" if self.settings.file else WATCH_LIST
        listed = _names_of(self._own_list, place)
        try:
            self._kept.write([_heading(self._own_list), *(name.encode() for name in listed)])
        except OSError as error:
            raise SettingsError(f"watch list {self._own_list} cannot be kept: {error}") from error
        return listed

    def _names_kept(self, content: bytes) -> list[str]:
        """Return the names that were kept of the same file; none if they are those of another one."""
        heading, _, names = content.partition(b"\n")
        return names.decode().split("\n")[:-1] if heading == _heading(self._own_list) else []

    def _table_of(self, listed: list[str]) -> WatchTable:
        table = WatchTable()
        for bit, rule in self._rules.items():
            table.add(listed if rule is _LIST else _suffixes(rule), bit)
        return table


def _suffixes(rule: WatchRule) -> Iterator[str]:
    """Yield the suffixes of a rule, those of its file included."""
    yield from rule.suffixes
    if rule.file:
        yield from _names_of(rule.file, f"file of the rule {rule.name!r} in [[watch]]")


def _names_of(file: str, place: str) -> list[str]:
    try:
        return read_watch_list(Path(file))
    except SettingsError as error:
        raise SettingsError(f"{error}: correct this list, or name another one ({place})") from error


def _heading(path: str) -> bytes:
    """Return the first line of a kept list: the file that it was read from."""
    return f"# {path!r}".encode(errors="backslashreplace")


_SHIPPED = read_watch_list(Path(__file__).with_name("watch_list.txt"))  # while this file can be read: see load.find
_LIST = WatchRule(name=WATCH_LIST, file=WATCH_LIST)  # the first rule, which `_read_list` reads
