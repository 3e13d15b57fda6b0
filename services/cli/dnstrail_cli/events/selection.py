"""The events that a run shows: `--events` names events and signatures."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import msgspec

from dnstrail.errors import SettingsError
from dnstrail.events import DNS_ANSWER_CONFLICT, NAMES, NET_PACKET_DNS
from dnstrail_signatures.load import load


class Selection(msgspec.Struct, frozen=True):
    """The events to show, and the signatures whose findings to show."""

    events: tuple[str, ...]
    findings: tuple[str, ...]


def known_names() -> tuple[str, ...]:
    """Return the names of all events and of the installed signatures."""
    return (*NAMES, *_findings(()))


def select(names: Iterable[str], paths: Iterable[Path]) -> Selection:
    """Return the selection of all `--events` flags; without any: DNS packets, answer conflicts and every finding.

    `paths` are files and folders of further signatures.

    Raises:
        SettingsError: a name is unknown; the text lists the known names.
    """
    findings = _findings(paths)
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
    )


def _findings(paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(cls.metadata.event_name for cls in load(paths))


def _unknown(name: str, known: tuple[str, ...]) -> str:
    """Return the error for an unknown name: the nearest known one, and all others."""
    lowered = {one.lower(): one for one in known}
    nearest = get_close_matches(name.lower()[:100], lowered, 1)
    hint = f"did you mean {lowered[nearest[0]]}? " if nearest else ""
    return f"--events: unknown event {name!r:.120}: {hint}known: {', '.join(known)}"
