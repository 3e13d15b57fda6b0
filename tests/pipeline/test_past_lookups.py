"""`dnstrail get --at` of a time before the cache: real processes, the history answers."""

from __future__ import annotations

import json
import signal
import time
from contextlib import contextmanager

from builders.dnstap_builders import START, first_writer
from dnstrail.bus.ipc import lookups_address
from live.processes import PATIENCE, dnstrail, run_dir, started, wait_until
from live.tapped_resolver import resolved
from live.workers import asker


@contextmanager
def a_cache(folder):
    """Run a cache until the block ends; yields a client once it hears the probe."""
    with started("cache", "--run-dir", folder) as process, asker(lookups_address(folder)) as client:
        wait_until(lambda: client.ask("health")["data"]["turns"], "the probe")
        yield client
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def asked(folder, *arguments):
    """Return the exit code and the JSON lines of a lookup."""
    done = dnstrail(*arguments, "--json", "--run-dir", folder)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_a_cache_that_was_started_anew_answers_for_the_time_before():
    """`get` and `trail` with the time of then find what the cache of then had found, and state the source."""
    with run_dir() as folder:
        history = folder.parent / "history"
        capture = ("--capture", f"dnstap:{folder}/dnstap.sock", "--subscribers", "1")
        with started("history", "--run-dir", folder, "--folder", history) as worker:
            next(line for line in worker.stderr if '"ready"' in line)
            with started("probe", "--run-dir", folder, *capture):
                with a_cache(folder) as client:
                    writer = first_writer(folder / "dnstap.sock")
                    writer.send(START)

                    def is_published():
                        writer.send(resolved(0))  # of no address: what the history missed is in none of the trails
                        return client.ask("stats")["data"]["cache"].get("facts_published")

                    wait_until(is_published, "facts")
                    writer.send(resolved(1) + resolved(3))
                    wait_until(lambda: client.ask("get", key="n3.example")["ok"], "the answers")
                    at, then = time.time(), client.ask("trail", key="192.0.2.7")["data"]
                    found = asked(folder, "get", "192.0.2.7", "n3.example")
                    assert [one["dns_root"] for one in found[1]] == ["n3.example", "n3.example"]
                with a_cache(folder) as client:

                    def past(op, **fields):
                        """Wait for the reply of the history: on a busy host the cache answers some by itself."""
                        replies = []

                        def is_answered():
                            replies.append(client.ask(op, **fields))
                            return (
                                "source" in replies[-1] and replies[-1].get("data", replies[-1]).get("history") is known
                            )

                        wait_until(is_answered, "the history")
                        return replies[-1]

                    known = False
                    old = past("get", key="n3.example", at=at - 3600)
                    known = True
                    past("get", key="n3.example", at=at)
                    trail = past("trail", key="192.0.2.7", at=at)
                    again = None, []
                    while not all("source" in one for one in again[1]) or not again[1]:
                        again = asked(folder, "get", "--at", f"{at:.6f}", "192.0.2.7", "n3.example")
                    present = client.ask("get", key="n3.example")
            writer.close()
    assert again == (0, [{**one, "source": "history"} for one in found[1]])
    assert trail["source"] == "history"
    assert [path["dns_root"] for path in trail["data"]["trails"]] == [path["dns_root"] for path in then["trails"]]
    assert [path["asked"] for path in trail["data"]["trails"]] == [path["asked"] for path in then["trails"]]
    assert (old["error"], old["history"], old["source"]) == ("data_not_found", False, "history")
    assert "source" not in present


def test_a_history_that_may_not_serve_lookups_keeps_facts():
    """Beside another history of its run-dir, as without the right to bind, the worker logs it and goes on."""
    with run_dir() as folder, started("history", "--run-dir", folder, "--folder", folder.parent / "one") as first:
        next(line for line in first.stderr if '"ready"' in line)
        with started("history", "--run-dir", folder, "--folder", folder.parent / "two") as second:
            lines = [next(second.stderr)]
            while '"ready"' not in lines[-1]:
                lines.append(next(second.stderr))
            assert any('"past_not_served"' in line for line in lines)
