"""The users of an engine: each may append to the stream of one host, and do nothing else."""

from __future__ import annotations

import secrets
from typing import Any, Final, NamedTuple

from dnstrail.errors import SettingsError
from dnstrail_fleet.log.contract import LogUnavailableError
from dnstrail_fleet.log.engine_address import EngineAddress, check_user
from dnstrail_fleet.log.engine_client import call_engine, open_client
from dnstrail_fleet.log.valkey_log import GROUP, PREFIX

_SECRET: Final = 32  # random bytes of a password
_MAY: Final = ("+xadd", "+ping")


class Revoked(NamedTuple):
    """What revoking a host changed: whether it had a user, and the entries of its stream that `wait` for the store.

    The stream is removed if none waits.
    """

    had_user: bool
    had_stream: bool
    waiting: int


class EngineUsers:
    """The users of an engine, as one of its administrators sees them."""

    def __init__(self, address: EngineAddress) -> None:
        """Open a client; `address` names an administrator.

        Raises:
            SettingsError: The CA cannot be used, or the client is not installed.
        """
        self._address = address
        self._client = open_client(address)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def invite(self, name: str) -> EngineAddress:
        """Make the user of a host, who may append to the stream of this name; return its address.

        Raises:
            SettingsError: It can be no name of a host, or the engine has such a user.
            LogUnavailableError: The engine does not answer, or refuses.
        """
        password = secrets.token_urlsafe(_SECRET)
        rules = ("reset", "on", f">{password}", f"%W~{PREFIX}{check_user(name)}", *_MAY)
        if self._rules(name) is not None:
            raise SettingsError(f"the engine has a user {name}: name the host otherwise, or revoke this one first")
        self._call("ACL", "SETUSER", name, *rules)
        try:
            self._call("ACL", "SAVE")
        except LogUnavailableError:
            self._call("ACL", "DELUSER", name)
            raise
        return self._address._replace(user=name, password=password)

    def revoke(self, name: str) -> Revoked:
        """Remove the user of a host, whose connections end, and its stream if nobody must read it any more.

        Raises:
            SettingsError: The user has other rights than a host.
            LogUnavailableError: The engine does not answer, or refuses.
        """
        stream, rules = PREFIX + check_user(name), self._rules(name)
        if rules is not None:
            if rules[b"keys"] != f"%W~{stream}".encode():
                raise SettingsError(f"the user {name} has other rights than a host: it is not revoked")
            self._call("ACL", "DELUSER", name)
            self._call("ACL", "SAVE")
        waiting = call_engine(self._address, lambda: self._waiting(stream))
        had_stream = bool(self._call("EXISTS", stream))
        if not waiting:
            self._call("DEL", stream)
        return Revoked(rules is not None, had_stream, waiting)

    def _waiting(self, stream: str) -> int:
        """Return the entries of a stream that a store must read or acknowledge."""
        if not (length := int(self._client.xlen(stream))):
            return 0
        for group in self._client.xinfo_groups(stream):
            if group["name"] == GROUP.encode():
                lag = length if group["lag"] is None else group["lag"]
                return int(lag + group["pending"])
        return length

    def _rules(self, name: str) -> dict[bytes, Any] | None:
        """Return the rules of a user, None if there is no such user."""
        found = self._call("ACL", "GETUSER", name)
        return None if found is None else dict(zip(found[::2], found[1::2], strict=True))

    def _call(self, *words: str) -> Any:
        """Return the reply to a command, as it is on the wire.

        Raises:
            LogUnavailableError: The engine does not answer, or refuses.
        """
        return call_engine(self._address, lambda: self._client.execute_command(*words))
