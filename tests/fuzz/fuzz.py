"""Compare the decoder with dnspython, and feed an image, over many odd payloads; stop at a difference."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from fuzz_target import FuzzTarget
from payloads import any_payload, read_corpus

from dnstrail.dns import Message
from model.by_dnspython import decoded, disagreement

A_TURN = 1000  # payloads for one image
CHECKED = 100  # payloads between two checks of the whole image
REPORT = 10.0  # seconds between two lines


def main() -> int:
    """Run for a time or a number of payloads; return 1 at a difference, or if a kind of payload never occurred."""
    given = _arguments()
    if given.payload is not None:
        print(disagreement(bytes.fromhex(given.payload)) or "no difference")
        return 0
    corpus = read_corpus()
    print(f"seed {given.seed}, {len(corpus):,} payloads of the corpus", flush=True)
    counts: Counter[str] = Counter()
    fed = FuzzTarget(Random(f"{given.seed} {given.first}"))
    for number in _numbers(given, counts):
        if number % A_TURN == 0:
            fed = FuzzTarget(Random(f"{given.seed} {number}"))
        payload = any_payload(Random(f"{given.seed} payload {number}"), corpus)
        try:
            _hold(payload, number, fed, counts)
        except Exception:  # noqa: BLE001 - any exception is a difference
            _explain(payload, f"--seed {given.seed} --first {number - number % A_TURN}")
            return 1
    return 0 if _all_met(counts) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="how long to run (default %(default)g)")
    parser.add_argument("--messages", type=int, help="how many payloads, however long it takes")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="default: another each time")
    parser.add_argument("--first", type=int, default=0, help=f"the number to start with, a multiple of {A_TURN}")
    parser.add_argument("--payload", help="compare this one alone (hex)")
    return parser.parse_args()


def _numbers(given: argparse.Namespace, counts: Counter[str]) -> Iterator[int]:
    """Yield the numbers of the payloads, and print the progress."""
    started = said = time.monotonic()
    for number in count(given.first):
        now = time.monotonic()
        done = counts["messages"] >= given.messages if given.messages else now - started >= given.seconds
        if done or now - said >= REPORT:
            said = now
            line = "  ".join(f"{name} {many:,}" for name, many in sorted(counts.items()))
            print(f"{counts['messages'] / (now - started):6.0f} a second  {line}", flush=True)
        if done:
            return
        yield number


def _hold(payload: bytes, number: int, fed: FuzzTarget, counts: Counter[str]) -> None:
    difference = disagreement(payload)
    assert not difference, difference
    message = decoded(payload)
    counts.update(("messages", _sort(message)))
    counts["records"] += len(message.answers) if message else 0
    fed.feed(payload, message)
    if number % CHECKED == 0:
        fed.check()


def _sort(message: Message | None) -> str:
    if message is None:
        return "refused"
    if message.damaged:
        return "damaged"
    if message.skipped:
        return "skipped"
    return "whole" if message.answers else "empty"


def _all_met(counts: Counter[str]) -> bool:
    missing = [sort for sort in ("refused", "damaged", "skipped", "whole", "empty") if not counts[sort]]
    if missing:
        print(f"never met: {', '.join(missing)}")
    return not missing


def _explain(payload: bytes, again: str) -> None:
    traceback.print_exc()
    print(f"\nDIFFERENCE at the payload {payload.hex()}")
    print(f"again by: {Path(__file__).name} --payload {payload.hex()}, or, if it is the image's, by {again}")


if __name__ == "__main__":
    sys.exit(main())
