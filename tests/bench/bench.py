"""Benchmarks of both forms: one line for each figure, one column for each form.

Each section runs in a process of its own, one after the other, with the interpreter of each form.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from figures import Figure, line

SECTIONS = {  # by the name of the module: the title
    "message_path": "a message, off the bus into the image",
    "decoder": "the decoder alone",
    "longest_step": "the longest step",
    "memory": "memory",
    "lookups": "a lookup, in the process of the cache",
    "round_trips": "a lookup, over the bus",
    "bus_batches": "an event on the bus",
    "printed_event": "a printed event",
    "facts_bus": "a fact on the bus",
    "groups": "a group of signature workers, processor time",
    "built_ins": "the built-in signatures",
    "watch_rules": "the rules of the settings file",
    "history_store": "the store of the history",
    "capture_file": "a capture file",
    "live_rate": "live, probe and cache on one core",
    "costly_flood": "names of others while one owner floods with costly answers",
    "kernel_packet": "a packet in the kernel",
    "getaddrinfo_call": "a call of getaddrinfo",
}
LONG = {
    "growth": "growth from a thousand roots to a million",
    "memory_million": "memory of a million roots",
    "history_questions": "questions to ten million transactions of the history",
    "run_cost": "a build under dnstrail run",
}  # run on demand alone
SAME = ("kernel_packet", "getaddrinfo_call", "run_cost")  # both forms run the same code there


def main() -> None:
    """Measure the sections that are named, by default all that take seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"of: {', '.join(SECTIONS | LONG)}")
    parser.add_argument("--compiled", type=Path, help="the virtual environment of the compiled form")
    options = parser.parse_args()
    if unknown := {*options.sections} - {*SECTIONS, *LONG}:
        parser.error(f"no section {', '.join(unknown)}")
    forms = {"pure": sys.executable}
    if options.compiled and (python := options.compiled / "bin/python").exists():
        forms["compiled"] = str(python)
    corpus = os.environ.get("DNSTRAIL_CORPUS")
    capture = str(Path(corpus) / "tracee-dnsperf.pcap") if corpus else "demo"
    print(f"{capture}\n{'':<64}{''.join(f'{form:>12}' for form in forms)}")
    for section in options.sections or SECTIONS:
        pythons = [*forms.values()][:1] if section in SAME else [*forms.values()]
        print({**SECTIONS, **LONG}[section], flush=True)
        _print([_figures(python, section, capture) for python in pythons])


def _print(forms: list[dict[str, Figure]]) -> None:
    titles = dict.fromkeys(title for figures in forms for title in figures)
    for title in titles:
        print(line(title, [figures.get(title) for figures in forms]), flush=True)


def _figures(python: str, section: str, capture: str) -> dict[str, Figure]:
    """Measure a section in a process of its own; return its figures by title."""
    command = [python, str(Path(__file__).with_name("section.py")), section, capture]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return {figure.title: figure for figure in (Figure(*json.loads(row)) for row in out.splitlines())}


if __name__ == "__main__":
    main()
