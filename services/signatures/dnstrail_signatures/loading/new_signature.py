"""A new signature: a file that works, and its test, for an author to change."""

from __future__ import annotations

import keyword
import re
from importlib.util import find_spec
from pathlib import Path

from dnstrail.errors import SettingsError
from dnstrail_signatures.loading.load import TEST

_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
_NAMES_OF_TEST = ("SignatureRun",)  # a class of this name takes the place of what the test imports
_SIGNATURE = '''"""Reports each answer that leads to a watched name."""

from dnstrail import EventSelector, Signature, SignatureMetadata

WATCHED = "relay.c2.example"


class {cls}(Signature):
    metadata = SignatureMetadata(
        id="{event}", version="1", name="{title}", event_name="{event}", properties={{"Severity": 2}}
    )
    selected_events = (EventSelector(source="tracee", name="net_packet_dns", origin="*"),)

    def on_event(self, event):
        if event.answered is None or not event.answers:
            return
        names = {{event.answered.name, *(record.target for record in event.answers)}}
        if WATCHED in names:
            self.report(event, question=event.answered.name)
'''
_TEST = '''"""The signature reports answers that lead to the watched name, and no other."""

import unittest

from dnstrail.testing import SignatureRun, dns_response
from {module} import {cls}


class Test{cls}(unittest.TestCase):
    def test_an_alias_of_the_watched_name_is_reported(self):
        run = SignatureRun({cls})
        [finding] = run.event(dns_response("shop.example", "shop.example 60 CNAME relay.c2.example."))
        self.assertEqual(finding.data, {{"question": "shop.example"}})

    def test_another_name_is_not_reported(self):
        run = SignatureRun({cls})
        self.assertEqual(run.event(dns_response("shop.example", "shop.example 60 A 192.0.2.1")), [])
'''


def write_signature(folder: Path, name: str) -> tuple[Path, Path]:
    """Write NAME.py and test_NAME.py, which nobody else may write, and return their paths.

    Raises:
        SettingsError: the name is no name of a new module, or a file cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(f"--new {name}: a name has lower-case letters, digits and single underscores")
    words = name.split("_")
    cls = "".join(word.capitalize() for word in words)
    if keyword.iskeyword(name) or keyword.iskeyword(cls) or cls in _NAMES_OF_TEST:
        raise SettingsError(f"--new {name}: this word has a meaning in Python or in the test; choose another name")
    if find_spec(name) is not None:
        raise SettingsError(f"--new {name}: Python has a module of this name; choose another name")
    names = {
        "module": name,
        "cls": cls,
        "event": name.upper(),
        "title": " ".join(words).capitalize(),
    }
    return _write(folder / f"{name}.py", _SIGNATURE.format(**names)), _write(
        folder / f"{TEST}{name}.py", _TEST.format(**names)
    )


def _write(path: Path, text: str) -> Path:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        path.chmod(0o644)
    except OSError as error:
        raise SettingsError(f"--new: {path}: {error.strerror}") from error
    return path
