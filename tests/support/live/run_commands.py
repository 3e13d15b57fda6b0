"""Command lines of `dnstrail run` in the network namespace of a client."""

from __future__ import annotations

import sys

from live.namespaces import Hosts

RUN = (sys.executable, "-m", "dnstrail_cli", "run")
# `ip netns exec` hides the cgroups of the host below a /sys of its own.
_WITH_CGROUPS = ("sh", "-c", 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"', "sh")


def within(network: Hosts, *command: str) -> list[str]:
    """Return the command line that runs a command on the client."""
    return ["ip", "netns", "exec", network.client, *_WITH_CGROUPS, *command]
