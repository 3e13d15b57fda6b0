"""A worker that follows many probes has sockets for each, whatever soft limit on descriptors it starts with."""

from __future__ import annotations

import resource
import subprocess
import sys

from dnstrail.bus.zeromq import _MOST_SOCKETS

SOCKETS = 1200  # more than libzmq allows by default
SCRIPT = f"""
from dnstrail.bus import ZmqBus

bus = ZmqBus()
requesters = [bus.requester(f"ipc:///tmp/dt-nobody-{{number}}.sock") for number in range({SOCKETS})]
print(sum(requester.send(b"") for requester in requesters), flush=True)
bus.close(now=True)
"""


def test_a_worker_opens_as_many_sockets_as_it_has_probes():
    """1,200 requesters are opened under the soft limit of 256 descriptors; the hard limit allows them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)

    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], check=False, preexec_fn=limit, capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{SOCKETS}\n", "")
    assert _MOST_SOCKETS > 3 * 4096  # three for each of the most probes that a worker follows
