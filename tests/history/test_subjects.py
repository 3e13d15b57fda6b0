"""What is excluded is never kept, and a wrong subject is refused."""

from __future__ import annotations

from typing import Any

import pytest

from builders.facts import CURL, fact_of, stage_of
from dnstrail.captured import Process
from dnstrail.errors import SettingsError
from dnstrail.history.subjects import subject_of, subjects_of

ROOT = Process(1, "init", "/sbin/init", user_id=0)
USER = Process(7, "curl", "/usr/bin/curl", user_id=1000)
UNNAMED = Process(8, "curl", "/usr/bin/curl", container_id="deadbeefdead")
OF_ALICE = Process(9, "curl", container_id="alice/c0ffeec0ffee", container_name="alice/web")
UNNAMED_OF_ALICE = Process(9, "curl", container_id="alice/c0ffeec0ffee")
EXCLUDED: list[tuple[list[str], dict[str, Any], bool]] = [
    (["name=example"], {}, True),
    (["name=A.Example."], {}, True),
    (["name=*.b.example"], {}, True),  # the target of an alias
    (["name=xample"], {}, False),
    (["name=x.a.example"], {}, False),
    (["name=sécret.example"], {"name": "a.xn--scret-bsa.example", "relations": ()}, True),
    (["user=1000"], {"process": USER}, True),
    (["user=root"], {"process": ROOT}, True),
    (["user=1000"], {"process": ROOT}, False),
    (["user=1000"], {"process": None, "hop": 2}, False),
    (["user=1000"], {"process": None}, True),
    (["container=c0ffeec0ffee"], {"process": None}, True),
    (["name=other.example"], {"process": None}, False),
    (["user=1000"], {"process": ROOT, "hop": 1}, True),  # a forwarder may ask for this user
    (["name=other.example"], {"process": ROOT, "hop": 1}, False),
    (["container=web"], {"process": CURL}, True),
    (["container=c0ff"], {"process": CURL}, True),
    (["container=c0ffee00"], {"process": CURL}, False),
    (["container=web"], {"process": USER}, False),
    (["name=x.example", "user=1000", "container=web"], {"process": USER}, True),
    ([], {"process": USER, "hop": 1}, False),
    (["container=db"], {"process": UNNAMED}, True),  # its name may be this one, and is not known yet
    (["container=c0ffeec0ffee", "container=db"], {"process": UNNAMED}, True),
    (["container=c0ffeec0ffee"], {"process": UNNAMED}, False),
    (["user=1000", "name=other.example"], {"process": UNNAMED}, False),
    (["container=db"], {"process": CURL}, False),
    (["container=web", "container=c0ffeec0ffee", "container=al"], {"process": OF_ALICE}, False),
    (["container=alice/web"], {"process": OF_ALICE}, True),
    (["container=alice/c0ffee"], {"process": OF_ALICE}, True),
    (["container=alice/web"], {"process": CURL}, False),
    (["container=db", "container=bob/db"], {"process": UNNAMED_OF_ALICE}, False),  # else a user hides what is asked
    (["container=alice/db"], {"process": UNNAMED_OF_ALICE}, True),
]


@pytest.mark.parametrize(("given", "values", "is_excluded"), EXCLUDED)
def test_a_fact_is_excluded(given: list[str], values: dict[str, Any], is_excluded: bool) -> None:
    """A fact is excluded by any of its names, by a name above these, by its user and by its container."""
    assert subjects_of(given).excludes(fact_of(1, **values)) is is_excluded


@pytest.mark.parametrize(("given", "is_excluded"), [("name=example", True), ("container=web", True), ("user=5", False)])
def test_a_connection_is_excluded(given: str, is_excluded: bool) -> None:
    """A connection is excluded by its name and its process alone: no forwarder connects for another."""
    assert subjects_of([given]).excludes(stage_of()) is is_excluded


@pytest.mark.parametrize(
    "wrong", ["example", "name=", "process=x", "user=nobody-has-this-name", "name=..", "name=192.0.2.1", "user="]
)
def test_a_wrong_exclusion_is_refused(wrong: str) -> None:
    """A wrong kind, no value, no name and an unknown user refuse the start."""
    with pytest.raises(SettingsError):
        subjects_of([wrong])


@pytest.mark.parametrize(
    "wrong",
    ["*", "*bank*", "*.*.example", "192.0.2.0/24", "192.0.2.1/24", "2001:db8::/32", "https://a.example", "a:53"],
)
def test_a_text_that_nothing_is_stored_as_is_refused(wrong: str) -> None:
    """A pattern, a network, a URL and a port are no key: to forget them would remove nothing, in silence."""
    with pytest.raises(SettingsError, match="no name and no address"):
        subject_of(wrong)
    with pytest.raises(SettingsError):
        subjects_of([f"name={wrong}"])


def test_a_key_is_an_address_or_a_name() -> None:
    """The key of a request is read as that of a lookup."""
    assert subject_of("::ffff:192.0.2.1").addresses == {"192.0.2.1"}
    assert subject_of("1.2.0.192.in-addr.arpa").addresses == {"192.0.2.1"}
    assert subject_of("A.Example.").names == {"a.example"}
    assert subject_of("*.A.Example").names == {"a.example"}
    assert subject_of("a/b.example").names == {"a/b.example"}
