"""The privileges of a probe that captures, as the kernel reports them, for every kind of source."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from dnstrail_probe.ebpf.source import EbpfSource
from live.namespaces import live_or_skip
from live.processes import children_of, run_dir, started, text_of, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to lose")
USER = 65533
BITS = {"CAP_SYS_PTRACE": 19, "CAP_BPF": 39}


@contextmanager
def capturing(*arguments: str):
    """Yield the status of a probe whose source is open and whose socket is bound."""
    with run_dir() as folder:
        if "--user" in arguments:
            os.chown(folder, USER, USER)
        with started("probe", "--run-dir", folder, *(word.format(folder=folder) for word in arguments)) as process:
            wait_until((folder / "events.sock").exists, "the socket")
            yield status_of(process.pid)


def status_of(process: int) -> dict[str, str]:
    """Return the status of a process."""
    return dict(line.split(":\t", 1) for line in text_of(Path(f"/proc/{process}/status")).splitlines())


def capabilities(status: dict[str, str]) -> set[int]:
    """Return the capabilities that a process has, or could get back."""
    held = int(status["CapEff"], 16) | int(status["CapPrm"], 16) | int(status["CapAmb"], 16)
    return {bit for bit in range(64) if held >> bit & 1}


@pytest.mark.parametrize("capture", ["demo", "dnstap", "dnstap:{folder}/other.sock", "packet"])
def test_sources_that_need_nothing_keep_nothing(capture):
    """A capture file, a dnstap socket and an AF_PACKET socket are read without any capability."""
    with capturing("--capture", capture) as status:
        assert (capabilities(status), status["NoNewPrivs"]) == (set(), "1")


@pytest.mark.parametrize("capture", ["ebpf", "ebpf:getaddrinfo"])
def test_ebpf_keeps_two_capabilities(capture):
    """The eBPF sources keep exactly the capabilities that they name, and their child that reads files keeps one."""
    live_or_skip()
    with capturing("--capture", capture) as status:
        assert capabilities(status) == {BITS[name] for name in EbpfSource.capabilities}
        assert status["NoNewPrivs"] == "1"
        (child,) = map(status_of, children_of(int(status["Pid"])))
        assert (capabilities(child), child["NoNewPrivs"]) == ({BITS["CAP_SYS_PTRACE"]}, "1")


def test_the_probe_of_a_file_becomes_another_user():
    """With --user the probe of a file runs as that user; a live source keeps its user."""
    with capturing("--capture", "demo", "--user", f"{USER}:{USER}") as status:
        assert status["Uid"].split() == [str(USER)] * 4
        assert (capabilities(status), status["NoNewPrivs"]) == (set(), "1")
    with capturing("--capture", "dnstap", "--user", f"{USER}:{USER}") as status:
        assert status["Uid"].split()[:3] == ["0"] * 3
