"""Compare the image with the naive model over many random messages; print a shortened episode at a difference."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import dns.message

from model.episodes import REACHED, Episode, Step, difference, random_episode, run, shortened
from model.instants import SECOND, START

LENGTHS = (5, 20, 20, 60, 60, 100, 200)  # messages of an episode
REPORT = 10.0  # seconds between two lines


def main() -> int:
    """Run until this many messages are compared; return 1 at a difference, or if a comparison never occurred."""
    given = _arguments()
    print(f"seed {given.seed}")
    counts: Counter[str] = Counter()
    started = said = time.monotonic()
    for number in [given.episode] if given.episode is not None else _numbers():
        episode = _episode(given.seed, number)
        try:
            counts += run(episode)
        except Exception:  # noqa: BLE001 - any exception of the image is a difference
            _explain(episode, f"{Path(__file__).name} --seed {given.seed} --episode {number}")
            return 1
        counts["episodes"] += 1
        now = time.monotonic()
        done = counts["messages"] >= given.messages or given.episode is not None
        if done or now - said > REPORT:
            said = now
            print(f"{counts['messages'] / (now - started):7.0f} messages/s  {_line(counts)}", flush=True)
        if done:
            break
    return 0 if given.episode is not None or _all_compared(counts) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, help="how many to compare (default %(default)s)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="default: another each time")
    parser.add_argument("--episode", type=int, help="this one alone")
    return parser.parse_args()


def _numbers() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def _episode(seed: int, number: int) -> Episode:
    random = Random(f"{seed} {number}")
    return random_episode(random, random.choice(LENGTHS))


def _line(counts: Counter[str]) -> str:
    return "  ".join(f"{name} {number:,}" for name, number in sorted(counts.items()))


def _all_compared(counts: Counter[str]) -> bool:
    missing = [name for name in REACHED if not counts[name]]
    if missing:
        print(f"never reached: {', '.join(missing)}")
    return not missing


def _explain(episode: Episode, again: str) -> None:
    short = shortened(episode)
    source = "live" if short.live else "a file"
    print(f"\nDIFFERENCE, again by: {again}\n{short.bounds}, {source}, unmatched={short.unmatched}")
    for step in short.steps:
        when = "" if step.time is None else f" at START{(step.time - START) / SECOND:+.9g}"
        cgroup = f"cgroup {step.process.cgroup_id}" if step.process else ""
        where = " ".join(f"{one}" for one in (step.host, cgroup, step.flow or "") if one)
        print(f"{step.what}{when} {' '.join(step.keys)}{where} {_text(step)}")
    print(difference(short))


def _text(step: Step) -> str:
    if not step.payload:
        return ""
    try:
        message = dns.message.from_wire(step.payload)
    except Exception:  # noqa: BLE001 - the message is built to be refused
        return step.payload.hex()
    lines = [rrset.to_text() for rrset in (*message.question, *message.answer)]
    return f"{step.payload.hex()}\n    " + "\n    ".join("\n".join(lines).split("\n"))


if __name__ == "__main__":
    sys.exit(main())
