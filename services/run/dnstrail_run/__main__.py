"""`dnstrail run`: run a command, and report which names and addresses it reached."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import click

from dnstrail.capture_options import capture_options
from dnstrail.process.command import examples, retired_option, run_command

_REASONS = ("unnamed", "refused", "foreign-dns")  # verdict.REASONS, whose import help does without
_DOMAINS = "domains:"  # before the file of --allow-learn
_AFTERWARDS = ("refuse", "allow")
_EXAMPLES = examples(
    "sudo dnstrail run -- pip install requests",
    "sudo dnstrail run --report build.html -- make",
    "sudo dnstrail run --allow-learn allowed.txt -- npm ci",
    "sudo dnstrail run --allow allowed.txt --enforce -- npm ci",
    "sudo dnstrail run --allow allowed.txt --enforce --ask -- npm ci",
    "sudo dnstrail run --allow allowed.txt --fail-on unnamed --fail-on foreign-dns -- npm ci",
)


def show_group(ctx: click.Context, _option: click.Parameter, name: str | None) -> None:
    """Print a group of names, and end."""
    if name is None or ctx.resilient_parsing:
        return
    from dnstrail_run.allow_list import group_text

    try:
        click.echo(group_text(name.removeprefix("@")), nl=False)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    ctx.exit()


@click.command(epilog=_EXAMPLES, context_settings={"ignore_unknown_options": False})
@click.argument("command", nargs=-1, required=True, metavar="-- COMMAND [ARGS]...", type=click.UNPROCESSED)
@click.option("--report", "reports", multiple=True, type=click.Path(path_type=Path), help="FILE.json, .md or .html.")
@click.option("--allow", type=click.Path(path_type=Path), help="List of what may be reached; else the exit code is 10.")
@click.option(
    "--show-group",
    metavar="NAME",
    expose_value=False,
    is_eager=True,
    callback=show_group,
    help="Print the entries of a group, such as pypi, which a list names as @pypi.",
)
@click.option("--enforce", is_flag=True, help="Refuse connections to what --allow does not contain.")
@click.option(
    "--any-question", is_flag=True, help="With --enforce: let questions pass whose names --allow does not contain."
)
@click.option(
    "--ask", is_flag=True, help="With --enforce: ask at the terminal about each name that --allow does not contain."
)
@click.option(
    "--check-server-name",
    is_flag=True,
    help="With --enforce: a connection to the address of a name must state this name, by TLS or HTTP.",
)
@click.option(
    "--on-crash",
    type=click.Choice(_AFTERWARDS),
    default="refuse",
    show_default=True,
    help="With --enforce, after dnstrail was killed: refuse or allow all connections.",
)
@click.option(
    "--allow-new-privileges", is_flag=True, help="With --enforce: set-id programs get their rights, as sudo does."
)
@click.option(
    "--allow-learn",
    "learn",
    metavar="[domains:]FILE",
    help="Write the list of what was reached to this file; domains: as *.example.com for each registered domain.",
)
@retired_option("--allow-learn-domains", "--allow-learn domains:FILE", "learn_domains", is_flag=True)
@click.option(
    "--refusals",
    metavar="FILE|FD",
    help="With --enforce: write each refusal at once, as a line of JSON, to a file or an open descriptor.",
)
@click.option(
    "--fail-on",
    multiple=True,
    type=click.Choice(_REASONS),
    help="Exit with 10 after a connection without a name, a refusal, or DNS to another server.",
)
@click.option(
    "--follow-containers",
    is_flag=True,
    help="Judge also the containers that start meanwhile, by --allow and --fail-on.",
)
@click.option("--wait-for-all", is_flag=True, help="Wait for the processes that outlive the command, too.")
@click.option(
    "--getaddrinfo", is_flag=True, help="Also capture names that a daemon asks for the command: nscd, resolved."
)
@click.option("--quiet", is_flag=True, help="Print no report on stderr.")
@click.option("--run-dir", type=click.Path(path_type=Path, readable=False), help="Folder of a pipeline that runs.")
@capture_options
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Run a command, and report which names it reached.

    The report contains the names and addresses that the command and all that it starts asked and reached. The command
    runs as the user who called sudo. The exit code is its own; 10 if --allow or --fail-on object; 2 or 4 as for all
    commands, if dnstrail itself fails. A running pipeline is used, else one is started.
    """
    gc.disable()
    from dnstrail_run.run_settings import Settings
    from dnstrail_run.session import run_session

    gc.freeze()  # what was imported stays: no collection looks at it, also in the processes forked from this one
    gc.enable()
    learn, domains = learned_file(given.pop("learn"))
    domains = given.pop("learn_domains") or domains
    ctx.exit(run_session(Settings(**given, learn=learn, learn_domains=domains)))


def learned_file(value: str | None) -> tuple[Path | None, bool]:
    """Return the file that `--allow-learn` names, and whether it gets whole domains in place of their names."""
    if value is None:
        return None, False
    return Path(value.removeprefix(_DOMAINS)), value.startswith(_DOMAINS)


if __name__ == "__main__":
    run_command(command, "dnstrail run")
