"""Spellings that go away with the next release still work, and name what to use instead on stderr."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from dnstrail.process.command import LOG_LEVEL, check_address, log_level_option, retired_option, worker_cache_option


@click.command()
@worker_cache_option(check_address, "go without it")
@retired_option("--old", "--new")
@log_level_option
def command(cache: str | None, no_cache: bool, old: str | None, log_level: str) -> None:
    """Print what a worker receives."""
    click.echo(f"{cache} {no_cache} {old} {log_level}")


def run(*arguments: str, **environment: str):
    done = CliRunner().invoke(command, arguments, env=environment)
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "received", "warning"),
    [
        ((), "None False None info\n", ""),
        (("--cache", "ipc:///x"), "ipc:///x False None info\n", ""),
        (("--cache", "none"), "None True None info\n", ""),
        (("--no-cache",), "None True None info\n", "--no-cache goes away with the next release: use --cache none"),
        (("--old", "x"), "None False x info\n", "--old goes away with the next release: use --new"),
        (("--log-level", "error"), "None False None error\n", f"use the variable {LOG_LEVEL}"),
    ],
)
def test_a_retired_spelling_warns(arguments, received, warning):
    """A retired spelling does what it did, and warns; the spelling that replaces it does not warn."""
    stdout, stderr = run(*arguments)
    assert stdout == received
    assert warning in stderr
    assert bool(warning) == bool(stderr)


def test_the_level_of_the_log_is_a_variable():
    """DNSTRAIL_LOG_LEVEL sets the level without a warning, and a wrong word is refused by the name of the variable."""
    assert run(DNSTRAIL_LOG_LEVEL="error") == ("None False None error\n", "")
    assert LOG_LEVEL in run(DNSTRAIL_LOG_LEVEL="loud")[1]


def test_help_shows_no_retired_spelling():
    """--help lists what stays."""
    help_text = run("--help")[0]
    assert "--cache" in help_text
    assert not any(word in help_text for word in ("--no-cache", "--old", "--log-level"))
