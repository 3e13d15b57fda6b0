"""Tests of dnstrail.process.log."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest

from dnstrail_cli.__main__ import main_command
from live.processes import dnstrail

MODULES = """
import json, sys
from dnstrail_cli.__main__ import main_command
try:
    main_command.main(args=sys.argv[1:], prog_name="dnstrail")
except SystemExit as ended:
    print(json.dumps([ended.code, sorted(sys.modules)]), file=sys.stderr)
"""
HEAVY = {
    "dnstrail_probe.ebpf.entry",
    "dnstrail_cache.worker",
    "dnstrail_signatures.loading.load",
    "dnstrail_cli.pipeline.run",
    "dnstrail.image",
    "dnstrail.bus.zeromq",
    "dns",
    "rich",
    "structlog",
    "zmq",
}
COMMANDS = list(main_command.list_commands(click.Context(main_command)))


def command(name: str) -> click.Command:
    found = main_command.get_command(click.Context(main_command), name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["-h"],
        ["get", "--help"],
        ["trail", "-h"],
        ["run", "-h"],
        ["connections", "-h"],
        ["replay", "-h"],
        ["stats", "-h"],
    ],
)
def test_version_and_help_import_no_worker(arguments):
    """Version and help import neither a worker, nor the bus, nor the image."""
    done = subprocess.run([sys.executable, "-c", MODULES, *arguments], capture_output=True, text=True, check=False)
    code, modules = json.loads(done.stderr)
    assert code == 0
    assert HEAVY & set(modules) == set()


def test_a_lookup_over_a_file_imports_neither_the_bus_nor_a_library_for_terminals():
    """A lookup over a capture file imports the image, and neither the bus, nor dnspython, nor rich."""
    words = ["get", "--capture", "demo", "shop.example"]
    done = subprocess.run([sys.executable, "-c", MODULES, *words], capture_output=True, text=True, check=False)
    code, modules = json.loads(done.stderr)
    assert code == 0
    assert HEAVY & set(modules) == {"dnstrail.image"}


@pytest.mark.parametrize("module", ["probe", "cache", "signatures", "findings", "cli.pipeline.run"])
def test_no_worker_imports_a_library_for_terminals(module):
    """The modules of a worker, and of a run, leave rich out, which structlog would import; it can be imported later."""
    module = f"dnstrail_{module}" if "." in module else f"dnstrail_{module}.__main__"
    code = f"import sys, {module}; print('rich' in sys.modules); import rich.console"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_coroutine_can_log():
    """The log imports no library for coroutines until one logs."""
    code = (
        "import sys, dnstrail.process.log as log; loaded = 'asyncio' in sys.modules; import asyncio\n"
        "log.configure('x'); asyncio.run(log.get_logger().ainfo('said', loaded=loaded))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    line = json.loads(done.stderr)
    assert (line["event"], line["loaded"]) == ("said", False)


def test_help_lists_every_command():
    """The help of dnstrail lists its commands, each with its summary."""
    shown = dnstrail("--help").stdout
    lookups, workers = ["get", "trail", "connections"], ["probe", "cache", "signatures", "findings", "history"]
    assert [
        *lookups,
        "log",
        "top",
        "seen",
        "new",
        "enrich",
        "run",
        "replay",
        "stats",
        "health",
        "dump",
        "load",
        "keys",
        *workers,
        "web",
        "open",
        "fleet",
    ] == COMMANDS
    for name in COMMANDS:
        assert f"  {name} " in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_a_summary_is_the_first_sentence_of_the_help(name):
    """The summary in the list of commands is the first sentence of the command's own help."""
    assert main_command._table[name].summary.rstrip(".") in command(name).help.replace("\n", " ")


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_help_has_both_forms_and_ends_with_examples(name):
    """-h and --help print the same, and it ends with examples that begin with the command."""
    words = [name] if name else []
    short, long = dnstrail(*words, "-h"), dnstrail(*words, "--help")
    assert (short.returncode, short.stdout) == (0, long.stdout)
    _, examples = short.stdout.split("Examples:\n")
    assert all("dnstrail" in line for line in examples.splitlines())
    assert f"dnstrail {name}".strip() in examples


def test_an_unknown_command_is_refused():
    """A name that is no command is refused, without an import of any."""
    assert main_command.get_command(click.Context(main_command), "nothing") is None


COMPLETIONS = {
    "a command": ("ge", ["plain,get"]),
    "an option": ("--dnsc", ["plain,--dnscache"]),
    "an event": ("--events net_tcp_connect_", ["plain,net_tcp_connect_result"]),
    "a signature in a list": ("--events net_packet_dns,WATCH", ["plain,net_packet_dns,WATCHED_NAME"]),
    "a kind of source, or a file": ("--capture ebpf", ["file,ebpf", "plain,ebpf", "plain,ebpf:getaddrinfo"]),
    "the file of a command": ("replay dem", ["file,dem", "plain,demo"]),
    "a command after the help of an option": ("--dnscache help ge", ["plain,get"]),
}


@pytest.mark.parametrize("name", COMPLETIONS)
def test_shell_completion(name):
    """The shell completes commands, options, names of events and signatures, and sources."""
    words, expected = COMPLETIONS[name]
    line = f"dnstrail {words}"
    env = {"_DNSTRAIL_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    done = dnstrail(**env)
    assert (done.stdout.split(), done.stderr) == (expected, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell):
    """Dnstrail prints the completion script of a shell."""
    done = dnstrail(_DNSTRAIL_COMPLETE=f"{shell}_source")
    assert done.returncode == 0
    assert "_DNSTRAIL_COMPLETE" in done.stdout


def test_a_run_imports_no_more_than_it_needs():
    """A run of a command leaves out bcc, the list of public suffixes, dnspython, and the library for terminals."""
    code = "import json, sys, dnstrail_run.session; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    left_out = {"asyncio", "bcc", "dns", "publicsuffixlist", "pygments", "rich.console"}
    assert left_out & set(json.loads(done.stdout)) == set()
