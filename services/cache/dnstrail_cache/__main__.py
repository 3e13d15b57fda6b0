"""The cache as a process: `dnstrail cache`, `python -m dnstrail_cache`."""

from __future__ import annotations

import gc
from contextlib import closing
from functools import partial
from pathlib import Path

import click

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import (
    conflicts_address,
    events_address,
    facts_address,
    history_address,
    lookups_address,
    socket_path,
)
from dnstrail.bus.keys import default_keys, keys_for
from dnstrail.bus.remote_host import key_digest
from dnstrail.bus.tcp import local_address
from dnstrail.errors import SettingsError
from dnstrail.image import Bounds
from dnstrail.metrics.option import metrics_option, observer_of, serving_metrics
from dnstrail.process.clock import SystemClock
from dnstrail.process.command import (
    HELP,
    check_address,
    check_dnscache,
    check_file_path,
    check_local_address,
    examples,
    log_level_option,
    probes_option,
    run_command,
    run_dir_option,
    subscribe_option,
    user_option,
)
from dnstrail.process.config_file import config_option
from dnstrail.process.heartbeat import Heartbeat
from dnstrail.process.identity import host_identity
from dnstrail.process.log import configure
from dnstrail.process.privileges import drop_privileges
from dnstrail.process.run_dir import user_of_worker
from dnstrail.process.signals import stop_on_signals
from dnstrail.protocol.replays import TurnRequests, replay_address
from dnstrail.settings import parse_dnscache
from dnstrail.users import User
from dnstrail_cache.facts import FactsPublisher
from dnstrail_cache.lookups.past_lookups import PastLookups
from dnstrail_cache.worker import TOPICS, run

_EXAMPLES = examples(
    "dnstrail cache",
    "dnstrail cache --dnscache size=20000,grace=120",
    "dnstrail cache --state /var/lib/dnstrail/state",
    "dnstrail cache --run-dir /run/dnstrail --user 990:990",
)


@click.command(epilog=_EXAMPLES, context_settings=HELP)
@config_option("cache")
@subscribe_option
@click.option(
    "--serve",
    multiple=True,
    callback=check_address,
    help="Address for lookups (repeatable; default: lookups.sock in the run-dir).",
)
@click.option(
    "--dnscache", multiple=True, metavar="OPTIONS", callback=check_dnscache, help="As in `dnstrail --dnscache help`."
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False, readable=False),
    callback=check_file_path,
    help="File that keeps the image over a restart, with live probes (default: none).",
)
@click.option("--findings", callback=check_address, help="Address that also receives dns_answer_conflict events.")
@click.option(
    "--facts",
    multiple=True,
    callback=check_address,
    help="Address at which facts such as dns_transaction are published (repeatable; default: facts.sock beside "
    "lookups.sock).",
)
@click.option(
    "--history",
    callback=check_local_address,
    help="Address of the history, for lookups of a past time (default: history.sock beside lookups.sock).",
)
@probes_option
@metrics_option
@user_option
@run_dir_option
@log_level_option
def command(
    subscribe: tuple[str, ...],
    serve: tuple[str, ...],
    dnscache: tuple[str, ...],
    state: Path | None,
    findings: str | None,
    facts: tuple[str, ...],
    history: str | None,
    probes: int,
    metrics: tuple[str, int] | None,
    user: User | None,
    run_dir: Path,
    log_level: str,
) -> None:
    """Keep the image of names and addresses, and answer lookups."""
    configure("cache", log_level)
    observer = observer_of(metrics, "dnstrail_cache")
    settings = parse_dnscache(dnscache)
    if not settings.enabled:
        raise SettingsError("dnscache none: the cache is disabled, so there is none to run")
    serve = serve or (lookups_address(run_dir),)
    address = local_address(serve, lookups_address(run_dir))
    folder = socket_path(address).parent
    facts = facts or (facts_address(address),)
    keys = keys_for(default_keys(), [*serve, *subscribe, *facts, findings or ""])
    identity = host_identity()
    if keys is not None:
        identity = identity._replace(key=key_digest(keys.public))
    drop_privileges(user_of_worker(user, folder), folder)
    stop = stop_on_signals()
    gc.disable()  # the cache makes no reference cycles, and a collection over its image delays all lookups
    bus = ZmqBus(keys)
    stop.on_set = bus.wake
    with closing(bus), serving_metrics(metrics, Heartbeat().beat, bus.wake) as watched:
        server = bus.server(*serve)
        published = bus.publisher(*facts, lossless=False), bus.server(*map(replay_address, facts))
        publishers = subscribe or (events_address(run_dir),)
        subscriber = bus.subscriber(publishers, TOPICS)
        replays = [bus.requester(replay_address(address)) for address in publishers]
        bounds = Bounds(
            size=settings.size,
            grace=settings.grace,
            history=settings.history,
            relations=settings.relations,
            probes=probes,
        )
        run(
            bus,
            subscriber,
            server,
            SystemClock(),
            bounds,
            stop,
            unmatched=settings.unmatched,
            conflicts=bus.publisher(conflicts_address(address), lossless=False),
            pusher=bus.pusher(findings) if findings else None,
            beat=watched.beat,
            observe=partial(observer, watched.observe),
            state_file=None if state is None else state.absolute(),
            replays=replays,
            turn_requests=TurnRequests([bus.requester(replay_address(address)) for address in publishers], probes),
            boot_id=identity.boot_id,
            facts=partial(FactsPublisher, *published, identity),
            past=PastLookups(bus, history or history_address(address)),
        )


if __name__ == "__main__":
    run_command(command, "dnstrail cache")
