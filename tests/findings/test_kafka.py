"""Findings to a topic of Kafka: the mock cluster of librdkafka receives them. No real broker was tried.

Tests of dnstrail_findings.writers.kafka.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from builders.findings import cause_of, dns_answer, finding_of
from dnstrail.errors import SettingsError
from dnstrail_findings.output import RefusedError
from dnstrail_findings.targets import make_outputs, parse_target
from dnstrail_findings.writers.kafka import KafkaLogin, KafkaTopic, KafkaWriter, parse_topic
from live.kafka_cluster import KafkaCluster, kafka_cluster
from live.processes import wait_until


@pytest.fixture(scope="module")
def running() -> Iterator[KafkaCluster]:
    """Return a cluster."""
    with kafka_cluster() as found:
        yield found


def writer(running: KafkaCluster, topic: str, patience: float = 30.0) -> closing[KafkaWriter]:
    """Return a writer to a topic."""
    return closing(KafkaWriter(KafkaTopic("127.0.0.1", running.port, topic), patience=patience))


def test_each_finding_arrives_once(running: KafkaCluster) -> None:
    """An output sends each finding as a message, to any partition."""
    [output] = make_outputs([parse_target(f"kafka:127.0.0.1:{running.port}/once")])
    for number in range(300):
        output.add(finding_of(cause_of(dns_answer()), f"f{number}"))
    output.start()
    output.close(30)
    assert (output.error, dict(output.counters)) == (None, {"written": 300, "unsent": 0})
    found = [json.loads(one)["findingId"] for one in running.read("once")]
    assert sorted(found) == sorted(f"f{number}" for number in range(300))


def test_a_cluster_that_stands_still_gets_all_later(running: KafkaCluster, tmp_path: Path) -> None:
    """While the brokers do not answer the spool keeps the findings; afterwards each arrives at least once."""
    place = f"kafka:127.0.0.1:{running.port}/late,spool={tmp_path}/spool"
    for part in range(2):  # the second process finds the spool of the first one
        [output] = make_outputs([parse_target(place)])
        output._writer.close()
        output._writer = KafkaWriter(KafkaTopic("127.0.0.1", running.port, "late"), patience=0.5)
        running.process.send_signal(signal.SIGSTOP)
        try:
            for number in range(100):
                output.add(finding_of(cause_of(dns_answer()), f"f{part}-{number}"))
            output.start()
            wait_until(lambda output=output: output.counters["failures"] > 0, "a failure")
        finally:
            if part:
                running.process.send_signal(signal.SIGCONT)
        if part:
            wait_until(lambda output=output: not output.waiting, "the end of the spool")
        output.close(30)
        assert output.error is None
    found = {json.loads(one)["findingId"] for one in running.read("late")}
    assert found == {f"f{part}-{number}" for part in range(2) for number in range(100)}


def test_a_broker_that_is_away_is_a_failure() -> None:
    """Without a broker the batch fails in bounded time, and says why."""
    with closing(KafkaWriter(KafkaTopic("127.0.0.1", 1, "t"), patience=0.3)) as away:
        done: list[str] = []

        def write() -> None:
            with pytest.raises(OSError, match="2 of 2 messages") as failed:
                away.write([b"a", b"b"])
            done.append(str(failed.value))

        thread = threading.Thread(target=write)
        thread.start()
        thread.join(30)
    [reason] = done
    assert "timed out" in reason


def test_a_message_that_is_too_large_is_refused_alone(running: KafkaCluster) -> None:
    """A message beyond the bound of the cluster is lost and counted; those beside it arrive."""
    with writer(running, "large") as opened, pytest.raises(RefusedError, match="1 of 3 messages") as refused:
        opened.write([b"a", b"x" * 2_000_000, b"b"])
    assert refused.value.lines == 1
    assert sorted(running.read("large")) == [b"a", b"b"]


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("kafka.example/dns", KafkaTopic("kafka.example", 9092, "dns")),
        ("[2001:db8::1]:9093/dns.trail", KafkaTopic("2001:db8::1", 9093, "dns.trail")),
    ],
)
def test_a_topic_is_read(text: str, topic: KafkaTopic) -> None:
    """Host, port and topic are read."""
    assert parse_topic(text) == topic


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("kafka:", "HOST"),
        ("kafka:kafka.example", "HOST"),
        ("kafka:kafka.example:0/dns", "HOST"),
        ("kafka:kafka.example:70000/dns", "HOST"),
        ("kafka:a.example,b.example/dns", "HOST"),
        ("kafka:kafka.example/a b", "HOST"),
        ("kafka:kafka.example/dns,user=me", "user=NAME,token=FILE"),
        ("kafka:kafka.example/dns,sasl=PLAIN", "user=NAME,token=FILE"),
        ("kafka:kafka.example/dns,size=3", "spool=FOLDER"),
        ("kafka:kafka.example/dns,format=xml", "format=xml"),
    ],
)
def test_a_wrong_target_is_refused(value: str, fault: str) -> None:
    """A target without a topic, or a user without a password, names its remedy."""
    with pytest.raises(SettingsError, match=fault):
        parse_target(value)


def test_the_password_is_secret_and_other_hosts_need_tls(tmp_path: Path) -> None:
    """A user and a password make the client log in over TLS; neither is shown, and a wrong mechanism is refused."""
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    target = parse_target(f"kafka:kafka.example/dns,user=me,token={token},sasl=PLAIN")
    assert "s3cret" not in repr((target, KafkaLogin(None, "me", "s3cret")))
    with pytest.raises(SettingsError, match="write one of SCRAM-SHA-512"):
        parse_target(f"kafka:kafka.example/dns,user=me,token={token},sasl=GSSAPI")
    with pytest.raises(SettingsError, match=r"ssl\.ca\.location"):
        make_outputs([parse_target(f"kafka:kafka.example/dns,ca={tmp_path}/none.pem")])
