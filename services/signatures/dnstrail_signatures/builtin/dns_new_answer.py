"""A new answer for an old name: after a long time in the same places, a name leads elsewhere.

Sees: a name that moves to another network (/16 of IPv4, /32 of IPv6) or to an alias below another registered domain, as
after a hijack of its zone, a takeover of a forgotten alias, or forged answers.
Cannot see: a move within a network or a provider, names without public addresses, and names that another worker of the
group saw before (run it with `--group none`).
False positives: a change of the provider, and of the addresses of a provider that no alias names.
MITRE: T1584.001.
Settings: `enabled`, since it is off; a name is old once it had no new place for `stable` seconds; a name with `places`
places is left out, since it changes them all the time; names and places are read from `file` at the start, and written
there at the end; `names` bounds the state.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address, ip_network
from itertools import islice
from typing import Any, ClassVar, Final

import msgspec

from dnstrail.dns.rdata import AAAA, CNAME, A
from dnstrail.events import ANSWERED, NET_PACKET_DNS, Event
from dnstrail.events.event import MOST_ADDRESSES
from dnstrail.registered_domain import registered_domain
from dnstrail.signature import EventSelector, Signature, SignatureContext, SignatureMetadata
from dnstrail_signatures.detection.bounded_state import BoundedTable
from dnstrail_signatures.detection.known_file import KnownFile
from dnstrail_signatures.detection.setting_types import Count, Seconds
from dnstrail_signatures.detection.stateful_signature import StatefulSignature
from dnstrail_signatures.detection.subjects import is_public

_SECOND: Final = 1_000_000_000
_PREFIX: Final = {4: 16, 6: 32}  # bits, about those that one provider has, by version of IP


class DnsNewAnswerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time after which a name is old, and the file that outlives a run."""

    enabled: bool = False
    stable: Seconds = 604800.0
    places: Count = 4
    file: str = ""
    names: Count = 100_000


class Known(msgspec.Struct, frozen=True, array_like=True):
    """The places of a name and type, and the time of the last new one."""

    name: str
    type: int
    changed: int
    places: tuple[str, ...]


class DnsNewAnswer(StatefulSignature):
    """Reports the first answer that leads an old name to a new place."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-16",
        version="1",
        name="New answer for an old name",
        event_name="DNS_NEW_ANSWER",
        event_id=6016,
        description="A name leads to another network or alias after a long time without a change.",
        tags=("dns",),
        properties={
            "Severity": 1,
            "Category": "resource-development",
            "Technique": "Domains",
            "id": "attack-pattern--f9cc4d06-775f-4ee1-b401-4e2cc0da30ba",
            "external_id": "T1584.001",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (
        EventSelector(name=NET_PACKET_DNS, types=(A, AAAA), outcomes=(ANSWERED,)),
    )
    settings: ClassVar[DnsNewAnswerSettings] = DnsNewAnswerSettings()

    def init(self, ctx: SignatureContext) -> None:
        """Read the names of an earlier run.

        Raises:
            SettingsError: The file cannot be read.
        """
        super().init(ctx)
        self._file = KnownFile(self.settings.file, "known names")
        self._nanoseconds = round(self.settings.stable * _SECOND)
        self.known: BoundedTable[tuple[str, int], Known] = BoundedTable(self.settings.names)
        for known in self._file.read(msgspec.json.Decoder(Known).decode_lines):
            self._note(known)

    def take_over(self, former: Signature) -> None:
        """Go on with all names and their places: the file has those of the run before alone."""
        if isinstance(former, DnsNewAnswer):
            for known in former.known.values():
                self._note(known)

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return the names and their places."""
        return (self.known,)

    def on_event(self, event: Event) -> None:
        """Compare the places of an answer with those of earlier answers."""
        question = event.answered
        if question is None or not event.answers:
            return
        places = _places(event, question.name)
        if not places:
            return
        known = self.known.get((question.name, question.type))
        before = known.places if known else ()
        new = tuple(place for place in places if place not in before)
        if not new:
            return
        if known and event.timestamp - known.changed >= self._nanoseconds and len(before) < self.settings.places:
            self.report(event, name=question.name, before=[*before], now=[*new])
        self._note(Known(question.name, question.type, event.timestamp, (*before, *new)))

    def close(self) -> None:
        """Write the names for the next run."""
        self._file.write(msgspec.json.encode(self.known.get(key)) for key in [*self.known])

    def _note(self, known: Known) -> None:
        places = known.places[: self.settings.places]
        self.known.put((known.name, known.type), msgspec.structs.replace(known, places=places))


def _places(event: Event, name: str) -> tuple[str, ...]:
    """Return where an answer leads: the registered domain of a foreign alias, else the networks of its addresses.

    Only records to which the name leads count: the sender of a forged answer may add any others.
    """
    aliases = {record.owner: str(record.target) for record in reversed(event.answers) if record.type == CNAME}
    end, names = name, {name}
    while end in aliases:
        names.add(end := aliases.pop(end))
    own, provider = registered_domain(name), registered_domain(end)
    found = [provider] if provider not in ("", own) else []
    records = (record for record in event.answers if record.type in (A, AAAA) and record.owner in names)
    addresses = (str(record.target) for record in records if registered_domain(record.owner) in ("", own))
    found += [_network(address) for address in islice(addresses, MOST_ADDRESSES) if is_public(address)]
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=16384)
def _network(address: str) -> str:
    return str(ip_network((address, _PREFIX[ip_address(address).version]), strict=False))
