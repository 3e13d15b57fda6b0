"""What the bus imports before its process becomes another user."""

from __future__ import annotations

import subprocess
import sys

CODE = "import sys, dnstrail.bus.zeromq; print('zmq.utils.garbage' in sys.modules)"


def test_the_bus_imports_all_that_a_long_message_needs() -> None:
    """A worker sends long replies although its user may not read the modules: pyzmq would import this one only then."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
