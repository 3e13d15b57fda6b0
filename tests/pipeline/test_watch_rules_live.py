"""The rules of docs/use/watch.md on the real kernel: names that are asked in a container, and on the host."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from live.ebpf_source import cgroup, inside
from live.namespaces import SENDER, dnsmasq, hosts, live_or_skip
from live.pipelines import Run, pipeline
from live.processes import run_dir, wait_until

PAGE = Path(__file__).parents[2] / "docs/use/watch.md"
RULES = re.search(r"<!-- file: rules.toml -->\n```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
CONTAINERS = os.urandom(32).hex(), os.urandom(32).hex()
FIRST = '[[watch]]\nname = "first"\nsuffixes = ["c2.example"]\nfirst_seen = "container"\n'


def reported(run: Run) -> list[tuple[str, str, str]]:
    """Return rule, name and container of each finding of a rule."""
    found = [({one["name"]: one["value"] for one in event["args"]}, event["containerId"]) for event in run.events]
    return [(args["rule"], args["dns_root"], container) for args, container in found if "rule" in args]


def test_the_rule_of_the_page_reports_names_in_containers() -> None:
    """A listed name is a finding of the rule for containers where a container asks it, and not where the host does.

    `first_seen` reports a domain once for each container, whatever the name below it.
    """
    live_or_skip("dig")
    first, second = (f"docker-{one}.scope" for one in CONTAINERS)
    with (
        run_dir() as folder,
        hosts() as both,
        dnsmasq(both.server, SENDER, 53, "/c2.example/192.0.2.1"),
        cgroup(first) as of_first,
        cgroup(second) as of_second,
    ):
        names, config = folder.parent / "watch_list", folder.parent / "rules.toml"
        names.write_text("c2.example\n")
        config.write_text(RULES.replace("watch_list", str(names)) + FIRST)
        for file in (names, config):
            file.chmod(0o644)
        options = "--capture", "ebpf", "--events", "WATCHED_NAME", "--output", "json"
        with pipeline("--config", str(config), *options) as run:
            dig = ("dig", "+tries=1", "+time=60", f"@{SENDER}")
            assert both.on_client(*dig, "host.c2.example").returncode == 0
            for place, asked in (of_first, "a"), (of_first, "b"), (of_second, "c"):
                ask = ("ip", "netns", "exec", both.client, *dig, f"{asked}.c2.example")
                assert subprocess.run(inside(place, *ask), stdout=subprocess.DEVNULL, check=False).returncode == 0
            of_page = "bad names in containers"
            expected = [(of_page, f"{asked}.c2.example", CONTAINERS[asked == "c"]) for asked in "abc"]
            expected += [("first", "a.c2.example", CONTAINERS[0]), ("first", "c.c2.example", CONTAINERS[1])]
            wait_until(lambda: len(reported(run)) >= len(expected), "the findings")
            assert sorted(reported(run)) == sorted(expected)
