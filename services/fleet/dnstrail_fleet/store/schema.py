"""The tables of the store: each step of the list leads from one version to the next."""

from __future__ import annotations

from typing import Final

KIND: Final = 0x444E5346 + 0x100
NAME: Final = "fleet.db"
# A row is found by its target, by its question, and by its owner where that is another name. All times but `day` are
# seconds since the begin of the day, which take fewer bytes. `removals` counts how often texts were removed, whose ids
# another process may remember.
VERSIONS: Final = (
    """
    CREATE TABLE hosts (id INTEGER PRIMARY KEY, name TEXT UNIQUE, heard INTEGER, skew INTEGER, behind INTEGER,
        dropped INTEGER, waiting INTEGER, trimmed INTEGER, left_out INTEGER);
    CREATE TABLE refused (host INTEGER, reason TEXT, count INTEGER, PRIMARY KEY (host, reason)) WITHOUT ROWID;
    CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT UNIQUE);
    CREATE TABLE askers (id INTEGER PRIMARY KEY, program TEXT, container TEXT, image TEXT,
        UNIQUE (program, container, image));
    CREATE TABLE rows (day INTEGER, target INTEGER, owner INTEGER, type INTEGER, question INTEGER, host INTEGER,
        asker INTEGER, first INTEGER, last INTEGER, "end" INTEGER, count INTEGER, gaps INTEGER, doubted INTEGER,
        PRIMARY KEY (day, target, owner, type, question, host, asker)) WITHOUT ROWID;
    CREATE INDEX rows_by_question ON rows (day, question);
    CREATE INDEX rows_by_owner ON rows (day, owner) WHERE owner <> question;
    CREATE TABLE shares (day INTEGER, host INTEGER, rows INTEGER, PRIMARY KEY (host, day)) WITHOUT ROWID;
    CREATE TABLE removals (id INTEGER PRIMARY KEY, count INTEGER);
    INSERT INTO removals VALUES (1, 0);
    CREATE TABLE names (text INTEGER PRIMARY KEY, first INTEGER, host INTEGER);
    CREATE INDEX names_by_first ON names (first)
    """,
    "ALTER TABLE rows ADD COLUMN used INTEGER DEFAULT -1",  # the last connection, -1: none is known
)
