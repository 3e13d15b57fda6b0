"""`dnstrail keys`: the keys with which workers of several hosts know each other (docs/use/hosts.md)."""

from __future__ import annotations

from pathlib import Path

import click

from dnstrail.process.command import HELP, examples

_EXAMPLES = examples(
    "dnstrail keys new",
    "dnstrail keys list",
    "dnstrail keys allow central 'PUBLIC KEY OF A CLIENT'",
    "dnstrail keys allow --server 192.0.2.1 --host alpha 'PUBLIC KEY OF A SERVER'",
)


@click.group(epilog=_EXAMPLES, context_settings=HELP)
def keys() -> None:
    """Make, list and allow the keys of workers on several hosts.

    The keys are in the folder DNSTRAIL_KEYS, by default /etc/dnstrail/keys for root, else ~/.config/dnstrail/keys.
    """


@keys.command()
def new() -> None:
    """Make the own pair of keys, and print its public key. The secret key never leaves its file."""
    from dnstrail.bus.keys import new_pair

    click.echo(new_pair(_folder()))


@keys.command("list")
def list_keys() -> None:
    """Print the public keys: the own one, those of the allowed clients, and those of servers with their hosts."""
    from dnstrail.bus.keys import CLIENTS, public_key, public_keys, server_keys

    folder = _folder()
    own = public_key(folder)
    lines: list[tuple[str, ...]] = [] if own is None else [("own", "-", own)]
    lines += [("client", name, key) for name, key in public_keys(folder, CLIENTS).items()]
    lines += [("server", address, server.public, server.host) for address, server in server_keys(folder).items()]
    for line in lines:
        click.echo("\t".join(line))


# A key may begin with "-", and contain "h".
@keys.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("name")
@click.argument("key")
@click.option("--server", is_flag=True, help="KEY is the key of the server at the address NAME, not of a client.")
@click.option("--host", default="", help="With --server: the name of its host in events and lookups (default: NAME).")
def allow(name: str, key: str, server: bool, host: str) -> None:
    """Allow the client NAME to connect, by its public key. A running worker reads the key by itself.

    To remove a client, remove its file from the folder `clients`; a connection that is open stays open.
    """
    from dnstrail.bus.keys import CLIENTS, SERVERS
    from dnstrail.bus.keys import allow as allow_key

    if host and not server:
        raise click.UsageError("--host is the name of the host of a server: use it with --server")
    allow_key(_folder(), SERVERS if server else CLIENTS, name, key, host)


def _folder() -> Path:
    from dnstrail.bus.keys import default_keys

    return default_keys()
