"""A hospital installs a new version in the evening, and the one before again in the night: that goes on with the journal."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import ris
from fakes import FakeArchive
from hospital import Hospital, free_port, hospital, store, until
from images import ct_slice

from forwarder.errors import SpoolError
from forwarder.service import running
from forwarder.spool.journal import Journal
from forwarder.spool.schema import SCHEMAS, statements

STUDY = "1.2.826.0.1.3680043.10.79"


def written_by_a_newer_one(file: Path, readable_since: int) -> None:
    """A journal as a later version may leave it: each table has a column more, and there is a new one."""
    Journal(file).close()
    with closing(sqlite3.connect(file)) as newer:
        tables = newer.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").fetchall()
        for (table,) in tables:
            newer.execute(f"ALTER TABLE {table} ADD COLUMN of_a_newer_version TEXT NOT NULL DEFAULT 'x'")
        newer.execute("CREATE TABLE of_a_newer_version (number INTEGER PRIMARY KEY)")
        newer.execute("UPDATE readable SET since = ?", (readable_since,))
        newer.execute(f"PRAGMA user_version = {len(SCHEMAS) + 1}")
        newer.commit()


@pytest.fixture
def place(tmp_path: Path, archive: FakeArchive, credentials: Path) -> Hospital:
    return hospital(tmp_path, archive.url, hl7__address="127.0.0.1", hl7__port=free_port())


def test_what_a_newer_version_added_is_passed_over(place: Hospital, archive: FakeArchive):
    file = place.spool / "journal.sqlite3"
    place.spool.mkdir(parents=True)
    written_by_a_newer_one(file, readable_since=len(SCHEMAS))
    with running(place.config()):
        assert set(store(place, [ct_slice(number, study=STUDY) for number in range(1, 4)])) == {0}
        assert until(lambda: place.settled(3))["indexed"] == 3
        with ris.Ris(int(place.values["hl7.port"])) as sender:
            assert sender.send(ris.oru("Invariato.", study=STUDY)).code == "AA"
        assert place.state()["reports"]["received"] == 1
    with closing(sqlite3.connect(file)) as after:
        assert after.execute("PRAGMA user_version").fetchone()[0] == len(SCHEMAS) + 1


def test_what_an_older_version_would_misread_is_refused_and_left_as_it_is(tmp_path: Path):
    file = tmp_path / "journal.sqlite3"
    written_by_a_newer_one(file, readable_since=len(SCHEMAS) + 1)
    before = file.read_bytes()
    with pytest.raises(SpoolError, match="newer forwarder"):
        Journal(file)
    assert file.read_bytes() == before


def test_what_each_version_added_can_be_passed_over_by_the_ones_before():
    """New tables, indices, triggers, counters, and columns that need no value; or it says from where on it is readable."""
    added = re.compile(
        r"CREATE (TABLE|INDEX|TRIGGER) |INSERT INTO counters "
        r"|ALTER TABLE \w+ ADD COLUMN \w+ \w+(?! NOT NULL)|ALTER TABLE \w+ ADD COLUMN \w+ \w+ NOT NULL DEFAULT "
    )
    for script in SCHEMAS[1:]:
        for statement in statements(re.sub(r"--.*", "", script)):
            assert added.match(statement.strip()) or "readable" in script, statement


def test_every_row_is_written_with_the_names_of_its_columns():
    """Else a column that a later version adds would make each INSERT of this one fail."""
    for file in (Path(__file__).parents[2] / "forwarder").rglob("*.py"):
        if file.name != "schema.py":
            assert not re.search(r"INTO \w+ VALUES", file.read_text(encoding="utf-8")), file.name
