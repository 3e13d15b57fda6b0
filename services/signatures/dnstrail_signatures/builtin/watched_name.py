"""A watch list of names: reports each answer that leads to one of them, directly or through an alias."""

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
    """Reports the addresses of a watched name, or of a name below one, as the cache holds them.

    The list is a file with one name on each line; `#` starts a comment. The environment variable DNSTRAIL_WATCH_LIST
    names a list other than the one that ships with dnstrail.
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
    selected_events: ClassVar[tuple[EventSelector, ...]] = (
        EventSelector(source="tracee", name=NET_PACKET_DNS, origin="*"),
    )

    def init(self, ctx: SignatureContext) -> None:
        """Read the list and find the data source.

        Raises:
            SettingsError: This run has no data source tracee/dns, or the list cannot be read.
        """
        super().init(ctx)
        source = ctx.get_data_source("tracee", "dns")
        if source is None:
            raise SettingsError("data source tracee/dns is not registered: this run has no cache")
        self.dns: DataSource = source
        self.watched = read_watch_list(Path(os.environ.get(WATCH_LIST) or _DEFAULT))

    def on_event(self, event: Event) -> None:
        """Check the question of an answer, and all aliases of it, against the list."""
        if event.dns is None or not event.dns.question or not event.dns.answer:
            return
        names = [event.dns.question[0].name]
        for name in names:  # grows by the aliases of each name
            names += [alias for alias in _aliases(event.dns, name) if alias not in names]
        watched = next(filter(None, map(self._match, names)), None)
        if watched is None:
            return
        try:
            found = self.dns.get(names[0].to_text())
        except DataNotFound:
            return
        self.report(event, watched_name=watched, **found)

    def _match(self, name: dns.name.Name) -> str | None:
        """Return the watched name that is the name itself or above it, or None."""
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
    """Return the names in a watch list.

    Raises:
        SettingsError: The file cannot be read, or a line is not a name.
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
            raise SettingsError(f"watch list {path}, line {number}: {text!r} is not a domain name")
        names.update([name] if name else [])
    return frozenset(names)
