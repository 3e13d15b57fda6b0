"""The report as one HTML page: it loads nothing, runs nothing, and escapes every text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from dnstrail.process.terminal import escape_unprintable
from dnstrail_run.report import Report
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


def html_of(report: Report) -> str:
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
