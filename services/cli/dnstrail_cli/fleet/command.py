"""`dnstrail fleet`: the workers of the fleet, and the lookups at its store."""

from __future__ import annotations

from dnstrail_cli.fleet.lookups import get, hosts, new, top, trail
from dnstrail_cli.fleet.signatures import signatures
from dnstrail_fleet.__main__ import command as fleet

for _command in (signatures, get, trail, hosts, new, top):
    fleet.add_command(_command)

__all__ = ["fleet"]
