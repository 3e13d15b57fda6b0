"""Names on a watch list: reports an answer that leads to one, asked for or hidden behind an alias."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import dns.rdatatype

from dnstrail.datasource import DataSource
from dnstrail.errors import DataNotFound, SettingsError
from dnstrail.events import NET_PACKET_DNS, Event
from dnstrail.names import lookup_key
from dnstrail.signature import EventSelector, Signature, SignatureContext, SignatureMetadata

WATCH_LIST = "DNSTRAIL_WATCH_LIST"
_DEFAULT = Path(__file__).with_name("watch_list.txt")


class WatchedName(Signature):
    """Reports the addresses of a watched name, or of any name below one, as the cache knows them.

    The list is a file of one name a line (`#` starts a comment); DNSTRAIL_WATCH_LIST names another one.
    """

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-1",
        version="1",
        name="Watched name resolved",
        event_name="WATCHED_NAME",
        description="A name on the watch list was resolved, directly or through an alias.",
        tags=("dns",),
        properties={
            "Severity": 2,
            "Category": "command-and-control",
            "Technique": "Application Layer Protocol: DNS",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (EventSelector("tracee", NET_PACKET_DNS, "*"),)

    def init(self, ctx: SignatureContext) -> None:
        """Read the list and find the data source."""
        super().init(ctx)
        dns = ctx.get_data_source("tracee", "dns")
        if dns is None:
            raise SettingsError("data source tracee/dns is not registered")
        self.dns: DataSource = dns
        self.watched = read_watch_list(Path(os.environ.get(WATCH_LIST) or _DEFAULT))

    def on_event(self, event: Event) -> None:
        """Look at every answer for a watched name."""
        if event.dns is None or not event.dns.question or not event.dns.answer:
            return
        question = event.dns.question[0].name
        aliases = [
            rdata.to_text() for rrset in event.dns.answer if rrset.rdtype == dns.rdatatype.CNAME for rdata in rrset
        ]
        watched = next(filter(None, map(self._match, [question.to_text(), *aliases])), None)
        if watched is None:
            return
        try:
            found = self.dns.get(question.to_text())
        except DataNotFound:
            return
        self.report(event, watched_name=watched, **found)

    def _match(self, text: str) -> str | None:
        """The watched name at or above a name."""
        name = lookup_key(text) or ""
        while name:
            if name in self.watched:
                return name
            name = name.partition(".")[2]
        return None


def read_watch_list(path: Path) -> frozenset[str]:
    """The names in a watch list.

    Raises:
        SettingsError: the file cannot be read, or a line is no name.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"watch list {path}: {error}") from error
    names: set[str] = set()
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        name = lookup_key(text)
        if text and name is None:
            raise SettingsError(f"watch list {path}, line {number}: {text!r} is no name")
        names.update([name] if name else [])
    return frozenset(names)
