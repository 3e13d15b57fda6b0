"""Units of systemd on the real kernel: processes in a tree of cgroups as systemd makes it, also below a user's manager.

Tests of dnstrail.kernel.systemd_units, dnstrail_probe.host.containers.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from dnstrail.events import SCHED_PROCESS_EXEC
from live.ebpf_source import Watching, cgroup, inside, watching
from live.namespaces import SENDER, dnsmasq, hosts, live_or_skip
from live.pipelines import Run, pipeline
from live.processes import run_dir, wait_until

pytestmark = pytest.mark.filterwarnings("ignore:not a bytes object:DeprecationWarning")  # bcc's own
USER = 60_543  # no other process of this host has it
SLICE = f"dnstrailtest{os.getpid()}.slice"
MANAGER = f"{SLICE}/user@{USER}.service"
ID = os.urandom(32).hex()
CONTAINER = f"{SLICE}/docker-{ID}.scope"


@contextmanager
def tree() -> Iterator[dict[str, Path]]:
    """Make the cgroups of a slice, with a service, a manager of a user, and what the user makes below it."""
    live_or_skip("setpriv")
    with ExitStack() as stack:
        made = {
            path: stack.enter_context(cgroup(path))
            for path in (SLICE, f"{SLICE}/web.service", f"{SLICE}/web.service/part", MANAGER, CONTAINER)
        }
        manager = made[MANAGER]
        subprocess.run(["chown", str(USER), manager], check=True)
        ways = (
            ("system.slice", "system.slice/ssh.service"),
            ("app.slice", "app.slice/own.service"),
            ("any name",),
            (f"libpod-{ID}",),
        )
        for path in (path for way in ways for path in way):
            subprocess.run(["setpriv", f"--reuid={USER}", "--clear-groups", "mkdir", manager / path], check=True)
            stack.callback((manager / path).rmdir)
            made[f"{MANAGER}/{path}"] = manager / path
        yield made


def unit_seen(seen: Watching, folder: Path) -> tuple[str, str]:
    """Run a program in a cgroup, again where its event was lost; return unit and slice of its process."""
    pids, found = set[int](), list[tuple[str, str]]()

    def ran() -> bool:
        with subprocess.Popen(inside(folder, "true")) as process:
            pids.add(process.pid)
        seen.look()
        events = [one.process for one in seen.named(SCHED_PROCESS_EXEC) if one.process and one.process.pid in pids]
        found.extend((process.unit, process.slice) for process in events if process.name == "true")
        return bool(found)

    seen.until(ran, f"a process in {folder}")
    return found[0]


EXPECTED = {
    f"{SLICE}/web.service": ("web.service", SLICE),
    f"{SLICE}/web.service/part": ("web.service", SLICE),
    MANAGER: (f"user@{USER}.service", SLICE),
    f"{MANAGER}/system.slice/ssh.service": (f"{USER}/ssh.service", f"{USER}/system.slice"),
    f"{MANAGER}/app.slice/own.service": (f"{USER}/own.service", f"{USER}/app.slice"),
    f"{MANAGER}/any name": (f"user@{USER}.service", SLICE),
    CONTAINER: ("", ""),
    SLICE: ("", SLICE),
}


@pytest.mark.parametrize("when", ["after the probe", "before the probe"])
def test_a_process_has_the_unit_of_its_cgroup(when: str) -> None:
    """Each process has unit and slice of its cgroup, whenever that was made; those of a user carry the user."""
    with ExitStack() as stack:
        made = stack.enter_context(tree()) if when == "before the probe" else {}
        seen = stack.enter_context(watching())
        made = made or stack.enter_context(tree())
        assert {path: unit_seen(seen, made[path]) for path in EXPECTED} == EXPECTED


RULES = f"""
[[watch]]
name = "of root"
units = ["web.service", "ssh.service"]

[[watch]]
name = "of the user"
units = ["{USER}/*"]

[[watch]]
name = "container of root"
containers = ["{ID[:12]}", "*"]

[[watch]]
name = "container of the user"
containers = ["{USER}/{ID[:12]}"]

[[watch]]
name = "on the host"
origin = "host"
suffixes = ["any.example"]
"""


def test_a_rule_for_units_and_containers_of_root_does_not_see_a_users() -> None:
    """A rule reports what its units and containers ask.

    A user who names a cgroup like a service of root, or like the container of root with this very id, is neither. For
    `origin` such a container is a part of the host: no user leaves a rule for the host by the name of a cgroup.
    """
    live_or_skip("dig")
    with (
        run_dir() as folder,
        hosts() as both,
        dnsmasq(both.server, SENDER, 53, "/any.example/192.0.2.1"),
        tree() as made,
    ):
        config = folder.parent / "units.toml"
        config.write_text(RULES)
        config.chmod(0o644)
        options = "--capture", "ebpf", "--events", "WATCHED_NAME", "--output", "json"
        with pipeline("--config", str(config), *options) as run:
            ask = ("ip", "netns", "exec", both.client, "dig", "+tries=1", "+time=60", f"@{SENDER}")
            paths = [f"{MANAGER}/system.slice/ssh.service", CONTAINER, f"{SLICE}/web.service/part"]
            paths.append(f"{MANAGER}/libpod-{ID}")
            for number, path in enumerate(paths):
                done = subprocess.run(
                    inside(made[path], *ask, f"n{number}.any.example"), capture_output=True, check=False
                )
                assert done.returncode == 0, done.stdout
            expected = [
                ("container of root", "n1"),
                ("container of the user", "n3"),
                ("of root", "n2"),
                ("of the user", "n0"),
                *(("on the host", f"n{number}") for number in (0, 2, 3)),
            ]
            wait_until(lambda: len(reports(run)) >= len(expected), "the findings")
            assert sorted(reports(run)) == expected
            of_unit, of_container = (
                next(event for event in run.containing(f"n{number}.any.example")) for number in (0, 3)
            )
            assert (of_unit["unit"], of_unit["slice"]) == (f"{USER}/ssh.service", f"{USER}/system.slice")
            assert of_container["containerId"] == f"{USER}/{ID}"


def reports(run: Run) -> list[tuple[str, str]]:
    """Return rule and first label of each finding about the names of this test."""
    found = [{one["name"]: one["value"] for one in event["args"]} for event in run.containing(".any.example")]
    return [(args["rule"], args["dns_root"].partition(".")[0]) for args in found]
