"""The users of an engine: each may append to the stream of one host, and do nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from typing import Any, Final, NamedTuple

from dnstrail.errors import SettingsError
from dnstrail_fleet.log.contract import LogUnavailableError
from dnstrail_fleet.log.engine_address import SENTINEL, EngineAddress, check_user
from dnstrail_fleet.log.engine_client import call_engine, open_client
from dnstrail_fleet.log.valkey_log import GROUP, PREFIX

_SECRET: Final = 32  # random bytes of a password
_MAY: Final = ("+xadd", "+ping")
_MAY_ASK: Final = ("+sentinel|masters", "+ping")  # at a sentinel


class Revoked(NamedTuple):
    """What revoking a host changed: whether it had a user, and the entries of its stream that `wait` for the store.

    The stream is removed if none waits.
    """

    had_user: bool
    had_stream: bool
    waiting: int


class _Server:
    """The users of one server, which are those of no other: Valkey does not replicate them."""

    def __init__(self, address: EngineAddress, *, is_sentinel: bool = False) -> None:
        self.address = address
        self._client = open_client(address)
        self._is_sentinel = is_sentinel

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def has_user(self, name: str) -> bool:
        """Return whether it has the user of a host.

        Raises:
            SettingsError: The user has other rights than a host.
            LogUnavailableError: The server does not answer, or refuses.
        """
        rules = self.rules(name)
        if rules is None:
            return False
        if self._is_sentinel:
            is_host = {*rules[b"commands"].decode().split()} == {"-@all", *_MAY_ASK}
        else:
            is_host = rules[b"keys"] == f"%W~{PREFIX}{name}".encode()
        if not is_host:
            raise SettingsError(f"the user {name} has other rights than a host: it is not revoked")
        return True

    def rules(self, name: str) -> dict[bytes, Any] | None:
        """Return the rules of a user, None if there is no such user.

        Raises:
            LogUnavailableError: The server does not answer, or refuses.
        """
        found = self.call("ACL", "GETUSER", name)
        return None if found is None else dict(zip(found[::2], found[1::2], strict=True))

    def add(self, name: str, password: str) -> None:
        """Make the user of a host, also for the time after a restart.

        Raises:
            LogUnavailableError: The server does not answer, or refuses.
        """
        rules = _MAY_ASK if self._is_sentinel else (f"%W~{PREFIX}{name}", *_MAY)
        self.call("ACL", "SETUSER", name, "reset", "on", f">{password}", *rules)
        self.call("ACL", "SAVE")

    def remove(self, name: str) -> None:
        """Remove a user, whose connections end.

        Raises:
            LogUnavailableError: The server does not answer, or refuses.
        """
        self.call("ACL", "DELUSER", name)
        self.call("ACL", "SAVE")

    def call(self, *words: str) -> Any:
        """Return the reply to a command, as it is on the wire.

        Raises:
            LogUnavailableError: The server does not answer, or refuses.
        """
        return call_engine(self.address, lambda: self._client.execute_command(*words))


class EngineUsers:
    """The users of an engine, as one of its administrators sees them: at its primary, replicas and sentinels alike."""

    def __init__(self, address: EngineAddress) -> None:
        """Open a client; `address` names an administrator.

        Raises:
            SettingsError: The CA cannot be used, or the client is not installed.
        """
        self._address = address
        self._stack = ExitStack()
        self._client = self._stack.enter_context(closing(open_client(address)))

    def close(self) -> None:
        """Close the connections."""
        self._stack.close()

    def invite(self, name: str) -> EngineAddress:
        """Make the user of a host, who may append to the stream of this name; return its address.

        Raises:
            SettingsError: It can be no name of a host, or the engine has such a user.
            LogUnavailableError: A server does not answer, or refuses: none has the user then.
        """
        check_user(name)
        password = secrets.token_urlsafe(_SECRET)
        servers = self._servers()
        if any(one.rules(name) is not None for one in servers):
            raise SettingsError(f"the engine has a user {name}: name the host otherwise, or revoke this one first")
        for number, one in enumerate(servers, 1):
            try:
                one.add(name, password)
            except LogUnavailableError:
                for made in servers[:number]:
                    with suppress(LogUnavailableError):
                        made.remove(name)
                raise
        return self._address._replace(user=name, password=password)

    def revoke(self, name: str) -> Revoked:
        """Remove the user of a host, whose connections end, and its stream if nobody must read it any more.

        Raises:
            SettingsError: The user has other rights than a host.
            LogUnavailableError: A server does not answer, or refuses: the others have the user no more.
        """
        stream = PREFIX + check_user(name)
        failed: LogUnavailableError | None = None
        had_user = False
        for one in self._servers():
            try:
                if one.has_user(name):
                    one.remove(name)
                    had_user = True
            except LogUnavailableError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        waiting = call_engine(self._address, lambda: self._waiting(stream))
        had_stream = bool(call_engine(self._address, lambda: self._client.exists(stream)))
        if not waiting:
            call_engine(self._address, lambda: self._client.delete(stream))
        return Revoked(had_user, had_stream, waiting)

    def _servers(self) -> Sequence[_Server]:
        """Return the primary, its replicas and the sentinels, or the one server.

        Raises:
            LogUnavailableError: No sentinel answers, or it refuses.
        """
        if self._address.scheme != SENTINEL:
            return [self._open(self._address)]
        sentinels = [self._open(one, is_sentinel=True) for one in self._address.servers]
        return [*map(self._open, self._watched()), *sentinels]

    def _watched(self) -> list[EngineAddress]:
        """Return the primary and its replicas, also those that are away, as the sentinels know them.

        Raises:
            LogUnavailableError: No sentinel answers, or it refuses.
        """
        known = self._client.connection_pool.sentinel_manager
        name = self._address.primary

        def ask() -> list[tuple[str, int]]:
            primary = known.discover_master(name)  # whoever answers is the first of the sentinels from then on
            return [primary, *((one["ip"], one["port"]) for one in known.sentinels[0].sentinel_slaves(name))]

        found = call_engine(self._address, ask)
        return [self._address.servers[0]._replace(host=host, port=port) for host, port in found]

    def _open(self, address: EngineAddress, *, is_sentinel: bool = False) -> _Server:
        return self._stack.enter_context(closing(_Server(address, is_sentinel=is_sentinel)))

    def _waiting(self, stream: str) -> int:
        """Return the entries of a stream that a store must read or acknowledge."""
        if not (length := int(self._client.xlen(stream))):
            return 0
        for group in self._client.xinfo_groups(stream):
            if group["name"] == GROUP.encode():
                lag = length if group["lag"] is None else group["lag"]
                return int(lag + group["pending"])
        return length
