"""The table of cases in docs/reference/events.md, and a run on the real kernel that is compared with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from live.pipelines import Run, pipeline
from live.processes import wait_until

_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "events.md"
_ROW = re.compile(r"^\| (.+) \| (`.+`) \|$", re.MULTILINE)
Row = dict[str, Any]

# Asks a server for a name with one id and one socket; after a pause it asks again, and waits for the answer.
ASK = """
import socket, sys, time
name, server, wait = sys.argv[1:]
message = bytes.fromhex("abcd01000001000000000000") + b"".join(
    bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\\0\\0\\1\\0\\1"
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end.sendto(message, (server, 53))
time.sleep(float(wait))  # a retry is another packet: copies of one arrive within 100 ms
if float(wait):
    end.sendto(message, (server, 53))
    print("sent", flush=True)
    end.recv(512)
"""
# Sends an answer (hex) from port 53 of an address.
ANSWER = """
import socket, sys
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end.bind((sys.argv[1], 53))
end.sendto(bytes.fromhex(sys.argv[4]), (sys.argv[2], int(sys.argv[3])))
"""
_SETTLED = 1_500_000_000  # ns; a response waits a second for its question


@cache
def documented() -> dict[str, list[str]]:
    """Return the transactions that the page states, by case."""
    section = _PAGE.read_text().partition("| case | transactions |")[2].partition("\n\n")[0]
    return {case: re.findall("`(.+?)`", stated) for case, stated in _ROW.findall(section)}


class Cases:
    """The transactions of a run, compared with the documented ones."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._done: list[tuple[str, tuple[str, ...]]] = []

    def named(self, *names: str) -> list[Row]:
        """Return the transactions of some names so far: arguments, and `at`, `pid` and `comm` of their events."""
        rows = []
        for event in self._run.named("dns_transaction"):
            args = {one["name"]: one["value"] for one in event["args"]}
            if args["name"] in names:
                rows.append({"pid": event["processId"], "comm": event["processName"], "at": event["timestamp"], **args})
        return rows

    def check(self, case: str, *names: str) -> list[Row]:
        """Wait for the documented transactions of some names, and return them in the order of asking."""
        self._done.append((case, names))
        wait_until(lambda: len(self.named(*names)) >= len(documented()[case]), case)
        return self._compared(case, *names)

    def check_again(self, ask: Callable[[str], object]) -> list[str]:
        """Check later that no case has a further transaction, and return the cases. `ask` asks for a name."""
        marker, begin = "marker.google.com", 0

        def is_later() -> bool:
            nonlocal begin
            ask(marker)
            last = max((row["at"] for row in self.named(marker)), default=0)
            begin = begin or last
            return last > begin + _SETTLED

        wait_until(is_later, "a later question")
        for case, names in self._done:
            self._compared(case, *names)
        return [case for case, _ in self._done]

    def _compared(self, case: str, *names: str) -> list[Row]:
        rows = sorted(self.named(*names), key=lambda row: row["at"] - row.get("waited", 0))
        hops = {row["id"]: row["hop"] for row in rows}
        assert [_stated(row, hops) for row in rows] == documented()[case], rows
        return rows


def _stated(row: Row, hops: dict[str, str]) -> str:
    """Return a transaction in the words of the page."""
    words = [row["hop"], *([f"for {hops[row['for']]}"] if "for" in row else []), row["type"], row["outcome"]]
    if row.get("transport") == "tcp":
        words.append("over TCP")
    if row["tries"] > 1:
        words.append(f"in {row['tries']} tries")
    return " ".join(words if "dst" in row else [*words, "without packets"])


@contextmanager
def cases() -> Iterator[Cases]:
    """Run the pipeline on the real kernel, which prints all transactions."""
    line = "--capture ebpf:getaddrinfo --output json --events dns_transaction"
    with pipeline(*line.split()) as run:
        yield Cases(run)
