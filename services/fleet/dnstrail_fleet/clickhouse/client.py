"""Statements to a ClickHouse server, over HTTP with TLS. Values travel apart from statements, and replies are input."""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException, HTTPResponse, HTTPSConnection, RemoteDisconnected
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import msgspec

from dnstrail_fleet.clickhouse.address import ClickHouseAddress
from dnstrail_fleet.log.engine_client import trusting
from dnstrail_fleet.lookups.contract import StoreUnavailableError

#: bytes of a reply of ClickHouse -> the lookup is refused, or the write is repeated
MOST_REPLY: Final = 64 << 20
#: bytes of one list of values in a statement -> it is sent in parts
MOST_VALUES: Final = 1 << 16
_PART: Final = 1 << 16  # bytes that are read at once
_MOST_TEXT: Final = 300  # characters of an error that are shown
_SLOW: Final = 60.0  # seconds for a statement of the writer
_MARGIN: Final = 0.2  # seconds after which a statement should have ended
_FORMAT: Final = "FORMAT JSONCompactEachRow"
_SETTINGS: Final = {
    "wait_end_of_query": "1",  # an error has a status then, also one that comes late
    "output_format_json_quote_64bit_integers": "0",
    "async_insert": "0",  # what is acknowledged is stored
    "mutations_sync": "1",
    "max_partitions_per_insert_block": "0",  # a host may send any days
}
# The reasons of errors by ClickHouse's numbers, and their remedies.
_REASONS: Final = {
    "60": ("tables", "its tables are missing: does `dnstrail fleet store` write to it?"),
    "81": ("database", "it has no such database: CREATE DATABASE"),
    "159": ("slow", "it took too long"),
    "193": ("password", "it does not know this user with this password"),
    "194": ("password", "it does not know this user with this password"),
    "241": ("full", "it has too little memory"),
    "243": ("full", "its disk is full"),
    "252": ("slow", "it merges more slowly than stores write"),
    "497": ("permission", "compare the GRANT of the user with docs/use/fleet.md"),
    "516": ("password", "it does not know this user with this password"),
}
_T = TypeVar("_T")
_encode_lines = msgspec.json.Encoder().encode_lines


class ClickHouseClient:
    """One connection, which connects at the first statement, and anew after an error."""

    def __init__(self, address: ClickHouseAddress, timeout: float = _SLOW) -> None:
        """Take an address; `timeout` is the time in seconds for one statement.

        Raises:
            SettingsError: The CA is no certificate.
        """
        self._address = address
        self._timeout = timeout
        self._context = trusting(address.authority, str(address))
        self._connection: HTTPSConnection | None = None

    def __str__(self) -> str:
        return str(self._address)

    @property
    def is_open(self) -> bool:
        """Whether a statement was answered, and none failed since."""
        return self._connection is not None

    def select(self, statement: str, shape: type[_T], **values: object) -> list[_T]:
        """Return the rows of a SELECT, each in the form of a tuple `shape`.

        `values` are those of its parameters: `{name:Type}`.

        Raises:
            StoreUnavailableError: The server does not answer, refuses, or answers otherwise.
        """
        body = self._post(*_form(f"{statement} {_FORMAT}", values), max_execution_time=str(self._timeout))
        try:
            return msgspec.json.Decoder(shape).decode_lines(body)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise self._error("reply", f"{error}: is it a ClickHouse server?") from error

    def insert(self, table: str, columns: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert rows into columns of a table.

        Raises:
            StoreUnavailableError: As far as is known, some are missing.
        """
        self._post(_encode_lines(rows), "application/octet-stream", query=f"INSERT INTO {table} ({columns}) {_FORMAT}")

    def change(self, statement: str, **values: object) -> None:
        """Execute a statement that changes something.

        Raises:
            StoreUnavailableError: As far as is known, it was not executed.
        """
        self._post(*_form(statement, values))

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _post(self, body: bytes, kind: str, **options: str) -> bytes:
        url = "/?" + urlencode({"database": self._address.database, **_SETTINGS, **options})
        headers = {
            "Content-Type": kind.encode(),
            "X-ClickHouse-User": self._address.user.encode(),
            "X-ClickHouse-Key": self._address.password.encode(),
        }
        try:
            status, code, reply = self._exchange(url, body, headers)
        except ssl.SSLCertVerificationError as error:
            raise self._error("certificate", f"{error}: name the CA that signed its certificate: ca=FILE") from error
        except (OSError, HTTPException, ValueError) as error:
            raise self._error(
                "away", f"{error or type(error).__name__}: is it running, with TLS at this port?"
            ) from error
        if status == 200:  # noqa: PLR2004 - RFC 9110
            return reply
        reason, remedy = _REASONS.get(code, ("refused", "see its log"))
        text = reply[: 4 * _MOST_TEXT].decode("utf-8", "replace")[:_MOST_TEXT]
        raise self._error(reason, f"{text!r}: {remedy}")

    def _exchange(self, url: str, body: bytes, headers: dict[str, bytes]) -> tuple[int, str, bytes]:
        """Return status, ClickHouse's number of an error, and the reply."""
        deadline = time.monotonic() + self._timeout + _MARGIN
        is_used = self._connection is not None
        try:
            response = self._sent(url, body, headers)
        except (RemoteDisconnected, BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            if not is_used:
                raise
            self.close()  # the server closes idle connections
            response = self._sent(url, body, headers)
        parts, size = [], 0
        with response:
            while part := response.read1(_PART):
                parts.append(part)
                size += len(part)
                if size > MOST_REPLY:
                    raise ValueError(f"a reply of more than {MOST_REPLY} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError("timed out")
        code = response.getheader("X-ClickHouse-Exception-Code", "")
        return response.status, code, b"".join(parts)

    def _sent(self, url: str, body: bytes, headers: dict[str, bytes]) -> HTTPResponse:
        if self._connection is None:
            place = self._address.host, self._address.port
            self._connection = HTTPSConnection(*place, timeout=self._timeout + _MARGIN, context=self._context)
        self._connection.request("POST", url, body, headers)
        return self._connection.getresponse()

    def _error(self, reason: str, text: str) -> StoreUnavailableError:
        self.close()
        return StoreUnavailableError(str(self._address), f"clickhouse-{reason}", " ".join(text.split()))


def _form(statement: str, values: Mapping[str, object]) -> tuple[bytes, str]:
    """Return a statement with its values as a body, and the type of its content: a URL has too little room for them."""
    fields = {"query": statement, **{f"param_{name}": parameter_text(value) for name, value in values.items()}}
    boundary = secrets.token_hex(16)  # a stranger who writes a value does not know it
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in fields.items()
    ]
    body = f"{''.join(parts)}--{boundary}--\r\n".encode(errors="replace")
    return body, f"multipart/form-data; boundary={boundary}"


def parameter_text(value: object) -> str:
    """Return the value of a parameter: a text is escaped, and so are those of lists and tuples, which are quoted."""
    return _escaped(value) if isinstance(value, str) else _literal(value)


def in_parts(values: Sequence[_T]) -> Iterator[list[_T]]:
    """Yield values in lists that each fit into a statement."""
    part, size = list[_T](), 0
    for value in values:
        length = len(_literal(value).encode()) + 1
        if part and size + length > MOST_VALUES:
            yield part
            part, size = [], 0
        part.append(value)
        size += length
    if part:
        yield part


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return f"'{_escaped(value)}'"
    if isinstance(value, list):
        return f"[{','.join(map(_literal, value))}]"
    if isinstance(value, tuple):
        return f"({','.join(map(_literal, value))})"
    return str(value)


def _escaped(text: str) -> str:
    for one, instead in (("\\", "\\\\"), ("'", "\\'"), ("\t", "\\t"), ("\n", "\\n"), ("\0", "\\0")):
        text = text.replace(one, instead)
    return text
