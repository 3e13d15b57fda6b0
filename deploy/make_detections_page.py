"""Write docs/reference/detections.md from the built-in signatures: metadata, settings, and docstrings.

Usage: make_detections_page.py PATH
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import msgspec

from dnstrail.signature import Signature
from dnstrail_signatures.loading.load import OF_FLEET, find, load
from dnstrail_signatures.loading.signature_settings import is_on

_HEAD = """# Detections

The built-in [signatures](../use/signatures.md), one file each in a folder `builtin/` of `services/`. A signature that
is off runs only where a user names it: `dnstrail signatures --select EVENT`, or `--events EVENT` of the all-in-one run.
Those of the fleet run in [`dnstrail fleet signatures`](../use/fleet.md#signatures). Severity is tracee's: 0
(information) to 3 (high).

A *program* is an executable of a host or container: all its processes together. Without a process, as in a capture
file, it is the address of the client. In a [group](../use/signatures.md#share-the-work) of workers, each of them counts
the processes that it owns: those of one program on a host can have several owners.

dnstrail sends no query of its own: a detection knows only captured traffic.

`make detections` passes a corpus of captures through all of them. It prints the findings beside the expected ones, and
the false positives for an hour of ordinary traffic. It fails where they differ.

| event | default | severity | technique | finding |
|---|---|---|---|---|
"""
_FLEET = "fleet"  # the tag of the signatures of the fleet
_PARTS = ("Sees", "Cannot see", "False positives", "Settings")


def page(classes: list[type[Signature]]) -> str:
    """Return the page: a table of all signatures, and a section for each."""
    ordered = sorted(classes, key=lambda cls: (_FLEET in cls.metadata.tags, not is_on(cls), cls.metadata.event_name))
    return _HEAD + "".join(map(_row, ordered)) + "".join(map(_section, ordered))


def parts(cls: type[Signature]) -> dict[str, str]:
    """Return the first line of the docstring of a signature's file under "", and each further part by its title."""
    text = inspect.getdoc(sys.modules[cls.__module__]) or ""
    first, _, rest = text.partition("\n\n")
    found = re.split(r"^(Sees|Cannot see|False positives|MITRE|Settings): ", rest, flags=re.MULTILINE)
    titled = dict(zip(found[1::2], found[2::2], strict=True))
    return {title: " ".join(part.split()) for title, part in {"": first, **titled}.items()}


def settings(cls: type[Signature]) -> dict[str, object]:
    """Return the settings of a signature with their defaults."""
    return msgspec.structs.asdict(cls.settings) if cls.settings is not None else {}


def _row(cls: type[Signature]) -> str:
    data, properties = cls.metadata, cls.metadata.properties
    cells = (
        f"[`{data.event_name}`](#{data.event_name.lower()})",
        "fleet" if _FLEET in data.tags else "on" if is_on(cls) else "off",
        str(properties.get("Severity", "")),
        properties.get("external_id", ""),
        data.description,
    )
    return f"| {' | '.join(cells)} |\n"


def _section(cls: type[Signature]) -> str:
    own = parts(cls)
    lines = [f"\n## {cls.metadata.event_name}\n", f"{own['']}\n"]
    lines += [f"* {title}: {own[title]}" for title in _PARTS]
    lines += ["", *_settings(cls)] if settings(cls) else []
    return "\n".join(lines).rstrip("\n") + "\n"


def _settings(cls: type[Signature]) -> list[str]:
    rows = [f"| `{name}` | {_value(value)} |" for name, value in settings(cls).items()]
    return ["| setting | default |", "|---|---|", *rows]


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(f"`{one}`" for one in value) or "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}" if isinstance(value, float) else f'`"{value}"`'


if __name__ == "__main__":
    loaded = [*load(find()), *load(find(group=OF_FLEET))]
    built_in = [cls for cls in loaded if cls.__module__.startswith(("dnstrail_signatures.builtin.", "dnstrail_fleet."))]
    Path(sys.argv[1]).write_text(page(built_in))
