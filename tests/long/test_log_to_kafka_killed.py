"""`dnstrail log --to` is killed (-9) and started again: each fact reaches Kafka at least once."""

from __future__ import annotations

import json
import signal
import threading
import time

from live.kafka_cluster import kafka_cluster
from live.processes import PATIENCE, dnstrail, started, wait_until
from live.tapped_resolver import resolved, resolver


def _number(line: bytes) -> int:
    return int(json.loads(line)["name"].removeprefix("n").removesuffix(".example"))


def test_each_fact_arrives_over_kills() -> None:
    """The command is killed twice; started again with the time of the first start it sends each fact at least once."""
    begin, asked, ends, found = time.time(), list[int](), threading.Event(), set[int]()
    with kafka_cluster() as cluster, resolver() as (runs, _, writer):
        history, spools = runs.parent / "history", runs.parent / "spools"
        spools.mkdir()
        spools.chmod(0o777)  # root becomes the owner of the history
        read = ("log", "--folder", str(history), "--run-dir", str(runs))
        send = ("--follow", "--since", str(begin), "--to", f"kafka:127.0.0.1:{cluster.port}/live,spool={spools}/kafka")

        def answer_on() -> None:
            while not ends.wait(0.005):
                writer.send(resolved(len(asked)))
                asked.append(len(asked))

        def kept() -> list[int]:
            return [*map(_number, dnstrail(*read, "--json").stdout.encode().splitlines())]

        def arrived(number: int) -> bool:
            found.update(map(_number, cluster.read("live")))
            return number in found

        with started("history", "--folder", history, "--run-dir", runs):
            thread = threading.Thread(target=answer_on)
            thread.start()
            try:
                wait_until(kept, "the history")  # which begins with what follows its first message
                for _ in range(2):
                    with started(*read, *send) as process:
                        before = len(asked)
                        wait_until(lambda before=before: arrived(before), "a new fact")
                        process.kill()
            finally:
                ends.set()
                thread.join()
            with started(*read, *send) as process:
                wait_until(lambda: arrived(asked[-1]), "the last fact")
                process.send_signal(signal.SIGINT)
                assert process.wait(PATIENCE) == 0
            expected = {*range(kept()[0], asked[-1] + 1)}
            wait_until(lambda: arrived(asked[-1]) and found >= expected, "the facts of all partitions")
            assert found == expected
