"""A fleet answers about past times of the corpus as the history of its host does, or states that it does not know."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import pytest
from click.testing import CliRunner

from builders.corpus import needs_corpus
from builders.facts import stored
from builders.past import reading_of
from dnstrail.history.fact import Fact
from dnstrail.image import Bounds, LookupResult
from dnstrail.protocol.lookups import GetRequest, RefusedRequestError, encode_request
from dnstrail_cli.__main__ import main_command
from dnstrail_fleet.files import open_to_read
from dnstrail_fleet.log.valkey_log import ValkeyLog
from dnstrail_fleet.lookups.answers import answer_lookup
from dnstrail_fleet.lookups.reading import StoreReader
from dnstrail_fleet.store.schema import NAME
from dnstrail_history.past.answers import answer
from dnstrail_history.past.segments import Segments
from live.answering_host import AnsweringHost, answering_host, write_settings
from live.corpus_fleet import load_corpus, print_counts, send_all, store_all
from live.processes import wait_until
from live.valkey_server import engine

pytestmark = needs_corpus
LOOKUPS = 1_000
SECOND = 1_000_000_000
FIELDS = ("ip_addresses", "dns_queries", "dns_root", "state", "truncated")
Asked = tuple[str, int]  # a key, and a second since the epoch
Sets = tuple[frozenset[str], frozenset[str], str]  # addresses, names, and the root


def keys_and_times(facts: list[Fact], chance: Random) -> Iterator[Asked]:
    """Yield keys of answers, each with a time some seconds later."""
    answered = [fact for fact in facts if fact.values.relations and fact.ended < time.time() * SECOND]
    while True:
        fact = chance.choice(answered)
        owner, _, target, ttl = chance.choice([*fact.values.owned])
        later = chance.choice([0, 0, 1, 10, 59, 60, 61, ttl, ttl + 59, ttl + 60, chance.randrange(4000)])
        yield chance.choice([fact.values.name, owner, target]), fact.ended // SECOND + later


def of_history(segments: Segments, key: str, at: int) -> LookupResult | None:
    """Return what the history of the host answers at a time (ns since the epoch)."""
    with segments.opened() as opened:
        try:
            found, _ = answer(GetRequest(key=key, at_ns=at), reading_of(opened, at, Bounds()))
        except RefusedRequestError:
            return None
    return found


def sets_of(found: LookupResult | None) -> Sets | None:
    """Return the addresses, the names and the root of an answer."""
    if found is None:
        return None
    return frozenset(found.ip_addresses), frozenset(found.dns_queries), found.dns_root


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the history of a host that saw the corpus."""
    folder = tmp_path_factory.mktemp("host") / "history"
    load_corpus(folder)
    return folder


@pytest.mark.timeout(900)
def test_a_past_lookup_of_the_fleet_is_that_of_the_host(history: Path, tmp_path: Path) -> None:
    """For 1,000 keys and times the sets of names and addresses are equal where `history` is true.

    Where it is false, the reply holds all that the history of the host does, and maybe more.
    """
    with engine(tmp_path / "engine", "web1") as running:
        with closing(ValkeyLog(running.address("web1"), time.monotonic)) as log:
            sent = send_all(history, log, tmp_path / "state", "web1")
        with closing(ValkeyLog(running.address("store"), time.monotonic)) as log:
            kept = store_all(log, tmp_path / "store")
    assert (sent["rows"], kept["left_out"]) == (kept["rows"], 0)
    segments, different = Segments(history), list[Any]()
    counts: Counter[tuple[str, str]] = Counter()
    asked = keys_and_times(stored(history), Random(29))
    with closing(segments), closing(StoreReader(open_to_read(tmp_path / "store" / NAME))) as reader:
        for _ in range(LOOKUPS):
            key, second = next(asked)
            then = sets_of(of_history(segments, key, second * SECOND + SECOND - 1))
            body = encode_request("get", key=key, at=second + 0.5, host="web1", limit=1000)
            reply = msgpack.unpackb(answer_lookup(body, reader, time.time(), lambda: False))
            is_known = reply.get("history", True)
            counts["known" if is_known else "unknown", "found" if then else "not found"] += 1
            if not agrees(reply, then, is_known=is_known):
                different.append((key, second, then, reply))
    print_counts(kept["rows"], counts)
    assert different == []
    assert counts["known", "found"] > LOOKUPS // 4


@pytest.mark.timeout(900)
def test_a_host_that_is_asked_answers_from_its_history(history: Path, tmp_path: Path) -> None:
    """For 1,000 keys and times `fleet get --host` prints what the history of the host answers, over CURVE."""
    asked = [*islice(keys_and_times(stored(history), Random(30)), LOOKUPS)]
    counts: Counter[str] = Counter()
    with closing(Segments(history)) as segments, answering_host(tmp_path, history) as host:
        ask = asking(host, write_settings(tmp_path / "dnstrail.toml", web1=host.address))
        for key, second in asked:
            then = of_history(segments, key, second * SECOND + SECOND // 2)
            stated = ask(key, f"{second}.500000", is_known=then is not None)
            assert (stated["answered_by"], stated["host"]) == ("host", "web1")
            if then is None:
                assert not stated["found"], (key, second)
            else:
                expected = {name: getattr(then, name) for name in FIELDS}
                assert {name: stated.get(name) for name in FIELDS} == expected, (key, second)
            counts["not found" if then is None else "found"] += 1
    assert counts["found"] > LOOKUPS // 2


def asking(host: AnsweringHost, settings: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that asks a host, again while host or history do not answer in time."""
    env = {"DNSTRAIL_KEYS": str(host.keys_of_asker)}
    words = ("--config", str(settings), "fleet", "get", "--json", "--host", "web1", "--run-dir", str(host.run))

    def ask(key: str, at: str, *, is_known: bool) -> dict[str, Any]:
        done: list[dict[str, Any]] = []

        def is_answered() -> bool:
            result = CliRunner().invoke(main_command, [*words, "--at", at, "--", key], env=env)
            if "no answer from web1" in result.stderr:
                return False
            done.append(json.loads(result.stdout))
            return not is_known or done[-1].get("source") == "history"

        wait_until(is_answered, f"the answer of the history for {key} at {at}")
        return done[-1]

    return ask


def agrees(reply: dict[str, Any], then: Sets | None, *, is_known: bool) -> bool:
    """Return whether a reply has the sets of the host; if its history is not known, at least these."""
    if not reply["ok"]:
        return reply["error"] == "data_not_found" and then is None
    addresses, names = (frozenset(reply["data"][field]) for field in ("ip_addresses", "dns_queries"))
    if is_known:
        return then is not None and (addresses, names) == then[:2]
    return then is None or (addresses >= then[0] and names >= then[1] - {then[2]})
