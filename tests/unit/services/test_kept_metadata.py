"""The metadata of a batch is one object, named by its content, that each of its instances names."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime

from chalicelib.domain.audit import Act, DisclosedStudy
from chalicelib.services.ingest.index import index_instances
from chalicelib.services.ingest.instance_items import StoredObject
from chalicelib.services.ingest.summaries import read_summary
from chalicelib.services.retrieval import metadata
from chalicelib.services.retrieval.bodies import VisibleStudy
from chalicelib.services.retrieval.metadata import Series
from tests.fakes import MemoryObjects, MemoryTable
from tests.unit.dicom.building import file_meta, identity, part10, pixels

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 25, tzinfo=UTC)
OPENED = VisibleStudy("maugeri", "1.2.3", DisclosedStudy("maugeri", "1.2.3", ()), None, "maugeri")


def never(institution: str) -> Act:
    raise AssertionError(f"nothing is taken back for {institution}")


def world(count: int) -> tuple[MemoryTable, MemoryObjects]:
    table, objects = MemoryTable(), MemoryObjects()
    contents = [part10(identity(sop=f"1.2.9.{n}") + pixels(), meta=file_meta(sop=f"1.2.9.{n}")) for n in range(count)]
    batch = [StoredObject("maugeri", objects.store("maugeri", content), len(content)) for content in contents]
    assert index_instances(table, objects, read_summary, LONG_AGO, batch, act=never) == {}
    return table, objects


def test_a_batch_is_one_object() -> None:
    table, objects = world(40)
    (key,) = [key for key in objects.contents if key.startswith("metadata/parts/maugeri/")]
    facts = [item for (_, sk), item in table.items().items() if sk.startswith("I#")]
    assert len(facts) == 40 and {item.data["part"] for item in facts} == {key}
    assert len(gzip.decompress(objects.contents[key]).splitlines()) == 40


def test_a_quiet_series_is_put_together_once_and_then_read_as_a_whole() -> None:
    from chalicelib.domain import studies, study_totals

    table, objects = world(20)
    found = list(studies.instances(table.query_all("F#STUDY#maugeri#1.2.3")))
    series = Series("1.2.3.4", study_totals.series_digest(found))
    first = metadata.texts(table, objects, OPENED, [series], NOW)
    for key in [key for key in objects.contents if not key.startswith("metadata/series/")]:
        del objects.contents[key]
    assert metadata.texts(table, objects, OPENED, [series], NOW) == first
    assert first.count(b'"00080018"') == 20


def test_metadata_that_was_not_kept_is_read_anew() -> None:
    from chalicelib.domain import studies

    table, objects = world(3)
    found = list(studies.instances(table.query_all("F#STUDY#maugeri#1.2.3")))
    kept = metadata.lines(objects, "maugeri", found)
    for key in [key for key in objects.contents if key.startswith("metadata/")]:
        del objects.contents[key]
    assert metadata.lines(objects, "maugeri", found) == kept
