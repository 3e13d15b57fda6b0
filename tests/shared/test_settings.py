"""The options of `--dnscache`."""

from __future__ import annotations

import pytest

from dnstrail.errors import DnstrailError, SettingsError
from dnstrail.image import Bounds
from dnstrail.image.admission import POLICIES
from dnstrail.settings import DNSCACHE_HELP, UNMATCHED, DnsCache, parse_dnscache

TAKEN = [
    ([], DnsCache()),
    (["enable"], DnsCache()),
    (["none"], DnsCache(enabled=False)),
    (["none", "enable"], DnsCache()),
    (["enable,none"], DnsCache(enabled=False)),
    (["size=10"], DnsCache(size=10)),
    (["none,size=10"], DnsCache(enabled=False, size=10)),
    (["grace=0"], DnsCache(grace=0.0)),
    (["grace=1.5"], DnsCache(grace=1.5)),
    (["history=0"], DnsCache(history=0.0)),
    (["history=1.5"], DnsCache(history=1.5)),
    (["relations=1"], DnsCache(relations=1)),
    (["history=10,relations=20,size=30"], DnsCache(size=30, history=10.0, relations=20)),
    (["history=1", "relations=2", "history=3"], DnsCache(history=3.0, relations=2)),
    (["unmatched=auto"], DnsCache()),
    (["unmatched=accept"], DnsCache(unmatched="accept")),
    (["unmatched=reject"], DnsCache(unmatched="reject")),
    (["size=10,grace=20"], DnsCache(size=10, grace=20.0)),
    (["size=10", "grace=20"], DnsCache(size=10, grace=20.0)),
    (["enable, size=10 ,grace=20", "unmatched=accept"], DnsCache(size=10, grace=20.0, unmatched="accept")),
    (["size=10,size=20"], DnsCache(size=20)),
    (["size=20,grace=1", "size=10"], DnsCache(size=10, grace=1.0)),
    (["size=1"], DnsCache(size=1)),
    (["size=007"], DnsCache(size=7)),
]


@pytest.mark.parametrize(("values", "expected"), TAKEN, ids=repr)
def test_options_are_combined(values: list[str], expected: DnsCache) -> None:
    """Options come comma-separated or with the flag several times, and later ones win."""
    assert parse_dnscache(values) == expected


def test_the_defaults() -> None:
    """The cache is on, holds 5,000 query roots, keeps relations 60 s past their TTL, and remembers them for 300 s."""
    expected = DnsCache(enabled=True, size=5000, grace=60.0, history=300.0, relations=0, unmatched="auto")
    assert DnsCache() == expected


def test_the_defaults_are_those_of_the_image() -> None:
    """The cache without options has the bounds and the policies of the image."""
    settings, bounds = DnsCache(), Bounds()
    assert (settings.size, settings.grace, settings.history) == (bounds.size, bounds.grace, bounds.history)
    assert settings.relations == bounds.relations
    assert bounds.most_relations == 131_072
    assert UNMATCHED == POLICIES


REFUSED = [
    ("size=0", "size: '0'"),
    ("size=-1", "size: '-1'"),
    ("size=1.5", "size: '1.5'"),
    ("size=", "size: ''"),
    ("size=ten", "size: 'ten'"),
    ("size=1e3", "size: '1e3'"),
    ("size=\u0661", "size: '\u0661'"),
    ("size=\u00b2", "size: '\u00b2'"),
    ("grace=-1", "grace: '-1'"),
    ("grace=", "grace: ''"),
    ("grace=nan", "grace: 'nan'"),
    ("grace=inf", "grace: 'inf'"),
    ("grace=soon", "grace: 'soon'"),
    ("grace=1e300", "grace: '1e300'"),
    ("history=1000000001", "history: '1000000001' is no number of seconds from 0 to 1000000000"),
    ("history=-1", "history: '-1'"),
    ("history=", "history: ''"),
    ("history=nan", "history: 'nan'"),
    ("history=long", "history: 'long'"),
    ("relations=0", "relations: '0'"),
    ("relations=-1", "relations: '-1'"),
    ("relations=1.5", "relations: '1.5'"),
    ("relations=", "relations: ''"),
    ("history", "option: 'history'"),
    ("relations", "option: 'relations'"),
    ("enabled=1", "option: 'enabled=1'"),
    ("unmatched=", "unmatched: ''"),
    ("unmatched=maybe", "unmatched: 'maybe'"),
    ("unmatched=AUTO", "unmatched: 'AUTO'"),
    ("size", "option: 'size'"),
    ("grace", "option: 'grace'"),
    ("unmatched", "option: 'unmatched'"),
    ("enable=1", "option: 'enable=1'"),
    ("none=", "option: 'none='"),
    ("Enable", "option: 'Enable'"),
    ("bogus", "option: 'bogus'"),
    ("bogus=1", "option: 'bogus=1'"),
    ("size =1", "option: 'size =1'"),
    ("=1", "option: '=1'"),
    ("", "option: ''"),
]


@pytest.mark.parametrize(("value", "named"), REFUSED)
@pytest.mark.parametrize("around", [["{}"], ["size=10,{}"], ["{},grace=1"], ["size=1", "{}", "none"]])
def test_a_wrong_option_is_named(value: str, named: str, around: list[str]) -> None:
    """A wrong option is refused in one line that names it, wherever it stands."""
    with pytest.raises(SettingsError) as caught:
        parse_dnscache([part.format(value) for part in around])
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, DnstrailError)


def test_the_help_names_every_option() -> None:
    """The help shows every option."""
    values = ("size=X", "grace=SECONDS", "history=SECONDS", "relations=X")
    for option in ("enable", "none", *values, f"unmatched={'|'.join(UNMATCHED)}"):
        assert f"--dnscache {option}\n" in DNSCACHE_HELP
