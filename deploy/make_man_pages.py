"""Write a manual page for each command from its --help: make_man_pages.py FOLDER."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from dnstrail_cli.__main__ import main_command

_WIDTH = 78
_PAGE = """\
.TH "{title}" 1 "" "dnstrail" "User Commands"
.SH NAME
{name} \\- {summary}
.SH DESCRIPTION
.nf
{text}
.fi
"""


def pages(command: click.Command = main_command, *names: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of the page of a command, and of each command below it."""
    names = names or ("dnstrail",)
    context = click.Context(command, info_name=" ".join(names), terminal_width=_WIDTH)
    yield "-".join(names), _page("-".join(names), command.get_short_help_str(_WIDTH), command.get_help(context))
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found  # noqa: S101 - it was listed
            yield from pages(found, *names, below)


def _page(name: str, summary: str, text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    lines = (f"\\&{line}" if line.startswith((".", "'")) else line for line in escaped.splitlines())
    return _PAGE.format(title=name.upper(), name=name, summary=summary.rstrip("."), text="\n".join(lines))


def write(folder: Path) -> None:
    """Write all pages into a folder."""
    for name, page in pages():
        (folder / f"{name}.1").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
