"""A service with a resolver that writes dnstap: a test states which questions it answered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builders.dnstap_builders import START, WHOLE, Writer, first_writer, framed, tap
from builders.talk import answer, query
from dnstrail.bus.ipc import lookups_address
from live.processes import run_dir, started, wait_until
from live.workers import Asker, asker, response


@contextmanager
def resolver() -> Iterator[tuple[Path, Asker, Writer]]:
    """Run a cache, and a probe to which a resolver writes dnstap."""
    with (
        run_dir() as folder,
        started("cache", "--run-dir", folder),
        started("probe", "--run-dir", folder, "--capture", f"dnstap:{folder}/dnstap.sock", "--subscribers", "1"),
        asker(lookups_address(folder)) as client,
    ):
        wait_until(lambda: client.ask("health")["data"]["turns"], "the probe")
        writer = first_writer(folder / "dnstap.sock")
        writer.send(START)
        try:
            yield folder, client, writer
        finally:
            writer.close()


def resolved(number: int, name: str = "") -> bytes:
    """Return the question of a client, and its answer, in dnstap with times of now; each second name does not exist."""
    name, id_, (seconds, rest) = name or f"n{number}.example", number & 0xFFFF, divmod(time.time_ns(), 10**9)
    reply = answer("192.0.2.7", name=name, id_=id_) if number % 2 else response(name, id_=id_, rcode="NXDOMAIN")
    ends = {**WHOLE, "socket_protocol": "UDP", "query_address": bytes([192, 0, 2, 100 + number % 100])}
    times = {
        f"{kind}_time_{unit}": at for kind in ("query", "response") for unit, at in (("sec", seconds), ("nsec", rest))
    }
    ends |= times
    return framed(tap("CLIENT_QUERY", query_message=query(name, id_=id_), **ends), tap(response_message=reply, **ends))
