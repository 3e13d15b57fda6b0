"""The forms of a report in files: JSON, Markdown, and one HTML page that loads and runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

import msgspec

from dnstrail.errors import SettingsError
from dnstrail.process.terminal import escape_unprintable
from dnstrail_run.report import RunReport
from dnstrail_run.sections import Section, sections, summary

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>dnstrail run</title>
<style>
body { font: 16px/1.4 sans-serif; margin: 1rem auto; max-width: 70rem; padding: 0 1rem; color-scheme: light dark; }
div { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { border-bottom: 1px solid #8888; padding: .2rem .8rem .2rem 0; text-align: left; overflow-wrap: anywhere; }
td, code { font-family: monospace; }
</style>
</head>
<body>
"""


def html_of(report: RunReport) -> str:
    """Return a report as an HTML page."""
    head = f"<h1>dnstrail run</h1>\n<p><code>{_text(' '.join(report.command))}</code></p>\n"
    body = f"{head}<p>{_text(summary(report))}</p>\n{''.join(map(_section, sections(report)))}"
    return f"{_HEAD}{body}</body>\n</html>\n"


def _section(section: Section) -> str:
    head = _row("th", section.heads) if len(section.heads) > 1 else ""
    rows = "".join(_row("td", row) for row in section.rows)
    return f"<h2>{_text(section.title)}</h2>\n<div><table>\n{head}{rows}</table></div>\n"


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(_cells(tag, cells))}</tr>\n"


def _cells(tag: str, cells: Iterable[str]) -> Iterable[str]:
    return (f"<{tag}>{_text(cell)}</{tag}>" for cell in cells)


def _text(text: str) -> str:
    return escape(escape_unprintable(text))


def markdown_of(report: RunReport) -> str:
    """Return a report as Markdown with tables."""
    command = _code(" ".join(report.command))
    parts = [f"# dnstrail run\n\n{command}\n\n{summary(report)}\n", *map(_markdown_section, sections(report))]
    return "\n".join(parts)


def _markdown_section(section: Section) -> str:
    if len(section.heads) == 1:
        lines = [f"* {_code(row[0])}" for row in section.rows]
    else:
        lines = [_markdown_row(section.heads), _markdown_row(["---"] * len(section.heads))]
        lines += [_markdown_row([_code(cell) for cell in row]) for row in section.rows]
    return f"## {section.title}\n\n" + "\n".join(lines) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    """Return a text as code in a table. Characters that could end the code or the cell are replaced."""
    shown = escape_unprintable(text).replace("`", "'").replace("|", "\u2502")
    return f"`{shown}`" if shown else ""


def _json_of(report: RunReport) -> str:
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


FORMATS: dict[str, Callable[[RunReport], str]] = {".json": _json_of, ".md": markdown_of, ".html": html_of}


def format_of(path: Path) -> Callable[[RunReport], str]:
    """Return the function that makes the text of a report for a file.

    Raises:
        SettingsError: the name of the file has another ending.
    """
    if path.suffix not in FORMATS:
        raise SettingsError(f"--report {path}: the name ends with {', '.join(FORMATS)}")
    return FORMATS[path.suffix]
