"""The ids of events: tracee's own, those of dnstrail's further events, and one for each signature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from dnstrail.events import EVENTS

BUILTIN_IDS = MappingProxyType(
    {
        "DNS_DATA_SOURCE": 6000,
        "WATCHED_NAME": 6001,
        "DNS_TUNNEL": 6002,
        "DNS_RARE_TYPE": 6003,
        "DNS_TXT_CODE": 6004,
        "DNS_TUNNEL_TOOL": 6005,
        "DNS_REBINDING": 6006,
        "DNS_GENERATED_NAME": 6007,
        "DNS_CHUNKS": 6008,
        "DNS_REVERSE_SWEEP": 6009,
        "DNS_FOREIGN_RESOLVER": 6010,
        "ENCRYPTED_DNS": 6011,
        "DNS_NEW_DOMAIN": 6012,
        "DNS_FIRST_DOMAIN": 6013,
        "CONNECTION_WITHOUT_DNS": 6014,
        "STALE_ADDRESS": 6015,
        "DNS_NEW_ANSWER": 6016,
    }
)
FIRST_OTHER = 6100  # the ids before it are left to signatures that ship with dnstrail


def signature_ids(event_names: Iterable[str]) -> Mapping[str, int]:
    """Return the event ids of signatures by the names of their events.

    A signature that ships with dnstrail has a fixed id. All others are numbered from FIRST_OTHER up in the order of
    their event names. Two workers that load the same signatures therefore agree, whatever the order of loading, and
    whichever of them they run. Two signatures that report the same event share its id.
    """
    others = sorted({*event_names} - BUILTIN_IDS.keys())
    return MappingProxyType(
        {**BUILTIN_IDS, **dict(zip(others, range(FIRST_OTHER, FIRST_OTHER + len(others)), strict=True))}
    )


def event_id(name: str, signatures: Mapping[str, int]) -> int:
    """Return the id of an event, or 0 if the name is known neither here nor among these signatures."""
    known = EVENTS.get(name)
    return known.id if known else signatures.get(name, 0)
