"""The evidence of an answer: who asked, and who answered. It is not compiled: msgspec decodes by its annotations."""

from __future__ import annotations

from typing import Any

import msgspec

from dnstrail.captured import Process
from dnstrail.dns.names import known_address

_NOBODY = Process()


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """The asker of a question, its type, and the server that answered; answers with equal evidence share one object.

    `process` is the asker, never the server. `client` and `server` are packed addresses, b"" if unknown. `matched`
    states that the query was captured. `foreign` means the same as in Circumstances. `host` is the host whose probe
    captured the answer, "" if unknown.
    """

    type: int
    process: Process | None
    client: bytes
    server: bytes
    matched: bool
    foreign: bool | None
    host: str = ""


class AskedBy(msgspec.Struct, frozen=True, kw_only=True):
    """The client that asked, with its process, and the server that answered. Unknown fields are "" or 0.

    `host` is the host whose probe captured the answer. A reply contains it where the cache follows several hosts, and
    `container_labels` where the container has some.
    """

    client: str
    server: str
    process_id: int
    process_name: str
    executable: str
    container_id: str
    container_name: str
    container_image: str
    unit: str
    slice: str
    host: str | msgspec.UnsetType = msgspec.UNSET
    container_labels: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


def asked_by(evidence: Evidence) -> dict[str, Any]:
    """Return the fields of AskedBy."""
    process = evidence.process or _NOBODY
    return {
        "client": known_address(evidence.client),
        "server": known_address(evidence.server),
        "process_id": process.pid,
        "process_name": process.name,
        "executable": process.path,
        "container_id": process.container_id,
        "container_name": process.container_name,
        "container_image": process.container_image,
        "unit": process.unit,
        "slice": process.slice,
        "host": evidence.host or msgspec.UNSET,
        "container_labels": dict(process.container_labels) or msgspec.UNSET,
    }
