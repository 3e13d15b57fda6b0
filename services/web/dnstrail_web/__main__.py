"""The process of the worker of the page: `dnstrail web`, or `python -m dnstrail_web`."""

from __future__ import annotations

import ipaddress
import shlex
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import click

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import lookups_address, sole_server
from dnstrail.errors import SettingsError
from dnstrail.metrics.option import LOOPBACK, metrics_option, observer_of, serving_metrics
from dnstrail.pipeline import HISTORY
from dnstrail.process.command import (
    HELP,
    NONE,
    cache_with_facts_option,
    check_address,
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
from dnstrail.users import User

PORT = 8053
_EXAMPLES = examples(
    "dnstrail web",
    "dnstrail web --listen 127.0.0.1:9000",
    "dnstrail web --listen 192.0.2.7:8053 --tls-cert cert.pem --tls-key key.pem --host dns.example",
)
_PORTS = 1 << 16
_DEFAULT_PORTS = {"http": 80, "https": 443}


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


def convert_origin(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return an origin as browsers write it: in small letters, without the default port."""
    if value is None:
        return None
    try:
        found = urlsplit(value.lower().removesuffix("/"))
        port, host = found.port, found.hostname or ""
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no origin") from error
    name = f"[{host}]" if ":" in host else host
    netloc = name if port is None else f"{name}:{port}"
    if found.scheme not in ("http", "https") or not host or found.geturl() != f"{found.scheme}://{netloc}":
        raise click.BadParameter(f"{value!r} is no origin, as https://dns.example")
    if found.scheme == "http" and host != "localhost" and not _is_loopback(host):
        raise click.BadParameter(f"{value!r}: others could read along: use https")
    return f"{found.scheme}://{name if port == _DEFAULT_PORTS[found.scheme] else netloc}"


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
    "--behind-proxy",
    metavar="ORIGIN",
    callback=convert_origin,
    help="Allow other addresses without TLS: a proxy in front of this server adds it, as https://dns.example.",
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
@cache_with_facts_option
@click.option(
    "--store",
    metavar="ADDRESS",
    callback=check_address,
    help="Store of the fleet: all readers of the page may read what it keeps (default: no fleet).",
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
    behind_proxy: str | None,
    folder: Path,
    findings: str | None,
    mutes: Path | None,
    cache: str | None,
    store: str | None,
    metrics: tuple[str, int] | None,
    user: User | None,
    run_dir: Path,
    log_level: str,
) -> None:
    """Serve a page that shows why a connection has its name, and the same as an API.

    Only people with the link can open the page. It is kept in web.link in the run-dir, and `dnstrail open` prints it.
    This command prints it, too, if stderr is a terminal.
    """
    configure("web", log_level)
    tls = _tls_of(listen, tls_cert, tls_key, behind_proxy=behind_proxy is not None)
    try:
        from dnstrail_web.assembly import Place, WebAssembly
        from dnstrail_web.worker import run
    except ImportError as error:
        raise SettingsError(f"{error}: the page comes with the extra `web`: pip install 'dnstrail[web]'") from error

    observer = observer_of(metrics, "dnstrail_web")
    user = user_of_worker(user, run_dir)
    history = None if folder == Path(NONE) else folder.absolute()
    place = Place(listen, hosts, tls, run_dir, cache or lookups_address(run_dir), behind_proxy, store)
    assembly = WebAssembly(place, history, mutes, findings)  # with the rights of the start
    drop_privileges(user, run_dir)
    with sole_server(f"ipc://{run_dir}/web"):
        pass  # locked until this process ends: one server writes the link
    stop = stop_on_signals()
    bus = ZmqBus()
    with closing(bus), serving_metrics(metrics, Heartbeat().beat) as watched:
        worker = assembly.worker(bus)
        observer(watched.observe, worker, assembly.feed)
        link = assembly.access.new_link()
        opening = f"`dnstrail open --run-dir {shlex.quote(str(run_dir))}` prints its link"
        where = link if sys.stderr.isatty() else opening  # others may read a log
        click.echo(f"dnstrail: the page: {where}", err=True)
        with assembly.serving() as server:
            run(worker, stop, beat=lambda: watched.beat() if server.runs else None)


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
    if not (_is_loopback(listen[0]) or behind_proxy):
        raise SettingsError(
            f"--listen {listen[0]}: others could read along: use --tls-cert and --tls-key, or --behind-proxy"
        )
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    run_command(command, "dnstrail web")
