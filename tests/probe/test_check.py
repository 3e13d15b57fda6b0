"""`dnstrail probe --check` on real hosts, with and without privileges.

Tests of dnstrail.kernel.capabilities.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dnstrail.capture_options import CaptureOptions
from dnstrail.errors import SourceUnavailable
from dnstrail.kernel.cgroups import find_cgroup2
from dnstrail_probe.check import Check, Host, check_host, run_check
from dnstrail_probe.ebpf.entry import CHECKS as EBPF_CHECKS
from dnstrail_probe.ebpf.entry import check_release
from dnstrail_probe.sources.dnstap_socket import CHECKS as DNSTAP_CHECKS
from live.namespaces import hosts, live_or_skip
from live.processes import PATIENCE, run_dir, unprivileged

CHECK = [sys.executable, "-m", "dnstrail_cli", "probe", "--check"]
CAPABILITIES = {check.name for check in EBPF_CHECKS if check.name.startswith("CAP_")}
EBPF_CAPABILITIES = {check.name for check in EBPF_CHECKS if check.name in CAPABILITIES and check.purpose == "ebpf"}


def checked(*before: str, args: tuple[str, ...] = ("--json",)) -> subprocess.CompletedProcess[str]:
    """Run the check in a process of its own, under the command `before`."""
    with run_dir() as folder:
        folder.chmod(0o777)
        command = [*before, *CHECK, "--run-dir", str(folder), *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def report(done: subprocess.CompletedProcess[str]) -> tuple[dict, dict[str, dict]]:
    """Return a report as JSON, and its results by name."""
    assert not done.stderr, done.stderr
    read = json.loads(done.stdout)
    return read, {result["name"]: result for result in read["checks"]}


def without(path: str | Path) -> list[str]:
    """Return the command that runs another one on a host without this path."""
    return ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(path)]


def test_root_can_do_everything():
    """As root every need of eBPF and AF_PACKET is met, auto selects eBPF, and the exit code is 0."""
    live_or_skip()
    done = checked()
    seen, results = report(done)
    assert (done.returncode, seen["auto"], seen["live"]) == (0, "ebpf", True)
    needed = {
        "kernel",
        "cgroup2",
        "BTF",
        "bcc",
        "programs",
        "process events",
        "AF_PACKET socket",
        "socket folder",
        "uprobes",
    }
    assert all(results[name]["able"] for name in needed | EBPF_CAPABILITIES)
    assert all(result["able"] == (not result["reason"]) == (not result["remedy"]) for result in results.values())


def test_without_privileges_every_lack_has_a_remedy():
    """As nobody the check runs to its end, reports a reason and a remedy for every lack, and exits with 1."""
    if os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    done = checked(*unprivileged())
    seen, results = report(done)
    assert (done.returncode, seen["auto"], seen["live"]) == (1, "demo", False)
    lacking = {name for name, result in results.items() if not result["able"]}
    assert lacking >= {*CAPABILITIES, "CAP_NET_RAW", "programs", "process events", "AF_PACKET socket"}
    assert all(results[name]["reason"] and results[name]["remedy"] for name in lacking)
    assert results["programs"]["remedy"] == results["CAP_BPF"]["remedy"] == "run it with sudo"


def test_the_table():
    """The table contains the reasons, the remedies, and the source that auto selects."""
    if os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    done = checked(*unprivileged(), args=())
    assert (done.returncode, done.stderr) == (1, "")
    assert "needs CAP_NET_RAW" in done.stdout
    assert "run it with sudo" in done.stdout
    assert "auto captures by demo: no live source can be opened" in done.stdout


def test_with_one_capability_auto_selects_packet():
    """With CAP_NET_RAW alone, auto selects AF_PACKET, which is live."""
    live_or_skip()
    done = checked("setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all")
    seen, results = report(done)
    assert (done.returncode, seen["auto"], seen["live"]) == (0, "packet", True)
    assert (results["programs"]["able"], results["AF_PACKET socket"]["able"]) == (False, True)


LACKS = {
    "BTF": ("/sys/kernel/btf", {"BTF", "process events", "uprobes"}, "ebpf"),
    "bcc": ("/usr/lib/python3/dist-packages/bcc", {"bcc", "programs", "process events", "uprobes"}, "packet"),
}


@pytest.mark.parametrize(("path", "lacking", "auto"), LACKS.values(), ids=LACKS)
def test_a_host_without_a_prerequisite(path, lacking, auto):
    """The report names the lack and its consequences, and auto selects the best source that is left."""
    live_or_skip("unshare")
    seen, results = report(checked(*without(path)))
    assert {name for name, result in results.items() if not result["able"]} - {"Docker socket"} == lacking
    assert seen["auto"] == auto


def test_a_host_without_cgroup2():
    """Without a cgroup2 hierarchy and the right to mount it no program can be attached: the remedy is the mount."""
    live_or_skip("unshare")
    bounded = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    seen, results = report(checked(*without(str(find_cgroup2())), *bounded))
    assert seen["auto"] == "packet"
    assert results["cgroup2"]["remedy"] == results["programs"]["remedy"] == "mount -t cgroup2 none /sys/fs/cgroup"


def test_a_hidden_cgroup2_is_found():
    """In a namespace of `ip netns exec`, which hides the mount points of cgroup2, auto selects eBPF."""
    live_or_skip()
    with hosts() as both:
        seen, results = report(checked("ip", "netns", "exec", both.client))
    assert (seen["auto"], results["cgroup2"]["able"]) == ("ebpf", True)


def test_nothing_stays_attached():
    """After the check this process holds no link that attaches a program."""
    live_or_skip()
    with run_dir() as folder:
        seen = check_host(CaptureOptions(), folder)
    assert seen.auto == "ebpf", seen
    open_files = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert not [target for target in open_files if "bpf_link" in target]


@pytest.mark.parametrize(
    ("release", "able"),
    [("5.9.16", False), ("5.10.0-28-amd64", True), ("6.1", True), ("4.19.0", False), ("10.0", True), ("odd", False)],
)
def test_kernels(release, able, host):
    """Kernels from 5.10 on are new enough; for an older one the reason names the release."""
    result = run_check(Check("kernel", "ebpf", lambda _: check_release(release), "a newer kernel"), host)
    assert result.able is able
    assert (release in result.reason, bool(result.remedy)) == (not able, not able)


@pytest.fixture
def host(tmp_path):
    return Host(CaptureOptions(), tmp_path)


REFUSED = {
    "with its remedy": (SourceUnavailable("packet", "no right", "use sudo"), "no right", "use sudo"),
    "without": (SourceUnavailable("ebpf", "no such hook: 7"), "no such hook: 7", "another kernel"),
    "endless": (SourceUnavailable("ebpf", "x" * 5000), "x" * 200, "another kernel"),
    "by the system": (OSError(13, "Permission denied"), "Permission denied", "another kernel"),
}


@pytest.mark.parametrize(("error", "reason", "remedy"), REFUSED.values(), ids=REFUSED)
def test_why_a_source_is_refused(error, reason, remedy, host):
    """A result has the remedy of the error, else that of the check, and a reason of bounded length."""

    def refuse(_: Host) -> None:
        raise error

    result = run_check(Check("programs", "ebpf", refuse, "another kernel"), host)
    assert (result.able, result.reason, result.remedy) == (False, reason, remedy)


def test_nothing_is_loaded_twice(host):
    """Checks that need the same programs share one load, a failed one too."""
    loads = []

    def load(options: CaptureOptions) -> int:
        loads.append(options)
        return 7

    def fail(options: CaptureOptions) -> int:
        loads.append(options)
        raise SourceUnavailable("ebpf", "refused")

    assert (host.once(load), host.once(load)) == (7, 7)
    for _ in range(2):
        with pytest.raises(SourceUnavailable, match="refused"):
            host.once(fail)
    assert loads == [host.options] * 2


def test_a_folder_that_cannot_be_made(tmp_path):
    """A socket folder is fine if it can be made; otherwise the result names what is in the way."""
    (check,) = DNSTAP_CHECKS
    assert run_check(check, Host(CaptureOptions(), tmp_path / "deep" / "er")).able
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0)
    result = run_check(check, Host(CaptureOptions(), tmp_path / "file" / "sockets"))
    assert (result.able, result.remedy) == (False, check.remedy)
    assert str(tmp_path / "file") in result.reason
