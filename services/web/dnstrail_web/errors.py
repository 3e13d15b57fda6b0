"""Errors of the API: those of lookups on the wire, as JSON with the status of HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from dnstrail.errors import DataNotFound, DataSourceError, DnstrailError, KeyNotSupported, LookupRefused, Unavailable
from dnstrail.process.terminal import json_line
from dnstrail.protocol.lookups import BAD_REQUEST, DATA_NOT_FOUND, KEY_NOT_SUPPORTED, OVERLOADED

UNAUTHORIZED: Final = "unauthorized"
FORBIDDEN: Final = "forbidden"
NOT_FOUND: Final = "not_found"
WRONG_METHOD: Final = "method_not_allowed"
TOO_LARGE: Final = "too_large"
WRONG_HOST: Final = "wrong_host"
INTERNAL: Final = "internal"
UNAVAILABLE: Final = "unavailable"
NO_HISTORY: Final = "no_history"
NO_FLEET: Final = "no_fleet"
STATUS: Final[Mapping[str, int]] = {
    BAD_REQUEST: 400,
    KEY_NOT_SUPPORTED: 400,
    UNAUTHORIZED: 401,
    FORBIDDEN: 403,
    DATA_NOT_FOUND: 404,
    NOT_FOUND: 404,
    WRONG_METHOD: 405,
    TOO_LARGE: 413,
    WRONG_HOST: 421,
    INTERNAL: 500,
    OVERLOADED: 503,
    UNAVAILABLE: 503,
    NO_HISTORY: 503,
    NO_FLEET: 404,
}
_OTHER: Final = 502  # an error of the wire that this version does not know
JSON: Final = "application/json"


class ApiError(DnstrailError):
    """A request that is not answered; `code` is one of STATUS. `fields` are further ones of the reply."""

    def __init__(self, code: str, message: str, **fields: Any) -> None:
        self.code = code
        self.fields = fields
        super().__init__(message)

    @property
    def status(self) -> int:
        """The status of HTTP."""
        return STATUS.get(self.code, _OTHER)

    def response(self) -> Response:
        """Return the reply."""
        return json_response({"ok": False, "error": self.code, "message": str(self), **self.fields}, self.status)


def json_response(value: object, status: int = 200) -> Response:
    """Return a reply with a value as JSON, in ASCII."""
    return Response(json_line(value), status, media_type=JSON)


def of_lookup(error: DataSourceError, server: str) -> ApiError:
    """Return the error of the API for one of a lookup at a server, which is named for people."""
    match error:
        case DataNotFound():
            flags = {"complete": error.complete, "history": error.history}
            asked = {"asked": dict(error.asked)} if error.asked else {}
            return ApiError(
                DATA_NOT_FOUND, str(error), **{name: one for name, one in flags.items() if not one}, **asked
            )
        case KeyNotSupported():
            return ApiError(KEY_NOT_SUPPORTED, str(error))
        case LookupRefused():
            return ApiError(error.code, str(error).removeprefix(f"{error.code}: "))
        case Unavailable():
            return ApiError(UNAVAILABLE, f"no {server} answers")  # a path of this host is nobody's concern
        case _:
            return ApiError(UNAVAILABLE, str(error))
