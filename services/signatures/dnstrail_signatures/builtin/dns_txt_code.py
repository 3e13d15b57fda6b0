"""TXT records that carry code: a command in plain text, or several random-looking texts of one domain.

Sees: stagers that fetch a script by TXT queries, in plain text or in base64.
Cannot see: code in short or hexadecimal texts, in other types, or fetched through encrypted DNS, and code without a
command in the form of an SPF, DKIM or DMARC record.
False positives: a program that checks many keys below one domain, and records that quote a command.
MITRE: T1059.
Settings: `texts` distinct texts of at least `octets` octets and `entropy` bits an octet, of one registered domain,
within `seconds`; `commands` are looked for in every text, without regard to case; reported again after `quiet` seconds;
`subjects` bounds the state.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable
from typing import Any, ClassVar

import msgspec
from dns.rdatatype import TXT

from dnstrail.dns.message import answer_texts
from dnstrail.events import ANSWERED, NET_PACKET_DNS, Event
from dnstrail.registered_domain import registered_domain
from dnstrail.signature import EventSelector, SignatureContext, SignatureMetadata
from dnstrail_signatures.detection.bounded_state import BoundedTable, BurstGate, Bursts
from dnstrail_signatures.detection.setting_types import BitsPerOctet, Count, Octets, Seconds, Text
from dnstrail_signatures.detection.stateful_signature import ReportsOnce

#: texts of one answer that `DNS_TXT_CODE` takes for random-looking ones -> further ones count only with a command
MOST_TEXTS = 64  # so that one answer costs little time
# A whole record of SPF, a key of RSA for DKIM (its DER form begins so in base64), or a policy, in lower case. A part of
# a text fits one part of them alone, so that none costs more than its length.
_is_declaration = re.compile(
    r"v=spf1(?: +[-+~?]?(?:all|(?:a|mx|ptr|ip4|ip6|include|exists)(?:[:/]\S*)?|(?:redirect|exp)=\S*))* *"
    r"|(?:(?!p *=)[a-z]+ *=[^;]*; *)*p *= *mi[a-z0-9+/= ]*(?:; *(?:[a-z]+ *=[^;]*)?)*"
    r"|v=(?:dmarc1|bimi1|stsv1|tlsrptv1) *(?:; *(?:[a-z]+ *=[^;]*)?)*"
).fullmatch


class DnsTxtCodeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gate for random-looking texts, and the commands."""

    texts: Count = 5
    octets: Octets = 100
    entropy: BitsPerOctet = 5.0
    seconds: Seconds = 300.0
    quiet: Seconds = 3600.0
    subjects: Count = 4096
    commands: tuple[Text, ...] = (
        "powershell",
        "invoke-expression",
        "iex(",
        "iex (",
        "cmd.exe",
        "/bin/sh",
        "/bin/bash",
        "frombase64string",
        "wscript.shell",
        "#!/",
    )

    def __post_init__(self) -> None:
        """Write the commands as they are looked for."""
        msgspec.structs.force_setattr(self, "commands", tuple(command.lower() for command in self.commands))


class DnsTxtCode(ReportsOnce):
    """Reports TXT answers with a command, or a domain whose texts reach the gate."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-4",
        version="1",
        name="Code in TXT records",
        event_name="DNS_TXT_CODE",
        event_id=6004,
        description="TXT answers carry a command, or several random-looking texts of one domain.",
        tags=("dns",),
        properties={
            "Severity": 3,
            "Category": "execution",
            "Technique": "Command and Scripting Interpreter",
            "id": "attack-pattern--7385dfaf-6886-4229-9ecd-6fd678040830",
            "external_id": "T1059",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (
        EventSelector(name=NET_PACKET_DNS, types=(TXT,), outcomes=(ANSWERED,)),
    )
    settings: ClassVar[DnsTxtCodeSettings] = DnsTxtCodeSettings()

    def init(self, ctx: SignatureContext) -> None:
        """Begin without state."""
        super().init(ctx)
        own = self.settings
        self._bursts = Bursts(BurstGate(own.texts, own.texts, own.seconds), own.subjects)

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return the texts that were answered lately, and what was reported."""
        return self._bursts.table, *super().tables()

    def on_event(self, event: Event) -> None:
        """Read the texts of an answer to a TXT question."""
        question, header = event.answered, event.header
        if question is None or header is None:
            return
        domain = registered_domain(question.name) or question.name
        subject, at = self.subject(event, domain), event.timestamp
        texts = [*answer_texts(event.captured.payload, header.asked.end)]
        readable = b"\n".join(texts).decode("ascii", "replace").lower()
        reason = next((f"command {command}" for command in self.settings.commands if command in readable), "")
        if not reason and any(self._completes(subject, text, at) for text in texts[:MOST_TEXTS]):
            reason = f"{self.settings.texts} random-looking texts"
        if reason and self._once.first(subject, at):
            self.report(event, domain=domain, reason=reason, example=question.name)

    def _completes(self, subject: Hashable, text: bytes, at: int) -> bool:
        """Return whether a text looks random, and reaches the gate."""
        if len(text) < self.settings.octets or _is_declaration(text.decode("ascii", "replace").lower()):
            return False
        return entropy(text) >= self.settings.entropy and self._bursts.reached(subject, hash(text), at)


def entropy(text: bytes) -> float:
    """Return the Shannon entropy of some octets, in bits an octet."""
    shares = [count / len(text) for count in Counter(text).values()]
    return -sum(share * math.log2(share) for share in shares)
