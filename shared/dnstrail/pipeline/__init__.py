"""The whole pipeline in one run: its workers as child processes, and the view of their events."""

from pathlib import Path

#: MiB of memory of each worker of an all-in-one run (`--memory`) -> the worker ends, and the run with it; the units and
#: the compose file set 1 GiB, and restart the worker
MEMORY = 1024
HISTORY = Path("/var/lib/dnstrail-history")  # the folder of the history, unless an option names another one

FLEET = Path("/var/lib/dnstrail-fleet")  # likewise, of the store of the fleet
SENDER = Path("/var/lib/dnstrail-sender")  # likewise, of the state of a sender


def is_empty(folder: Path) -> bool:
    """Return whether a folder holds no history yet."""
    return next(folder.glob("[0-9]*"), None) is None
