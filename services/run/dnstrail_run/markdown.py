"""The report as Markdown: each text of a stranger is code, in which nothing is markup."""

from __future__ import annotations

from collections.abc import Sequence

from dnstrail.process.terminal import escape_unprintable
from dnstrail_run.report import Report
from dnstrail_run.sections import Section, sections, summary


def markdown_of(report: Report) -> str:
    """Return a report as Markdown with tables."""
    command = code(" ".join(report.command))
    parts = [f"# dnstrail run\n\n{command}\n\n{summary(report)}\n", *map(_section, sections(report))]
    return "\n".join(parts)


def _section(section: Section) -> str:
    if len(section.heads) == 1:
        lines = [f"* {code(row[0])}" for row in section.rows]
    else:
        lines = [_row(section.heads), _row(["---"] * len(section.heads))]
        lines += [_row([code(cell) for cell in row]) for row in section.rows]
    return f"## {section.title}\n\n" + "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def code(text: str) -> str:
    """Return a text as code in a table. Characters that could end the code or the cell are replaced."""
    shown = escape_unprintable(text).replace("`", "'").replace("|", "\u2502")
    return f"`{shown}`" if shown else ""
