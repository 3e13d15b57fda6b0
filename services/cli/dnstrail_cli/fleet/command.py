"""`dnstrail fleet`: the store of the worker, and the commands that need other workers or their options."""

from __future__ import annotations

from dnstrail_cli.fleet.lookups import get, hosts, new, top, trail
from dnstrail_cli.fleet.send import send
from dnstrail_fleet.__main__ import command as fleet

for _command in (send, get, trail, hosts, new, top):
    fleet.add_command(_command)

__all__ = ["fleet"]
