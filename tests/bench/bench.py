"""Benchmarks of both forms: one line for each figure, one column for each form.

Each section runs in a process of its own, one after the other, with the interpreter of each form.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from figures import Figure, line, median, ratio

ROOT = Path(__file__).parents[2]
_ROUNDS = 5  # with --against

SECTIONS = {  # by the name of the module: the title
    "message_path": "a message, off the bus into the image",
    "decoder": "the decoder alone",
    "longest_step": "the longest step",
    "memory": "memory",
    "lookups": "a lookup, in the process of the cache",
    "round_trips": "a lookup, over the bus",
    "enrich": "a line of `dnstrail enrich`",
    "bus_batches": "an event on the bus",
    "printed_event": "a printed event",
    "facts_bus": "a fact on the bus",
    "groups": "a group of signature workers, processor time",
    "built_ins": "the built-in signatures",
    "watch_rules": "the rules of the settings file",
    "history_store": "the store of the history",
    "web_page": "the page",
    "fleet_sender": "the sender of a fleet",
    "capture_file": "a capture file",
    "live_rate": "live, probe and cache on one core",
    "low_rates": "a pipeline at low rates",
    "costly_flood": "names of others while one owner floods with costly answers",
    "kernel_packet": "a packet in the kernel",
    "getaddrinfo_call": "a call of getaddrinfo",
}
LONG = {
    "growth": "growth from a thousand roots to a million",
    "memory_million": "memory of a million roots",
    "fleet": "the fleet: engine, store and lookups",
    "history_questions": "questions to ten million transactions of the history",
    "run_cost": "a build under dnstrail run",
}  # run on demand alone
SAME = ("web_page", "kernel_packet", "getaddrinfo_call", "run_cost", "fleet")  # both forms run the same code there
LIMIT = 1.15  # of a cost against that of the base, by default


class Form(NamedTuple):
    """A form that is measured: its interpreter, and the checkout whose code it runs ("": the installed one)."""

    python: str
    checkout: str = ""


def main() -> None:
    """Measure the sections that are named, by default all that take seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"of: {', '.join(SECTIONS | LONG)}")
    parser.add_argument("--compiled", type=Path, help="the virtual environment of the compiled form")
    parser.add_argument("--against", metavar="COMMIT", help="compare the pure form with that of this commit")
    parser.add_argument("--rounds", type=int, help="rounds whose median counts (default: 1; with --against 5)")
    parser.add_argument("--limit", type=float, default=LIMIT, help=f"ratio above which a cost fails (default: {LIMIT})")
    options = parser.parse_args()
    if unknown := {*options.sections} - {*SECTIONS, *LONG}:
        parser.error(f"no section {', '.join(unknown)}")
    corpus = os.environ.get("DNSTRAIL_CORPUS")
    capture = str(Path(corpus) / "tracee-dnsperf.pcap") if corpus else "demo"
    sections = options.sections or [*SECTIONS]
    if options.against:
        with _checkout(options.against) as base:
            forms = {options.against: Form(sys.executable, base), "here": Form(sys.executable, str(ROOT))}
            slower = _measure(sections, forms, capture, options.rounds or _ROUNDS, options.limit)
        sys.exit(f"more than {options.limit} times the cost of {options.against}: {', '.join(slower)}" if slower else 0)
    forms = {"pure": Form(sys.executable)}
    if options.compiled and (python := options.compiled / "bin/python").exists():
        forms["compiled"] = Form(str(python))
    _measure(sections, forms, capture, options.rounds or 1)


def _measure(sections: list[str], forms: dict[str, Form], capture: str, rounds: int, limit: float = 0.0) -> list[str]:
    """Print the medians of all rounds, and with a limit the ratio of the second form to the first.

    The rounds of the forms alternate. Return the titles of the costs whose ratio exceeds the limit.
    """
    slower = []
    print(f"{capture}\n{'':<64}{''.join(f'{form:.11}'.rjust(12) for form in (*forms, *(['ratio'] if limit else [])))}")
    for section in sections:
        measured = [*forms.values()][: 1 if section in SAME and not limit else None]
        print({**SECTIONS, **LONG}[section], flush=True)
        results = [[_figures(form, section, capture) for form in measured] for _ in range(rounds)]
        figures = [_medians(of_form) for of_form in zip(*results, strict=True)]
        for title in dict.fromkeys(title for of_form in figures for title in of_form):
            row = [of_form.get(title) for of_form in figures]
            compared = ratio(*row) if limit else None
            print(line(title, [*row, Figure("", compared)] if limit else row), flush=True)
            if compared is not None and compared > limit:
                slower.append(title)
    return slower


def _medians(rounds: Iterable[dict[str, Figure]]) -> dict[str, Figure]:
    by_title: dict[str, list[Figure]] = {}
    for figures in rounds:
        for figure in figures.values():
            by_title.setdefault(figure.title, []).append(figure)
    return {title: median(figures) for title, figures in by_title.items()}


def _figures(form: Form, section: str, capture: str) -> dict[str, Figure]:
    """Measure a section in a process of its own; return its figures by title. An older checkout may not have it."""
    bench = Path(form.checkout) / "tests/bench" if form.checkout else Path(__file__).parent
    if not (bench / f"{section}.py").exists():
        return {}
    paths = [str(path) for path in (Path(form.checkout) / "shared", *Path(form.checkout).glob("services/*"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)} if form.checkout else None
    command = [form.python, str(bench / "section.py"), section, capture]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout
    return {figure.title: figure for figure in (Figure(*json.loads(row)) for row in out.splitlines())}


@contextmanager
def _checkout(commit: str) -> Iterator[str]:
    """Check a commit out into a folder of its own, which is removed afterwards."""
    git = ["git", "-C", str(ROOT), "worktree"]
    with TemporaryDirectory() as folder:
        subprocess.run([*git, "add", "--quiet", "--detach", f"{folder}/base", commit], check=True)
        try:
            yield f"{folder}/base"
        finally:
            subprocess.run([*git, "remove", "--force", f"{folder}/base"], check=True)


if __name__ == "__main__":
    main()
