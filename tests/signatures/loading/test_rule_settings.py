"""The rules [[watch]] of the settings file: they belong to WATCHED_NAME, and a wrong one is refused.

Tests of dnstrail_signatures.loading.signature_settings.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from dnstrail.errors import SettingsError
from dnstrail.process.config_file import ConfigFile
from dnstrail_signatures.builtin.dns_tunnel import DnsTunnel
from dnstrail_signatures.builtin.watched_name import WatchedName, WatchedNameSettings
from dnstrail_signatures.loading.signature_settings import sets, settings_of
from dnstrail_signatures.loading.watch_rule import MOST_RULES, WatchRule


def loaded(text):
    return settings_of(ConfigFile(Path("/f.toml"), tomllib.loads(text)), (WatchedName, DnsTunnel))


def test_the_rules_belong_to_the_watched_names():
    """Each table [[watch]] is a rule of WATCHED_NAME, beside its own settings, and asks for it."""
    text = '[[watch]]\nname = "a"\nsuffixes = ["A.Example."]\n[[watch]]\nname = "b"\noutcomes = ["failed"]\n'
    rules = WatchRule(name="a", suffixes=("a.example",)), WatchRule(name="b", outcomes=("failed",))
    for own, file in (("", ""), ('[signature.DNSTRAIL-1]\nfile = "/x"\n', "/x")):
        found = loaded(own + text)
        assert found["DNSTRAIL-1"].own == WatchedNameSettings(rules, file)
        assert found["DNSTRAIL-2"].own == DnsTunnel.settings
    config = ConfigFile(Path("/f.toml"), tomllib.loads(text))
    assert (sets(config, WatchedName), sets(config, DnsTunnel), sets(ConfigFile(), WatchedName)) == (True, False, False)


RULE = '[[watch]]\nname = "r"\norigin = "host"\n'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            '[[watch]]\nname = "r"\nsufixes = ["a.example"]\n',
            "sufixes: unknown key in [[watch]]: did you mean suffixes?",
        ),
        ('[[watch]]\nsuffixes = ["a.example"]\n', "[[watch]] 1: Object missing required field `name`"),
        (RULE + '[[watch]]\nname = "s"\nsuffixes = ["a..b"]\n', "[[watch]] 2: 'a..b' is no domain name"),
        (RULE + 'suffixes = ["evil.com:53"]\n', "[[watch]] 1: 'evil.com:53' is no domain name"),
        ('[[watch]]\nname = "r"\nusers = [-1]\n', "[[watch]] 1 users[0]: Expected `int` >= 0"),
        (RULE * 2, "[[watch]] 2: another rule has the name 'r'"),
        (
            "".join(RULE.replace('"r"', f'"{number}"') for number in range(MOST_RULES + 1)),
            f"more than {MOST_RULES} rules",
        ),
        ("[signature.WATCHED_NAME]\nwatch = []\n", "watch: unknown key in [signature.WATCHED_NAME]"),
    ],
    ids=["key", "no name", "suffix", "port", "user", "twice", "too many", "another place"],
)
def test_a_wrong_rule_is_refused(text, error):
    """A wrong rule is an error that states the rule by its number, and the key."""
    with pytest.raises(SettingsError, match=re.escape(error)):
        loaded(text)
