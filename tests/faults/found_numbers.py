"""The findings that the worker of findings wrote to a file, by the number of their name."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

SIGNATURE = """
from dnstrail import DataNotFound, EventSelector, Signature, SignatureMetadata


class Answered(Signature):
    metadata = SignatureMetadata(id="F-1", version="1", name="Answered", event_name="ANSWERED")
    selected_events = (EventSelector(name="net_packet_dns"),)

    def on_event(self, event):
        name = event.question.name if event.question else ""
        if event.answers and name.startswith("n"):
            try:
                self.ctx.get_data_source("tracee", "dns").get(name)
                found = True
            except DataNotFound:
                found = False
            self.report(event, number=int(name[1:].partition(".")[0]), found=found)
"""


class FoundNumbers:
    """The numbers of the findings in a file that grows: for each number its lines, by the id of the finding."""

    def __init__(self, path: Path) -> None:
        self.lines: dict[int, list[str]] = defaultdict(list)
        self.not_found: set[int] = set()
        self._path = path
        self._offset = 0

    def read(self) -> None:
        """Read the lines that are new."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._note(line)

    def block(self, numbers: range, size: int) -> range | None:
        """Return the first block of so many numbers in a row that all have findings, or None."""
        self.read()
        begin = numbers.start
        for number in numbers:
            if number not in self.lines:
                begin = number + 1
            elif number - begin + 1 == size:
                return range(begin, number + 1)
        return None

    def missing(self, numbers: range) -> set[int]:
        """Return the numbers without a finding."""
        self.read()
        return {number for number in numbers if number not in self.lines}

    def twice(self, numbers: range) -> int:
        """Return how many lines repeat a finding."""
        return sum(len(self.lines[number]) - 1 for number in numbers if number in self.lines)

    def several_ids(self, numbers: range) -> set[int]:
        """Return the numbers whose findings have different ids."""
        return {number for number in numbers if len(set(self.lines.get(number, ()))) > 1}

    def _note(self, line: bytes) -> None:
        try:
            finding = json.loads(line)
        except ValueError:  # a worker was killed in the middle of a line
            return
        arguments = {one["name"]: one["value"] for one in finding["args"]}
        self.lines[arguments["number"]].append(finding["findingId"])
        if not arguments["found"]:
            self.not_found.add(arguments["number"])
