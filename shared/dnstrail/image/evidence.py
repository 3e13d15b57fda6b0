"""The evidence of an answer. It is not compiled, since mypyc shortens the annotations by which msgspec decodes it."""

from __future__ import annotations

import msgspec

from dnstrail.captured import Process


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
