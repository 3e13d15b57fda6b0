"""The events that a run shows: `--events` names events and signatures."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

import msgspec

from dnstrail.errors import SettingsError
from dnstrail.events import DNS_ANSWER_CONFLICT, NAMES, NET_PACKET_DNS


class Selection(msgspec.Struct, frozen=True):
    """The events to show, and the signatures whose findings to show."""

    events: tuple[str, ...]
    findings: tuple[str, ...]


def select(names: Iterable[str], findings: tuple[str, ...], enabled: tuple[str, ...]) -> Selection:
    """Return the selection of all `--events` flags; without any: DNS packets, answer conflicts and enabled findings.

    `findings` are the events that the signatures report, those of the files among them. `enabled` are those of the
    signatures that run although no user names them.

    Raises:
        SettingsError: a name is unknown; the text lists the known names.
    """
    chosen = [name.strip() for given in names for name in given.split(",")] or [
        NET_PACKET_DNS,
        DNS_ANSWER_CONFLICT,
        *enabled,
    ]
    for name in chosen:
        if name not in NAMES and name not in findings:
            raise SettingsError(_unknown(name, (*NAMES, *findings)))
    return Selection(
        tuple(name for name in NAMES if name in chosen),
        tuple(name for name in findings if name in chosen),
    )


def _unknown(name: str, known: tuple[str, ...]) -> str:
    """Return the error for an unknown name: the nearest known one, and all others."""
    lowered = {one.lower(): one for one in known}
    nearest = get_close_matches(name.lower()[:100], lowered, 1)
    hint = f"did you mean {lowered[nearest[0]]}? " if nearest else ""
    return f"--events: unknown event {name!r:.120}: {hint}known: {', '.join(known)}"
