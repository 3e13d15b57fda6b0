"""`dnstrail log --to` over receivers that are away, and over kills: each fact reaches Kafka and OTLP at least once.

A resolver answers at a constant rate. The command sends each question to the mock cluster of librdkafka and to a
receiver of OTLP, processes of their own. Both receivers are stopped (SIGSTOP) for a while, and the command is killed
(SIGKILL) then and once more afterwards. Each time it is started again with the time of the first start.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from live.kafka_cluster import kafka_cluster
from live.processes import dnstrail, started, wait_until
from live.tapped_resolver import resolved, resolver

RATE = 1000  # facts a second
SPOOL = 1024  # MiB: more than all facts
PATIENCE = 600  # seconds until the last fact has arrived
# A receiver of OTLP/HTTP, which writes the body of each log record to a file, and its port to stdout.
OTLP = """
import json, socketserver, sys
from http.server import BaseHTTPRequestHandler
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        for resource in body["resourceLogs"]:
            for scope in resource["scopeLogs"]:
                written.writelines(one["body"]["stringValue"] + "\\n" for one in scope["logRecords"])
        written.flush()
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *arguments):
        pass
with open(sys.argv[1], "a") as written, socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""


def main() -> int:
    """Send the facts, and print what arrived; return 1 if a fact is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", type=int, default=100_000)
    parser.add_argument("--away", type=float, default=60, help="seconds for which both receivers are stopped")
    options = parser.parse_args()
    kept, found = sent(options.facts, options.away)
    print(f"\n{len(kept)} facts at {RATE} a second, receivers away for {options.away:g} s, two kills")
    missing = 0
    for receiver, numbers in found.items():
        lost = kept - numbers.keys()
        missing += len(lost)
        print(f"  {receiver}: {len(lost)} facts missing; {numbers.total() - len(numbers)} arrived again")
    return int(missing > 0)


def sent(facts: int, away: float) -> tuple[set[int], dict[str, Counter[int]]]:
    """Return the numbers of the facts that the history kept, and those that arrived at each receiver."""
    begin, messages, ends = time.time(), list[bytes](), threading.Event()
    with kafka_cluster() as cluster, resolver() as (runs, _, writer):
        history, spools, bodies = runs.parent / "history", runs.parent / "spools", runs.parent / "bodies"
        spools.mkdir()
        spools.chmod(0o777)  # root becomes the owner of the history
        bodies.touch()
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}  # it states each connection that was given up
        collector = subprocess.Popen([sys.executable, "-c", OTLP, bodies], text=True, **pipes)
        assert collector.stdout is not None
        url = f"http://127.0.0.1:{int(collector.stdout.readline())}/v1/logs"
        places = (
            f"kafka:127.0.0.1:{cluster.port}/facts,spool={spools}/kafka,size={SPOOL}",
            f"webhook:{url},preset=otlp,spool={spools}/otlp,size={SPOOL}",
        )
        read = ("log", "--folder", str(history), "--run-dir", str(runs))
        send = ("--follow", "--since", str(begin), *(word for place in places for word in ("--to", place)))
        command = [sys.executable, "-m", "dnstrail_cli", *read, *send]
        receivers = (cluster.process, collector)

        def answer() -> None:
            start = time.monotonic()
            for number in range(facts):
                time.sleep(max(start + number / RATE - time.monotonic(), 0))
                writer.send(resolved(number))

        def kept() -> Counter[int]:
            return numbers_of(dnstrail(*read, "--json").stdout.encode().splitlines())

        def consume() -> None:
            messages.extend(cluster.follow("facts", ends))

        def arrived() -> dict[str, Counter[int]]:
            return {"Kafka": numbers_of(messages.copy()), "OTLP": numbers_of(whole_lines(bodies))}

        with started("history", "--folder", history, "--run-dir", runs):
            thread, consumer = threading.Thread(target=answer), threading.Thread(target=consume)
            consumer.start()
            thread.start()
            wait_until(lambda: history.exists() and kept(), "the history")
            with subprocess.Popen(command) as process:
                wait_until(bodies.read_bytes, "the first facts")
                for one in receivers:
                    one.send_signal(signal.SIGSTOP)
                time.sleep(away / 2)
                process.kill()
            with subprocess.Popen(command) as process:
                time.sleep(away / 2)
                for one in receivers:
                    one.send_signal(signal.SIGCONT)
                time.sleep(away / 4)
                process.kill()
            thread.join()
            with subprocess.Popen(command) as process:
                last = facts - 1
                wait_for(lambda: all(last in numbers for numbers in arrived().values()))
                process.send_signal(signal.SIGINT)
            expected = set(kept())
        ends.set()
        consumer.join()
        found = arrived()
        collector.kill()
        collector.wait()
    return expected, found


def whole_lines(file: Path) -> list[bytes]:
    """Return the lines of a file that is being written."""
    return file.read_bytes().rpartition(b"\n")[0].splitlines()


def numbers_of(lines: list[bytes]) -> Counter[int]:
    """Return the number in the name of each fact."""
    return Counter(int(json.loads(line)["name"].removeprefix("n").removesuffix(".example")) for line in lines)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, for as long as the facts need."""
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(5)


if __name__ == "__main__":
    raise SystemExit(main())
