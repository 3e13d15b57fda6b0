"""The connections of a probe that is killed, on the real kernel: their ends come ten seconds later."""

from __future__ import annotations

import sys
from pathlib import Path

from builders.facts import stored_stages
from dnstrail.bus.ipc import lookups_address
from live.namespaces import Hosts
from live.processes import run_dir, started, wait_until
from live.talking import TALK, await_collection
from live.workers import asker
from live.written_rows import written


def args_of(event: dict) -> dict:
    """Return the arguments of an event by name."""
    return {arg["name"]: arg["value"] for arg in event["args"]}


CONNECTIONS = """
from dnstrail import EventSelector, Signature, SignatureMetadata

class Gone(Signature):
    metadata = SignatureMetadata(id="T-2", version="1", name="Gone", event_name="GONE")
    selected_events = (EventSelector(name="net_connection"),)

    def on_event(self, event):
        self.report(event, stage=event.arg("stage"), why=event.arg("why"), name=event.arg("name"), pid=event.process_id)
"""


def test_a_signature_hears_that_a_probe_is_gone(network: Hosts):
    """A killed probe reports no ends: ten seconds later its connections end as "probe gone", in the history too."""
    with run_dir() as folder, started("cache", "--run-dir", folder):
        history = folder.parent / "history"
        file = folder.parent / "gone.py"
        file.write_text(CONNECTIONS)
        file.chmod(0o644)
        with (
            started("probe", "--run-dir", folder, "--capture", "ebpf") as probe,
            started("history", "--run-dir", folder, "--folder", history),
            written(folder, "signatures", "--signatures", str(file), "--select", "GONE") as found,
            asker(lookups_address(folder)) as client,
        ):
            wait_until(lambda: client.ask("health")["data"]["turns"], "the probe")

            def stages(pid: int) -> list[tuple]:
                of_pid = [args for args in map(args_of, found.rows) if args["pid"] == pid]
                return [(args["stage"], args.get("why"), args["name"]) for args in of_pid]

            await_collection(network, lambda: found.rows and stored_stages(history))
            with network.start_on_client(sys.executable, "-c", TALK, "stays.google.com", "53") as stays:
                stays.stdout.readline()
                wait_until(lambda: len(stages(stays.pid)) == 2, "the connection")
                probe.kill()
                wait_until(lambda: len(stages(stays.pid)) == 3, "the end")
                stays.kill()
            wait_until(lambda: len(kept(history, stays.pid)) == 3, "the history")
        name = "stays.google.com"
        assert stages(stays.pid) == [("opened", None, name), ("result", None, name), ("end", "probe gone", name)]
        assert kept(history, stays.pid) == stages(stays.pid)


def kept(history: Path, pid: int) -> list[tuple]:
    """Return the stages of the connections of a process that are stored."""
    found = [one.values for one in stored_stages(history) if one.process is not None and one.process.pid == pid]
    return [(one.stage, one.why, one.name) for one in found]
