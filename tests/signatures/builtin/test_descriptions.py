"""Each built-in signature describes itself: in its docstring, from which its page is made, and in its metadata."""

from __future__ import annotations

import inspect
import re
import sys

import pytest

from dnstrail_signatures.loading.load import find, load

BUILT_IN = [cls for cls in load(find()) if cls.__module__.startswith("dnstrail_signatures.builtin.")]
PARTS = ["Sees", "Cannot see", "False positives", "MITRE", "Settings"]
OF_TESTS = "DNS_DATA_SOURCE"  # tracee's own example


def described(cls):
    """Return the docstring of a signature's file without its first paragraph."""
    return inspect.getdoc(sys.modules[cls.__module__]).partition("\n\n")[2]


@pytest.mark.parametrize("cls", BUILT_IN)
def test_the_docstring_has_all_parts(cls):
    """It states what the signature sees and does not see, its false positives, its technique and each setting."""
    text = described(cls)
    assert re.findall(r"^([A-Z]\w+(?: \w+)?): ", text, re.MULTILINE) == PARTS
    settings = text.partition("\nSettings: ")[2]
    fields = cls.settings.__struct_fields__ if cls.settings is not None else ()
    assert [field for field in fields if f"`{field}`" not in settings] == []
    technique = re.search(r"^MITRE: (.*)\.$", text, re.MULTILINE)[1]
    assert technique == cls.metadata.properties.get("external_id", "none")


@pytest.mark.parametrize("cls", [cls for cls in BUILT_IN if cls.metadata.event_name != OF_TESTS])
def test_the_metadata_has_the_properties_of_tracee(cls):
    """Severity, category, and the technique with both of its ids."""
    properties = cls.metadata.properties
    assert [*properties] == ["Severity", "Category", "Technique", "id", "external_id"]
    assert properties["Severity"] in range(4)
    assert re.fullmatch(r"attack-pattern--[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", properties["id"])
    assert cls.metadata.description.endswith(".")


def test_the_ids_are_distinct():
    """No two signatures share an id or an event."""
    for of in ("id", "event_name"):
        assert len({getattr(cls.metadata, of) for cls in BUILT_IN}) == len(BUILT_IN)
