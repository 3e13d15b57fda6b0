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

from measure import MissingError, measure
from options import read_options
from report import as_json, show_measured


def main() -> int:
    """Measure and print. The figures are no reason to fail."""
    given = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that namespaces and processes end
    if os.geteuid() != 0:
        print("accuracy-live: needs root, for namespaces and eBPF", file=sys.stderr)
        return 1
    try:
        found = measure(given)
    except MissingError as error:
        print(f"accuracy-live: {error}", file=sys.stderr)
        return 1
    print(f"seed {given.seed}, {given.names} names, {100 * given.shared:.0f} % of them on one address")
    show_measured(found)
    if given.json:
        options = {**vars(given), "json": str(given.json)}
        given.json.write_text(json.dumps({"options": options, "connections": as_json(found.joined)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
