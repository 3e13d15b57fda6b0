"""Kill one of three signature workers on Kafka, and let another join: each new name is reported once.

The cluster is the mock of librdkafka, which moves the partitions of a dead worker after six seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from live.fleet_processes import ROOT
from live.kafka_cluster import kafka_cluster
from live.kafka_entries import PATCH, KafkaEntries
from live.processes import run_dir
from live.signature_workers import Workers, each_name_is_reported_once, process

STORE = """
import sys
sys.path[:0] = {paths!r}
{patch}
from dnstrail_fleet.__main__ import store
store({options!r})
"""


def main() -> None:
    """Run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how many (default %(default)s)")
    for number in range(parser.parse_args().rounds):
        begin = time.monotonic()
        with TemporaryDirectory() as folder:
            run(Path(folder))
        print(f"round {number + 1}: each name once, in {time.monotonic() - begin:.0f} s", flush=True)


def run(folder: Path) -> None:
    """Run one round."""
    with kafka_cluster() as running, run_dir() as run_folder, ExitStack() as stack:
        log = KafkaEntries(running, folder, stack)
        workers = Workers(folder, run_folder, log, stack)
        options = ["--engine", log.option, "--folder", str(folder / "store"), "--run-dir", str(run_folder), *ROOT]
        stack.enter_context(process(STORE.format(paths=[*filter(None, sys.path)], patch=PATCH, options=options)))
        each_name_is_reported_once(workers)


if __name__ == "__main__":
    main()
