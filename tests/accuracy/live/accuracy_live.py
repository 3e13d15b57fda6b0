"""Measure live how often dnstrail names a connection rightly (`make accuracy-live`).

Real clients connect to a made-up internet in network namespaces. The truth is the name that each connection states on
the wire. dnstrail watches by eBPF, and does not read the server names.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from measure import measure
from options import read_options
from report import as_json, client_of, count, show, show_mechanisms


def main() -> int:
    """Measure and print. The figures are no reason to fail."""
    given = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that namespaces and processes end
    if os.geteuid() != 0:
        print("accuracy-live: needs root, for namespaces and eBPF", file=sys.stderr)
        return 1
    found = measure(given)
    named = [joined for joined in found.joined if joined.meant]
    resolver = dict(enumerate(found.resolvers))
    print(f"seed {given.seed}, {given.names} names, {100 * given.shared:.0f} % of them on one address")
    if found.left_out:
        print(f"left out, since they are missing here: {', '.join(found.left_out)}")
    show("By client", count(named, client_of))
    show("\nBy resolver", count(named, lambda joined: resolver[joined.job.host] if joined.job else "unknown"))
    show_mechanisms(named)
    exchangeable = sum(joined.exchangeable for joined in named)
    print(f"\nConnections that could be those of another event of the same moment, address and port: {exchangeable}")
    print(f"Connections that stated no name, and count nowhere: {len(found.joined) - len(named)}")
    print(
        f"Clients that were ended after too long a time: {found.killed}; losses of dnstrail: {found.losses or 'none'}"
    )
    if given.json:
        given.json.write_text(
            json.dumps({"options": {**vars(given), "json": str(given.json)}, "connections": as_json(found.joined)})
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
