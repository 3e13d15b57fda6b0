"""Compare the findings of the built-in signatures on the corpus with the expected ones (`make detections`).

Signatures that are off run, too; those with a time to learn run without it, so that their figures are upper bounds.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from builders.detection_run import DetectionRun, captured_events, detect
from builders.expected_findings import ATTACK, EXPLAINED, INFORMATION, MISSED
from dnstrail.signature import Signature
from dnstrail_signatures.loading.load import find, load
from dnstrail_signatures.loading.signature_settings import is_on

_HOUR = 3600.0
_AT_ONCE = ("learn", "stable", "warm_up")


def built_in() -> list[type[Signature]]:
    """Return all signatures that ship with dnstrail, without a time to learn."""
    shipped = [cls for cls in load(find()) if cls.__module__.startswith("dnstrail_signatures.builtin.")]
    return [_at_once(cls) for cls in shipped]


def _at_once(cls: type[Signature]) -> type[Signature]:
    fields = {field: 0.0 for field in _AT_ONCE if hasattr(cls.settings, field)}
    if cls.settings is None or not fields:
        return cls
    return type(cls.__name__, (cls,), {"settings": msgspec.structs.replace(cls.settings, **fields)})


def captures(corpus: Path) -> list[Path]:
    """Return the captures of the corpus."""
    return [*sorted((corpus / "captures").iterdir()), corpus / "tracee-dnsperf.pcap"]


def show_attacks(found: dict[str, DetectionRun]) -> int:
    """Print the findings of the labelled captures; return the number of those that differ from the expected ones."""
    table, wrong = Table(title="Labelled captures", title_justify="left", box=None, pad_edge=False), 0
    for column in ("capture", "signature", "fired", "expected", ""):
        table.add_column(column)
    for capture, expected in ATTACK.items():
        fired, wanted = Counter(_without_new_domains(found[capture].names())), Counter(expected)
        for name in sorted(fired | wanted) or [""]:
            differs = fired[name] != wanted[name]
            wrong += differs
            remark = "WRONG" if differs else MISSED.get(capture, "")
            table.add_row(capture, name, str(fired[name]), str(wanted[name]), remark)
    Console(width=160).print(table)
    return wrong


def _without_new_domains(names: list[str]) -> list[str]:
    """Return the findings without new domains: every first answer of a capture is one."""
    return [name for name in names if name != "DNS_NEW_DOMAIN"]


def show_ordinary(found: dict[str, DetectionRun], classes: list[type[Signature]]) -> int:
    """Print the findings on ordinary captures for an hour of traffic; return the number that nothing explains."""
    ordinary = {capture: run for capture, run in found.items() if capture not in ATTACK}
    hours = sum(run.seconds for run in ordinary.values()) / _HOUR
    title = f"\nOrdinary captures: {len(ordinary)} of them, {hours:.2f} hours"
    table, wrong = Table(title=title, title_justify="left", box=None, pad_edge=False), 0
    for column in ("signature", "default", "findings", "explained", "false positives/h"):
        table.add_column(column)
    for cls in sorted(classes, key=lambda cls: (not is_on(cls), cls.metadata.event_name)):
        name = cls.metadata.event_name
        by_capture = {capture: run.names().count(name) for capture, run in ordinary.items()}
        fired = sum(by_capture.values())
        explained = sum(count for capture, count in by_capture.items() if (name, capture) in EXPLAINED)
        wrong += 0 if name in INFORMATION else fired - explained
        state = "on" if is_on(cls) else "off"
        table.add_row(name, state, str(fired), str(explained), f"{(fired - explained) / (hours or 1):.1f}")
    Console(width=160).print(table)
    for (name, capture), reason in EXPLAINED.items():
        print(f"{name} on {capture}: {reason}")
    print("DNS_FIRST_DOMAIN and DNS_FOREIGN_RESOLVER need processes, which no capture file has: they have no figures")
    return wrong


def main() -> int:
    """Run and compare; return 1 if a finding is missing, or one is too many."""
    if not os.environ.get("DNSTRAIL_CORPUS"):
        print("detections: DNSTRAIL_CORPUS names no folder of captures; nothing to compare")
        return 0
    classes = built_in()
    corpus = Path(os.environ["DNSTRAIL_CORPUS"])
    found = {path.name: detect(captured_events(path), classes) for path in captures(corpus)}
    wrong = show_attacks(found) + show_ordinary(found, classes)
    errors = sum(run.errors for run in found.values())
    print(f"\n{wrong} findings differ from the expected ones; {errors} errors")
    return 1 if wrong or errors else 0


if __name__ == "__main__":
    sys.exit(main())
