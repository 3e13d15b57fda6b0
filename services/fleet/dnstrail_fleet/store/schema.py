"""The tables of the store: each step of the list leads from one version to the next."""

from __future__ import annotations

from typing import Final

KIND: Final = 0x444E5346 + 0x100
NAME: Final = "fleet.db"
# A row is found by its target, by its question, and by its owner where that is another name. All times but `day` are
# seconds since the begin of the day, which take fewer bytes. `removals` counts how often texts were removed, whose ids
# another process may remember. `totals` are those of the newest days, by host (0), question (1) and address (2). A
# name has its last day with rows; a text and an asker have its week, which changes less often.
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
    """
    CREATE TABLE totals (day INTEGER, kind INTEGER, id INTEGER, answers INTEGER, relations INTEGER,
        PRIMARY KEY (day, kind, id)) WITHOUT ROWID;
    CREATE TRIGGER row_added AFTER INSERT ON rows BEGIN
        INSERT INTO totals VALUES (new.day, 0, new.host, new.count, 1), (new.day, 1, new.question, new.count, 1)
            ON CONFLICT DO UPDATE SET answers = answers + excluded.answers, relations = relations + 1;
        INSERT INTO totals SELECT new.day, 2, new.target, new.count, 1 WHERE new.type IN (1, 28)
            ON CONFLICT DO UPDATE SET answers = answers + excluded.answers, relations = relations + 1;
    END;
    CREATE TRIGGER row_counted AFTER UPDATE OF count ON rows WHEN new.count > old.count BEGIN
        UPDATE totals SET answers = answers + (new.count - old.count)
            WHERE day = new.day AND kind = 0 AND id = new.host;
        UPDATE totals SET answers = answers + (new.count - old.count)
            WHERE day = new.day AND kind = 1 AND id = new.question;
        UPDATE totals SET answers = answers + (new.count - old.count)
            WHERE day = new.day AND kind = 2 AND id = new.target AND new.type IN (1, 28);
    END;
    CREATE TEMP VIEW newest AS SELECT * FROM main.rows WHERE day >= (SELECT max(day) - 2 FROM main.rows);
    INSERT INTO totals SELECT day, 0, host, CAST(total(count) AS INTEGER), count(*) FROM newest GROUP BY day, host;
    INSERT INTO totals SELECT day, 1, question, CAST(total(count) AS INTEGER), count(*) FROM newest
        GROUP BY day, question;
    INSERT INTO totals SELECT day, 2, target, CAST(total(count) AS INTEGER), count(*) FROM newest
        WHERE type IN (1, 28) GROUP BY day, target;
    DROP VIEW newest
    """,
    """
    ALTER TABLE texts ADD COLUMN week INTEGER DEFAULT 0;
    ALTER TABLE askers ADD COLUMN week INTEGER DEFAULT 0;
    ALTER TABLE names ADD COLUMN day INTEGER DEFAULT 0;
    UPDATE texts SET week = (SELECT ifnull(max(day), 0) / 7 FROM rows);
    UPDATE askers SET week = (SELECT ifnull(max(day), 0) / 7 FROM rows);
    UPDATE names SET day = (SELECT ifnull(max(day), 0) FROM rows)
    """,
)
