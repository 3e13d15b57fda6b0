"""Names on a watch list: reports an answer that leads to one, asked for or hidden behind an alias."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import dns.message
import dns.name
import dns.rdatatype
from dns.rdtypes.ANY.CNAME import CNAME

from dnstrail.datasource import DataSource
from dnstrail.dns.names import lookup_key
from dnstrail.errors import DataNotFound, SettingsError
from dnstrail.events import NET_PACKET_DNS, Event
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
        source = ctx.get_data_source("tracee", "dns")
        if source is None:
            raise SettingsError("data source tracee/dns is not registered")
        self.dns: DataSource = source
        self.watched = read_watch_list(Path(os.environ.get(WATCH_LIST) or _DEFAULT))

    def on_event(self, event: Event) -> None:
        """Look at every answer for a watched name."""
        if event.dns is None or not event.dns.question or not event.dns.answer:
            return
        names = [event.dns.question[0].name]
        for name in names:  # it grows by the aliases of each
            names += [alias for alias in _aliases(event.dns, name) if alias not in names]
        options = next(filter(None, map(self._match, names)), None)
        if options is None:
            return
        try:
            found = self.dns.get(names[0].to_text())
        except DataNotFound:
            return
        self.report(event, watched_name=options, **found)

    def _match(self, name: dns.name.Name) -> str | None:
        """The watched name at or above a name."""
        while name != dns.name.root:
            key = lookup_key(name.to_text())
            if key in self.watched:
                return key
            name = name.parent()
        return None


def _aliases(message: dns.message.Message, name: dns.name.Name) -> list[dns.name.Name]:
    return [
        rdata.target
        for rrset in message.answer
        if rrset.name == name and rrset.rdtype == dns.rdatatype.CNAME
        for rdata in rrset
        if isinstance(rdata, CNAME)
    ]


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
