from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dnstrail.bus.ipc import findings_address, lookups_address
from dnstrail.client import DnsDataSource
from dnstrail.errors import DataNotFound, Unavailable
from live.processes import PATIENCE, alive, children_of, command_line, dnstrail, run_dir, started, wait_until
from live.workers import asker, probe, response, seen

FULL = "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)"
LOOKUPS_PAGE = Path(__file__).parents[2] / "docs/use/lookups.md"
SIGNATURE = """
from dnstrail.errors import DataNotFound
from dnstrail.signature import EventSelector, Signature, SignatureMetadata

class Resolved(Signature):
    metadata = SignatureMetadata(id="T-1", version="1", name="Resolved", event_name="RESOLVED")
    selected_events = (EventSelector(name="net_packet_dns"),)

    def init(self, ctx):
        super().init(ctx)
        self.dns = ctx.get_data_source("tracee", "dns")

    def on_event(self, event):
        try:
            self.report(event, **self.dns.get(event.dns.question[0].name.to_text()))
        except DataNotFound:
            pass
"""

EACH = """
from dnstrail.signature import EventSelector, Signature, SignatureMetadata

class Each(Signature):
    metadata = SignatureMetadata(id="T-2", version="1", name="Each", event_name="EACH")
    selected_events = (EventSelector(name="net_packet_dns"),)

    def on_event(self, event):
        self.report(event)
"""


@pytest.fixture
def each(tmp_path: Path) -> list[str | Path]:
    """Return the options that run a signature which reports each DNS message."""
    file = tmp_path / "each.py"
    file.write_text(EACH)
    file.chmod(0o644)
    tmp_path.chmod(0o755)
    return ["--signatures", file, "--select", "EACH"]


@contextmanager
def data_source(folder: Path, timeout: float = 1.0) -> Iterator[DnsDataSource]:
    """Yield a client of the cache in a folder."""
    dns = DnsDataSource(lookups_address(folder), timeout=timeout)
    try:
        yield dns
    finally:
        dns.close()


def answers(dns: DnsDataSource, key: str) -> dict | None:
    """Return the result of a lookup, or None; also without a cache."""
    try:
        return dns.get(key)
    except (DataNotFound, Unavailable):
        return None


def test_separate_workers_start_in_any_order_and_work_together():
    """Signatures start first, then the probe, then the cache, and the finding is reported."""
    with (
        run_dir() as folder,
        started("signatures", "--run-dir", folder, "--select", "WATCHED_NAME") as signatures,
        started("probe", "--run-dir", folder, "--capture", "demo", "--subscribers", "2"),
        started("cache", "--run-dir", folder),
    ):
        finding = json.loads(signatures.stdout.readline())
        assert finding["eventName"] == "WATCHED_NAME"
        assert {"name": "dns_root", "type": "const char *", "value": "updates.example"} in finding["args"]


def test_ten_lines_of_any_client_get_an_answer():
    """The client in docs/use/lookups.md, pyzmq and msgpack alone, is answered by a running cache."""
    code = re.search(r"<!-- test: client -->\n```python\n(.*?)```", LOOKUPS_PAGE.read_text(), re.DOTALL).group(1)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    with (
        run_dir() as folder,
        started("--capture", "demo", "--stay", "--run-dir", folder),
        data_source(folder) as dns,
    ):
        wait_until(lambda: answers(dns, "updates.example"), "the demo capture in the cache")
        code = code.replace("ipc:///run/dnstrail/lookups.sock", lookups_address(folder))
        for key, expected in (("192.0.2.10", "news.example"), ("nothing.example", "requested data was not found")):
            done = subprocess.run(
                [sys.executable, "-c", code, key], capture_output=True, text=True, timeout=PATIENCE, check=True
            )
            assert expected in done.stdout, done.stderr


def test_killed_cache_is_unavailable_then_back(tmp_path):
    """While the cache is killed under load, clients get Unavailable in time, and signatures wait; then both work."""
    file = tmp_path / "resolved.py"
    file.write_text(SIGNATURE)
    file.chmod(0o644)
    tmp_path.chmod(0o755)
    with (
        run_dir() as folder,
        started("signatures", "--run-dir", folder, "--signatures", file, "--select", "RESOLVED") as signatures,
        data_source(folder, timeout=0.5) as dns,
    ):
        found: list[str] = []
        reader = threading.Thread(target=lambda: found.extend(signatures.stdout), daemon=True)
        reader.start()
        with started("cache", "--run-dir", folder) as cache, probe(folder, subscribers=2) as publishing:

            def publish(name: str) -> None:
                publishing.turn(seen(response(name, f"{name} 300 A 192.0.2.1")))

            for number in range(50):
                publish(f"n{number}.test")
            wait_until(lambda: answers(dns, "n49.test"), "the cache")
            wait_until(lambda: any("n49.test" in line for line in found), "a finding")
            cache.send_signal(signal.SIGKILL)
            cache.wait()
            publish("unseen.test")
            with pytest.raises(Unavailable):
                dns.get("n49.test")
            with started("cache", "--run-dir", folder):
                wait_until(lambda: publishing.publisher.subscribers("turn") >= 2, "the new cache's subscription")
                wait_until(lambda: publish("after.test") or answers(dns, "after.test"), "the new cache")
                wait_until(lambda: any("after.test" in line for line in found), "a finding after the return")
        signatures.terminate()
        assert "signature_unavailable" in signatures.stderr.read()  # the new cache has not received unseen.test
        reader.join(PATIENCE)


def test_the_end_of_the_reader_ends_a_signature_worker(each):
    """After `dnstrail signatures | head -1` has its line, the next finding ends the worker without a word."""
    with (
        run_dir() as folder,
        started("signatures", "--run-dir", folder, "--cache", "none", *each) as worker,
        probe(folder, subscribers=1) as publishing,
    ):
        publishing.turn(seen(response("any.test", "any.test 300 A 192.0.2.1")))
        assert json.loads(worker.stdout.readline())["eventName"] == "EACH"
        worker.stdout.close()
        publishing.turn(seen(response("any.test", "any.test 300 A 192.0.2.2")))
        assert worker.wait(PATIENCE) == 0
        assert (log := worker.stderr.read()).count("stopped") == 1
        assert "Broken" not in log


def test_a_full_disk_ends_a_signature_worker_with_its_reason(each):
    """A worker whose stdout takes no finding ends with an error: the finding would be lost in silence."""
    with (
        run_dir() as folder,
        started("signatures", "--run-dir", folder, "--cache", "none", *each, before=FULL) as worker,
        probe(folder, subscribers=1) as publishing,
    ):
        publishing.turn(seen(response("any.test", "any.test 300 A 192.0.2.1")))
        assert worker.wait(PATIENCE) == 4
        assert "No space left on device" in worker.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_all_in_one_stops_cleanly(number):
    """SIGINT and SIGTERM end the run with code 0, and all of its workers."""
    with run_dir() as folder, started("--capture", "demo", "--stay", "--run-dir", folder) as run:
        with data_source(folder) as dns:
            wait_until(lambda: answers(dns, "updates.example"), "the demo capture in the cache")
        children = children_of(run.pid)
        assert len(children) >= 2  # the probe's source may have ended
        run.send_signal(number)
        assert run.wait(PATIENCE) == 0
        wait_until(lambda: not any(alive(child) for child in children), "the end of the workers")


def test_dead_worker_ends_the_run_and_is_named():
    """If a worker of an all-in-one run dies, the run ends with an error that names it."""
    with run_dir() as folder, started("--capture", "demo", "--stay", "--run-dir", folder) as run:
        with data_source(folder) as dns:
            wait_until(lambda: answers(dns, "updates.example"), "the demo capture in the cache")
        cache = next(child for child in children_of(run.pid) if "dnstrail_cache" in command_line(child))
        os.kill(cache, signal.SIGKILL)
        assert run.wait(PATIENCE) == 4
        assert "the cache worker" in run.stderr.read()


def test_workers_do_not_outlive_a_killed_parent():
    """If the all-in-one process is killed, its workers end."""
    with run_dir() as folder, started("--capture", "demo", "--stay", "--run-dir", folder) as run:
        with data_source(folder) as dns:
            wait_until(lambda: answers(dns, "updates.example"), "the demo capture in the cache")
        children = children_of(run.pid)
        run.kill()
        run.wait()
        wait_until(lambda: not any(alive(child) for child in children), "the end of the workers")


def test_second_run_in_the_same_folder_is_refused():
    """Two runs never share their sockets: the second one ends with the remedy."""
    with run_dir() as folder, started("--capture", "demo", "--stay", "--run-dir", folder):
        wait_until(lambda: Path(findings_address(folder).removeprefix("ipc://")).exists(), "the first run")
        done = dnstrail("--capture", "demo", "--run-dir", folder)
        assert done.returncode == 4
        assert "another dnstrail serves here" in done.stderr
        assert "Traceback" not in done.stderr


def test_commands_ask_a_running_cache():
    """get, trail, stats and health print the reply of a running cache as text and as JSON."""
    with run_dir() as folder, started("--capture", "demo", "--stay", "--run-dir", folder):
        with asker(lookups_address(folder)) as client:
            wait_until(
                lambda: client.ask("stats")["data"]["image"].get("messages") == 18, "the demo capture in the cache"
            )
        found = json.loads(dnstrail("get", "--json", "192.0.2.10", "--run-dir", folder).stdout)
        assert (found["dns_root"], found["history"]) == ("news.example", True)
        assert dnstrail("get", "nothing.example", "--run-dir", folder).returncode == 1
        assert "edge.cdn.example" in dnstrail("trail", "192.0.2.10", "--run-dir", folder).stdout
        trails = json.loads(dnstrail("trail", "192.0.2.10", "--json", "--run-dir", folder).stdout)["trails"]
        assert [trail["dns_root"] for trail in trails] == ["news.example", "shop.example", "192.0.2.10"]
        assert [step["kind"] for step in trails[0]["steps"]] == ["CNAME", "A"]
        assert dnstrail("trail", "nothing.example", "--run-dir", folder).returncode == 1
        stats = json.loads(dnstrail("stats", "--json", "--run-dir", folder).stdout)
        assert (stats["image"]["messages"], stats["image"]["related"], stats["lost"]["total"]) == (18, 8, 0)
        health = json.loads(dnstrail("health", "--json", "--run-dir", folder).stdout)
        assert (health["status"] in ("ok", "ended"), health["fed"]) == (True, True)
        assert "image.related" in dnstrail("stats", "--run-dir", folder).stdout
