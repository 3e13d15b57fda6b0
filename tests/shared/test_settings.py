"""What `--dnscache` takes: DESIGN 7."""

from __future__ import annotations

import pytest

from dnstrail.errors import DnstrailError, SettingsError
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
def test_what_the_options_make(values: list[str], expected: DnsCache) -> None:
    """Options come comma-separated or with the flag several times, and later ones win."""
    assert parse_dnscache(values) == expected


def test_the_defaults() -> None:
    """The cache is on, holds 5,000 query roots, and keeps relations 60 s past their TTL."""
    assert DnsCache() == DnsCache(enabled=True, size=5000, grace=60.0, unmatched="auto")


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
    """Whatever cannot be taken is refused in one line that names it, wherever it stands."""
    with pytest.raises(SettingsError) as caught:
        parse_dnscache([part.format(value) for part in around])
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, DnstrailError)


def test_the_help_names_every_option() -> None:
    """What the help shows is what the options take."""
    for option in ("enable", "none", "size=X", "grace=SECONDS", f"unmatched={'|'.join(UNMATCHED)}"):
        assert f"--dnscache {option}\n" in DNSCACHE_HELP
