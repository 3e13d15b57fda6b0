"""The tactic and the technique of MITRE ATT&CK that a signature names in its properties."""

from __future__ import annotations

from typing import NamedTuple

from dnstrail_findings.finding import Finding

FRAMEWORK = "MITRE ATT&CK"
TACTICS = {
    "Reconnaissance": "TA0043",
    "Resource Development": "TA0042",
    "Initial Access": "TA0001",
    "Execution": "TA0002",
    "Persistence": "TA0003",
    "Privilege Escalation": "TA0004",
    "Defense Evasion": "TA0005",
    "Credential Access": "TA0006",
    "Discovery": "TA0007",
    "Lateral Movement": "TA0008",
    "Collection": "TA0009",
    "Command and Control": "TA0011",
    "Exfiltration": "TA0010",
    "Impact": "TA0040",
}
_BY_WORD = {name.lower().replace(" ", "-"): name for name in TACTICS}


class Entry(NamedTuple):
    """A tactic or a technique; a value that is not known is ""."""

    id: str = ""
    name: str = ""


class Attack(NamedTuple):
    """A tactic, and a technique with its part before the dot (T1071 of T1071.004)."""

    tactic: Entry
    technique: Entry
    parent: str = ""


def attack_of(finding: Finding) -> Attack:
    """Return the tactic and technique of a finding, from tracee's properties."""
    category = finding.text_of("Category")
    name = _BY_WORD.get(category.lower().replace(" ", "-"), category)
    technique = Entry(finding.text_of("external_id"), finding.text_of("Technique"))
    parent = technique.id.partition(".")[0] if "." in technique.id else ""
    return Attack(Entry(TACTICS.get(name, ""), name), technique, parent)
