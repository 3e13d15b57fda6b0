"""The events that a run shows: `--events` names events and signatures."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import msgspec

from dnstrail.errors import SettingsError
from dnstrail.events import DNS_ANSWER_CONFLICT, NAMES, NET_PACKET_DNS


class Selection(msgspec.Struct, frozen=True):
    """The events to show, the signatures whose findings to show, and the files of further signatures."""

    events: tuple[str, ...]
    findings: tuple[str, ...]
    paths: tuple[Path, ...]


def select(names: Iterable[str], findings: tuple[str, ...], paths: tuple[Path, ...] = ()) -> Selection:
    """Return the selection that all `--events` flags make together; without any: DNS packets and every finding.

    `findings` are the events that the signatures report, those of the files among them.

    Raises:
        SettingsError: a name is unknown; the text names the nearest one that is known.
    """
    chosen = [name.strip() for given in names for name in given.split(",")] or [
        NET_PACKET_DNS,
        DNS_ANSWER_CONFLICT,
        *findings,
    ]
    for name in chosen:
        if name not in NAMES and name not in findings:
            raise SettingsError(_unknown(name, (*NAMES, *findings)))
    return Selection(
        tuple(name for name in NAMES if name in chosen),
        tuple(name for name in findings if name in chosen),
        paths,
    )


def _unknown(name: str, known: tuple[str, ...]) -> str:
    """Return the error for an unknown name: the nearest known one, and all others."""
    lowered = {one.lower(): one for one in known}
    nearest = get_close_matches(name.lower()[:100], lowered, 1, 0)
    hint = f"did you mean {lowered[nearest[0]]}? " if nearest else ""
    return f"--events: unknown event {name!r:.120}: {hint}known: {', '.join(known)}"
