"""The addresses and names that a finding is about."""

from __future__ import annotations

from dnstrail.dns.names import address_text
from dnstrail_findings.dns_message import Answer
from dnstrail_findings.finding import Finding
from dnstrail_findings.formats.dns_text import escaped

MOST_ANSWERS = 64  #: answers of a finding in ECS -> the first are printed


def first_answers(finding: Finding) -> list[Answer]:
    """Return the first answers of the DNS message."""
    message = finding.cause.message
    return message.answers[:MOST_ANSWERS] if message else []


def addresses(finding: Finding) -> list[str]:
    """Return the addresses of the ends of the cause, and those of its answers, each once."""
    cause = finding.cause
    found = (cause.client.address, cause.server.address, *(answer.ip for answer in first_answers(finding)))
    return [*dict.fromkeys(text for text in found if address_text(text) is not None)]


def host_names(finding: Finding) -> list[str]:
    """Return the names of the question, of the answers, of a connection and of its trail, each once."""
    cause = finding.cause
    of_message = [cause.question.name if cause.question else "", *(answer.cname for answer in first_answers(finding))]
    trail = finding.explained.get("trail") or {}
    found = [*map(escaped, of_message), *cause.names[:MOST_ANSWERS], trail.get("dns_root", "")]
    return [*dict.fromkeys(filter(None, found))]
