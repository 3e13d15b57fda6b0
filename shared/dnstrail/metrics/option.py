"""The option `--metrics` of a worker, and the server that it starts."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from dnstrail.metrics.board import Observe

Beat = Callable[[], None]
LOOPBACK = "127.0.0.1"
_PORTS = 1 << 16


class Watched(NamedTuple):
    """The calls of a worker: `beat` while its main loop runs, and `observe` before it. Both may do nothing."""

    beat: Beat
    observe: Observe


def _convert(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """Return address and port. A port alone is one of the loopback interface; a name is refused, not resolved."""
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    host = host.strip("[]") or LOOPBACK
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError as error:
        raise click.BadParameter(f"{host!r} is no address") from error
    if not port.isascii() or not port.isdigit() or int(port) >= _PORTS:
        raise click.BadParameter(f"{port!r} is no port")
    import dnstrail.metrics.server  # noqa: F401 - not needed without the option, and not readable later

    return address, int(port)


metrics_option = click.option(
    "--metrics",
    metavar="[ADDRESS:]PORT",
    envvar="DNSTRAIL_METRICS",
    callback=_convert,
    help="Serve /metrics, /healthz and /readyz over HTTP here (default: do not; without ADDRESS: 127.0.0.1).",
)


def observer_of(address: tuple[str, int] | None, worker: str) -> Callable[..., None]:
    """Return `observe` of the module `metrics` of a worker's package; None: a function that does nothing.

    It is imported before the change of user, and imports prometheus_client, which is for metrics alone.
    """
    if address is None:
        return lambda *_: None
    observe: Callable[..., None] = import_module(f"{worker}.metrics").observe
    return observe


@contextmanager
def serving_metrics(
    address: tuple[str, int] | None, beat: Beat, wake: Callable[[], None] = lambda: None
) -> Iterator[Watched]:
    """Serve the metrics of a worker until the end of the block; `beat` is its heartbeat. None: serve none.

    `wake` ends the wait of a main loop that waits for longer than a scrape does.

    The thread has the rights that this thread has now.

    Raises:
        BusError: the address cannot be bound.
    """
    if address is None:
        yield Watched(beat, lambda _collect, _unready: None)
        return
    import structlog

    from dnstrail.metrics.board import Board
    from dnstrail.metrics.server import MetricsServer

    board = Board(wake=wake)
    server = MetricsServer(address, board)

    def both() -> None:
        beat()
        board.turn()

    server.start()
    structlog.get_logger().info("metrics_served", address=address[0], port=server.port)
    try:
        yield Watched(both, board.observe)
    finally:
        server.close()
