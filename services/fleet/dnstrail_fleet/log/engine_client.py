"""A client of Valkey over TLS, and what its errors mean."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final, TypeVar

from dnstrail.errors import SettingsError
from dnstrail_fleet.log.contract import LogUnavailableError
from dnstrail_fleet.log.engine_address import SENTINEL, VALKEY, EngineAddress

_TIMEOUT: Final = 2.0  # seconds to connect, and for a reply
# The reasons of errors, and their remedies.
AWAY: Final = ("away", "is it running?")
CERTIFICATE: Final = ("certificate", "name the CA that signed its certificate: ca=FILE")
PASSWORD: Final = ("password", "the engine does not know this user with this password")
PERMISSION: Final = ("permission", "the user may not do this: compare its rules with docs/use/fleet.md")
NO_DISK: Final = ("read-only", "it cannot write to its disk")
NO_REPLICAS: Final = ("read-only", "it has too few replicas")
_REASONS: Final = (  # the class of an error, or a part of its text
    ("CERTIFICATE_VERIFY_FAILED", *CERTIFICATE),
    ("WRONG_VERSION_NUMBER", "certificate", "this port has no TLS: name its tls-port"),
    ("AuthenticationError", *PASSWORD),
    ("No master found", "away", "do the sentinels answer, and watch a primary of this name?"),
    ("NoPermissionError", *PERMISSION),
    ("OutOfMemoryError", "full", "raise its maxmemory, or start the store"),
    ("ReadOnlyError", "read-only", "it is a replica: name the primary"),
    ("MISCONF", *NO_DISK),
    ("NOREPLICAS", *NO_REPLICAS),
    ("NOGROUP", "reset", "it was emptied, and is read from the begin"),
    ("ACL file", "users", "start it with an aclfile: it forgets its users at a restart otherwise"),
)
_T = TypeVar("_T")


def open_client(address: EngineAddress, connected: Callable[[Any], None] = lambda _: None) -> Any:
    """Return a client. It connects at the first call, and anew after an error: to the primary that the sentinels name.

    `connected` receives each new connection before its first command.

    Raises:
        SettingsError: The engine is another one, the CA cannot be used, or the client is not installed.
    """
    if address.scheme not in (VALKEY, SENTINEL):
        raise SettingsError(f"{address}: this command needs Valkey")
    try:
        import valkey  # noqa: PLC0415 - an extra, which only the fleet needs
        from valkey import sentinel  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError("the client of Valkey is missing: pip install 'dnstrail[fleet]'") from error

    def connect(connection: Any) -> None:
        connection.on_connect()
        connected(connection)

    options: dict[str, Any] = {
        "username": address.user,
        "password": address.password,
        "ssl_check_hostname": True,
        "socket_timeout": _TIMEOUT,
        "socket_connect_timeout": _TIMEOUT,
        "valkey_connect_func": connect,
    }
    to_server, to_primary = _connection_classes(address)
    if address.scheme == VALKEY:
        pool = valkey.ConnectionPool(connection_class=to_server, host=address.host, port=address.port, **options)
        return valkey.Valkey.from_pool(pool)
    make: Any = sentinel.Sentinel
    sentinels = make(())
    sentinels.sentinels = [open_client(one) for one in address.servers]
    return sentinels.master_for(address.primary, connection_class=to_primary, **options)


def call_engine(address: EngineAddress, call: Callable[[], _T]) -> _T:
    """Return the result of a call.

    Raises:
        LogUnavailableError: The engine does not answer, or refuses.
    """
    from valkey.exceptions import ValkeyError  # noqa: PLC0415 - an extra, which only the fleet needs

    try:
        return call()
    except (ValkeyError, OSError) as error:
        kind, text = type(error).__name__, str(error)
        reason, remedy = next((found for mark, *found in _REASONS if mark in (kind, text) or mark in text), AWAY)
        raise LogUnavailableError(str(address), reason, f"{text}: {remedy}") from error


def trusting(authority: str, server: str) -> ssl.SSLContext:
    """Return what checks the certificate of a server by an authority alone (PEM).

    Raises:
        SettingsError: The authority is no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=authority)
    except (ssl.SSLError, ValueError) as error:
        raise SettingsError(f"the CA of {server}: {error}: its file must contain a certificate in PEM form") from error
    return context


def _connection_classes(address: EngineAddress) -> tuple[type[Any], type[Any]]:
    """Return connections to a server, and to the primary that sentinels name. They trust one authority alone.

    Those of the library trust all authorities of the system, too.

    Raises:
        SettingsError: The authority is no certificate.
    """
    from valkey import SSLConnection  # noqa: PLC0415 - an extra, which only the fleet needs
    from valkey.sentinel import SentinelManagedConnection  # noqa: PLC0415

    context = trusting(address.authority, str(address))

    class ServerConnection(SSLConnection):
        def _wrap_socket_with_ssl(self, sock: Any) -> Any:
            return context.wrap_socket(sock, server_hostname=self.host)

    class PrimaryConnection(SentinelManagedConnection, ServerConnection):
        pass

    return ServerConnection, PrimaryConnection
