"""Questions for watched names on the real kernel, whatever the answer, by the command line of a user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from live.namespaces import SENDER, dnsmasq, hosts, live_or_skip
from live.pipelines import Run, pipeline
from live.processes import run_dir, wait_until

pytestmark = pytest.mark.timeout(180)
NOBODY = "10.99.0.99"  # no host has this address
OUTCOMES = {"deep.sub.evil.example": "nxdomain", "here.evil.example": "answered", "lost.evil.example": "unanswered"}


@contextmanager
def watching(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the pipeline with a watch list of one name."""
    folder.chmod(0o755)  # the user of the workers must read the list
    (folder / "list").write_text("evil.example\n")
    monkeypatch.setenv("DNSTRAIL_WATCH_LIST", str(folder / "list"))
    with pipeline("--capture", "ebpf", "--events", "WATCHED_NAME", "--output", "json") as run:
        yield run


def test_each_question_for_a_watched_name_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """NXDOMAIN, an answer, and no answer are one finding each, with A and AAAA, and with the process that asked."""
    live_or_skip("dig")
    with (
        run_dir() as folder,
        hosts() as both,
        dnsmasq(both.server, SENDER, 53, "/here.evil.example/192.0.2.1", "--local=/evil.example/"),
        watching(folder, monkeypatch) as run,
    ):
        for name in OUTCOMES:
            server, patience = (NOBODY, 1) if name.startswith("lost") else (SENDER, 60)
            both.on_client("dig", "+tries=2", f"+time={patience}", f"@{server}", name, "A", name, "AAAA")

        def found() -> Counter[tuple[str, str, str]]:
            args = [({one["name"]: one["value"] for one in each["args"]}, each) for each in run.events]
            return Counter((known["dns_root"], known["outcome"], each["processName"]) for known, each in args)

        names = set(OUTCOMES.items())
        wait_until(lambda: names <= {one[:2] for one in found()}, "a finding for each name")
        threads = {one[2] for one in found()}
        assert len(threads) == 1
        assert found() == {(*one, *threads): 1 for one in names}
