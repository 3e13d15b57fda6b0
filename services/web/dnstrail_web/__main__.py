"""The process of the worker of the page: `dnstrail web`, or `python -m dnstrail_web`."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import lookups_address
from dnstrail.client import LookupClient
from dnstrail.errors import SettingsError
from dnstrail.metrics.option import LOOPBACK, metrics_option, observer_of, serving_metrics
from dnstrail.pipeline import HISTORY
from dnstrail.process.clock import SystemClock
from dnstrail.process.command import (
    HELP,
    NONE,
    check_file_path,
    check_local_address,
    examples,
    log_level_option,
    run_command,
    run_dir_option,
    user_option,
)
from dnstrail.process.config_file import config_option
from dnstrail.process.heartbeat import Heartbeat
from dnstrail.process.log import configure
from dnstrail.process.privileges import drop_privileges
from dnstrail.process.run_dir import user_of_worker
from dnstrail.process.signals import stop_on_signals
from dnstrail.protocol.facts import FactFeed
from dnstrail.protocol.losses import LossReporter, worker_name
from dnstrail.users import User

if TYPE_CHECKING:
    from dnstrail_web.feed import Feed
    from dnstrail_web.worker import WebWorker

PORT = 8053
_EXAMPLES = examples(
    "dnstrail web",
    "dnstrail web --listen 127.0.0.1:9000",
    "dnstrail web --listen 192.0.2.7:8053 --tls-cert cert.pem --tls-key key.pem --host dns.example",
)
_PORTS = 1 << 16
_TIMEOUT = 2.0  # seconds for a lookup


def convert_listen(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """Return address and port; a port alone is one of the loopback interface. A name is refused, not resolved."""
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    try:
        address = str(ipaddress.ip_address(host.strip("[]") or LOOPBACK))
    except ValueError as error:
        raise click.BadParameter(f"{host!r} is no address") from error
    if not (port.isascii() and port.isdigit() and len(port) <= len(str(_PORTS)) and int(port) < _PORTS):
        raise click.BadParameter(f"{port!r} is no port")
    return address, int(port)


@click.command(epilog=_EXAMPLES, context_settings=HELP)
@config_option("web")
@click.option(
    "--listen",
    metavar="[ADDRESS:]PORT",
    default=str(PORT),
    show_default=True,
    callback=convert_listen,
    help="Serve the page here (without ADDRESS: 127.0.0.1).",
)
@click.option(
    "--host", "hosts", multiple=True, metavar="NAME", help="A further name of this server in addresses (repeatable)."
)
@click.option(
    "--tls-cert",
    type=click.Path(path_type=Path),
    callback=check_file_path,
    help="Serve TLS with this certificate (PEM, with its chain); other addresses than loopback need it.",
)
@click.option("--tls-key", type=click.Path(path_type=Path), callback=check_file_path, help="Key of the certificate.")
@click.option(
    "--behind-proxy", is_flag=True, help="Allow other addresses without TLS: a proxy in front of this server adds it."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, readable=False),
    default=HISTORY,
    show_default=True,
    help="Folder of the history, if its user is that of this worker; it is only read (none: no history).",
)
@click.option(
    "--findings",
    metavar="ADDRESS",
    callback=check_local_address,
    help="Receive findings that `dnstrail findings --to pub:ADDRESS` publishes.",
)
@click.option(
    "--mutes",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=check_file_path,
    help="File of muted findings, which `dnstrail signatures --mutes` obeys; the only file that the page changes.",
)
@click.option(
    "--cache",
    metavar="ADDRESS",
    callback=check_local_address,
    help="Address of the cache, with facts.sock beside it (default: lookups.sock in the run-dir).",
)
@metrics_option
@user_option
@run_dir_option
@log_level_option
def command(
    listen: tuple[str, int],
    hosts: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    behind_proxy: bool,
    folder: Path,
    findings: str | None,
    mutes: Path | None,
    cache: str | None,
    metrics: tuple[str, int] | None,
    user: User | None,
    run_dir: Path,
    log_level: str,
) -> None:
    """Serve a page that shows why a connection has its name, and the same as an API.

    Only who has the link may look: it is printed, and kept in web.link in the run-dir. `dnstrail open` prints it again.
    """
    configure("web", log_level)
    tls = _tls_of(listen, tls_cert, tls_key, behind_proxy=behind_proxy)
    try:
        from dnstrail_web.server import bind
    except ImportError as error:
        raise SettingsError(f"{error}: the page comes with the extra `web`: pip install 'dnstrail[web]'") from error

    observer = observer_of(metrics, "dnstrail_web")
    listener = bind(*listen)
    user = user_of_worker(user, run_dir)
    lookups = cache or lookups_address(run_dir)
    client = LookupClient(lookups, timeout=_TIMEOUT)
    assembled = _Assembly(client, folder, mutes, findings, listener, tls, listen[0], hosts, run_dir)
    drop_privileges(user, run_dir)
    stop = stop_on_signals()
    bus = ZmqBus()
    with closing(bus), serving_metrics(metrics, Heartbeat().beat) as watched:
        assembled.serve(bus, lookups, stop, watched.beat, partial(observer, watched.observe))


class _Assembly:
    """The parts of one worker, made with the rights of the start."""

    def __init__(
        self,
        client: LookupClient,
        folder: Path,
        mutes: Path | None,
        findings: str | None,
        listener: socket.socket,
        tls: tuple[Path, Path] | None,
        address: str,
        hosts: tuple[str, ...],
        run_dir: Path,
    ) -> None:
        from dnstrail_web.access import Access, own_hosts
        from dnstrail_web.api import Api, State
        from dnstrail_web.app import Application
        from dnstrail_web.feed import Feed
        from dnstrail_web.health import Health
        from dnstrail_web.muting import Muting
        from dnstrail_web.past import PastRecords
        from dnstrail_web.server import STATIC, WebServer

        port = listener.getsockname()[1]
        scheme = "http" if tls is None else "https"
        self._clock = SystemClock()
        self._health = Health()
        self._findings = findings
        self._kept: deque[dict[str, Any]] = deque(maxlen=1000)
        names = [*_names_of(address), *hosts]
        self.access = Access(
            run_dir,
            f"{scheme}://{_in_link(hosts, address)}:{port}",
            port,
            self._clock.monotonic,
            secure=tls is not None,
        )
        self.feed = feed = Feed()
        kept = self._kept if findings is not None else None
        muting = Muting(mutes, self._clock.wall)
        past = PastRecords(None if folder == Path(NONE) else folder.absolute())
        state = State(client, past, feed, self._health, muting, kept, self._clock, socket.gethostname())
        application = Application(Api(state), self.access, own_hosts(names, port), scheme, STATIC)
        self.server = WebServer(application, self.access, feed, listener, tls)

    def serve(
        self,
        bus: ZmqBus,
        lookups: str,
        stop: threading.Event,
        beat: Callable[[], None],
        observe: Callable[[WebWorker, Feed], None],
    ) -> None:
        """Serve until the stop signal is set."""
        from dnstrail_web.worker import FINDING, TOPICS, WebWorker, run

        own = LookupClient(lookups, timeout=_TIMEOUT / 4, bus=bus)
        counters = LookupClient(lookups, timeout=_TIMEOUT / 4, bus=bus)
        worker = WebWorker(
            FactFeed(bus, lookups, TOPICS),
            None if self._findings is None else bus.subscriber([self._findings], [FINDING]),
            self.server,
            self._health,
            self._kept,
            self._clock,
            losses=LossReporter(partial(own.report_losses, worker_name("web"))),
            lookups=counters,
        )
        observe(worker, self.feed)
        click.echo(f"dnstrail: the page: {self.access.new_link()}", err=True)
        self.server.start()
        try:
            run(worker, stop, beat=lambda: beat() if self.server.runs else None)
        finally:
            self.server.close()
            self.access.close()


def _tls_of(
    listen: tuple[str, int], cert: Path | None, key: Path | None, *, behind_proxy: bool
) -> tuple[Path, Path] | None:
    """Return the files of TLS; None: plain HTTP.

    Raises:
        SettingsError: others could read along.
    """
    if (cert is None) != (key is None):
        raise SettingsError("--tls-cert and --tls-key go together")
    if cert is not None and key is not None:
        return cert, key
    if not (ipaddress.ip_address(listen[0]).is_loopback or behind_proxy):
        raise SettingsError(
            f"--listen {listen[0]}: others could read along: use --tls-cert and --tls-key, or --behind-proxy"
        )
    return None


def _names_of(address: str) -> list[str]:
    """Return the names by which a browser reaches an address that is bound."""
    one = ipaddress.ip_address(address)
    if one.is_unspecified:
        return ["localhost", LOOPBACK, "::1"]
    return ["localhost", address] if one.is_loopback else [address]


def _in_link(hosts: tuple[str, ...], address: str) -> str:
    """Return the name of this server in its link."""
    if hosts:
        return hosts[0]
    if ipaddress.ip_address(address).is_unspecified:
        return LOOPBACK
    return f"[{address}]" if ":" in address else address


if __name__ == "__main__":
    os.umask(0o077)
    run_command(command, "dnstrail web")
