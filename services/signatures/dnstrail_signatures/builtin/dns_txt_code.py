"""TXT records that carry code: a command in plain text, or several random-looking texts of one domain.

Sees: stagers that fetch a script by TXT queries, in plain text or in base64.
Cannot see: code in short or hexadecimal texts, in other types, or fetched through encrypted DNS.
False positives: a program that checks many keys below one domain, and records that quote a command.
MITRE: T1059.
Settings: `texts` distinct texts of at least `octets` octets and `entropy` bits an octet, of one registered domain,
within `seconds`; `commands` are looked for in every text, without regard to case; reported again after `quiet` seconds;
`subjects` bounds the state.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator
from itertools import islice
from typing import Any, ClassVar

import msgspec
from dns.rdatatype import TXT

from dnstrail.events import ANSWERED, NET_PACKET_DNS, Event
from dnstrail.registered_domain import registered_domain
from dnstrail.signature import EventSelector, SignatureContext, SignatureMetadata
from dnstrail_signatures.detection.bounded_state import BoundedTable, BurstGate, Bursts
from dnstrail_signatures.detection.setting_types import BitsPerOctet, Count, Octets, Seconds, Text
from dnstrail_signatures.detection.stateful_signature import ReportsOnce

#: texts of one answer that `DNS_TXT_CODE` reads -> further ones do not count
MOST_TEXTS = 64  # so that one answer costs little time
_DECLARATIONS = ("v=", "k=rsa", "p=")  # SPF, DKIM, DMARC and the like


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
        question = event.answered
        if question is None:
            return
        domain = registered_domain(question.name) or question.name
        subject, at = self.subject(event, domain), event.timestamp
        texts = islice(_texts(event), MOST_TEXTS)
        reason = next((reason for text in texts if (reason := self._reason(subject, text, at))), "")
        if reason and self._once.first(subject, at):
            self.report(event, domain=domain, reason=reason, example=question.name)

    def _reason(self, subject: Hashable, text: bytes, at: int) -> str:
        """Return why a text is code, or ""."""
        readable = text.decode("ascii", "replace").lower()
        command = next((command for command in self.settings.commands if command in readable), "")
        if command:
            return f"command {command}"
        if len(text) < self.settings.octets or readable.startswith(_DECLARATIONS):
            return ""
        if entropy(text) < self.settings.entropy or not self._bursts.reached(subject, hash(text), at):
            return ""
        return f"{self.settings.texts} random-looking texts"


def entropy(text: bytes) -> float:
    """Return the Shannon entropy of some octets, in bits an octet."""
    shares = [count / len(text) for count in Counter(text).values()]
    return -sum(share * math.log2(share) for share in shares)


def _texts(event: Event) -> Iterator[bytes]:
    """Yield the texts in the answers of a DNS message, each with its strings joined."""
    message = event.dns
    for rrset in message.answer if message is not None else ():
        if rrset.rdtype == TXT:
            yield from (b"".join(rdata.strings) for rdata in rrset)
