"""Batches of lines to a topic of Kafka, by librdkafka: each line is a message."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from dnstrail.errors import SettingsError
from dnstrail_findings.output import RefusedError

PATIENCE: Final = 5.0  #: seconds for a batch to Kafka: connection, TLS and acknowledgement in all -> it is sent again
PORT: Final = 9092
MECHANISMS: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
_PLACE: Final = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s/:,\[\]]+))(?::(\d{1,5}))?/([A-Za-z0-9._-]{1,249})", re.ASCII)
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_PORTS: Final = 1 << 16


class KafkaTopic(NamedTuple):
    """A topic, and a broker of its cluster."""

    host: str
    port: int
    topic: str


class KafkaLogin(NamedTuple):
    """Who writes to a topic: a user with a password, by a mechanism of SASL. `ca` is the authority of the brokers.

    Without `ca` the authorities of the system count, and without a user the brokers take everybody.
    """

    ca: Path | None = None
    user: str = ""
    password: str = ""
    mechanism: str = MECHANISMS[0]

    def __repr__(self) -> str:
        return f"KafkaLogin(ca={self.ca}, user={self.user!r})"  # without the password


def parse_topic(text: str) -> KafkaTopic:
    """Return the topic that HOST[:PORT]/TOPIC names.

    Raises:
        SettingsError: It names none.
    """
    found = _PLACE.fullmatch(text)
    if found is None or not 0 < int(found[3] or PORT) < _PORTS:
        raise SettingsError(f"--to kafka: {text!r:.200}: write HOST[:PORT]/TOPIC")
    return KafkaTopic(found[1] or found[2], int(found[3] or PORT), found[4])


_NOBODY: Final = KafkaLogin()


class KafkaWriter:
    """Sends each line as a message, and waits until all replicas that are in sync have a batch.

    The brokers need TLS, unless they are on this host. A batch that was not acknowledged in time is sent again, so that
    a message can arrive twice.
    """

    most = 1000
    most_bytes = 1 << 20

    def __init__(self, topic: KafkaTopic, login: KafkaLogin = _NOBODY, *, patience: float = PATIENCE) -> None:
        """Make the client, which connects at the first batch.

        Raises:
            SettingsError: The client is not installed, or cannot use the login.
        """
        try:
            from confluent_kafka import KafkaException, Producer  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise SettingsError("the client of Kafka is missing: pip install 'dnstrail[kafka]'") from error
        self._topic = topic.topic
        self._patience = patience
        self._fault = ""
        host = f"[{topic.host}]" if ":" in topic.host else topic.host
        try:
            self._producer: Any = Producer(
                {
                    "bootstrap.servers": f"{host}:{topic.port}",
                    "client.id": "dnstrail",
                    "acks": "all",
                    "message.timeout.ms": int(patience * 1000),
                    "linger.ms": 0,
                    "log_level": 0,
                    "error_cb": self._note_fault,
                    **_security(topic, login),
                }
            )
        except KafkaException as error:
            raise SettingsError(f"--to kafka: {error}") from error

    def write(self, lines: Sequence[bytes]) -> None:
        """Send lines.

        Raises:
            OSError: Some were not acknowledged in time.
            RefusedError: The cluster refuses some for good.
        """
        from confluent_kafka import KafkaError, KafkaException  # noqa: PLC0415 - an extra

        failed: list[Any] = []

        def note(error: Any, _message: Any) -> None:
            if error is not None:
                failed.append(error)

        for line in lines:
            try:
                self._producer.produce(self._topic, line, on_delivery=note)
            except KafkaException as error:  # it is too large for the client already
                failed.append(error.args[0])
        if left := self._producer.flush(self._patience + 1):
            self._producer.purge()
            self._producer.flush(0)
            raise TimeoutError(f"{left} of {len(lines)} messages were not acknowledged in time {self._fault}".rstrip())
        refused = [one for one in failed if one.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG)]
        if len(refused) < len(failed):
            reason = next(one for one in failed if one not in refused)
            raise OSError(f"{len(failed)} of {len(lines)} messages: {reason.str()} {self._fault}".rstrip())
        if refused:
            raise RefusedError(f"{len(refused)} of {len(lines)} messages: {refused[0].str()}", len(refused))
        self._fault = ""

    def close(self) -> None:
        """Forget what waits: it was counted as not written."""
        self._producer.purge()
        self._producer.flush(0)

    def _note_fault(self, error: Any) -> None:
        self._fault = f"({error.str()})"


def _security(topic: KafkaTopic, login: KafkaLogin) -> dict[str, object]:
    """Return the settings of librdkafka for a login."""
    if topic.host in _LOOPBACK and login.ca is None and not login.user:
        return {}
    settings: dict[str, object] = {"security.protocol": "SASL_SSL" if login.user else "SSL"}
    if login.ca is not None:
        settings["ssl.ca.location"] = str(login.ca)
    if login.user:
        settings |= {"sasl.mechanism": login.mechanism, "sasl.username": login.user, "sasl.password": login.password}
    return settings
