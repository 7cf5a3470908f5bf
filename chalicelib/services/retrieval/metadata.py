"""Metadata of instances, series and studies (PS3.18 10.4.1.1.2).

The indexer keeps the metadata of each batch in one object. A series' metadata is put together from those when it is first
asked for, and kept as one gzipped object named by the series' content; from then on it costs one GET, and what is left to
do is done to its text as a whole (`dicom.served`). As long as a series still grows it is put together anew and not kept, so
that what is written stays in proportion to the series.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.dicomweb.search_results import dated
from chalicelib.domain import keys, shown_patients, studies, study_totals, tags
from chalicelib.domain.dicom_json import Attributes, first_value
from chalicelib.domain.errors import NotAcceptable, NotFound, TooLarge
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item, Objects, Table
from chalicelib.domain.reading_order import in_reading_order
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.studies import Instance
from chalicelib.domain.study_views import SeriesView
from chalicelib.services.retrieval.bodies import VisibleStudy, object_key
from chalicelib.services.retrieval.frames import head_of

_WHOLE = 1 << 31
_PARALLEL = 16
_QUIET = timedelta(seconds=10)
_MOST_TEXT = 256 * 1024 * 1024
"""Bytes of metadata, inflated, of one answer."""


@dataclass(frozen=True)
class Text:
    """Kept lines of metadata, and what stands for their content."""

    lines: bytes
    digest: str


@dataclass(frozen=True)
class Series:
    """A series as its view says: its UID, and what stands for its content."""

    uid: str
    digest: str


def series_of(table: Table, opened: VisibleStudy, series: str | None) -> list[Series]:
    """The study's series, or the one that is named. Raises NotFound."""
    partition = keys.series_views(opened.owner, opened.study)
    if series is not None:
        item = table.get(partition, series)
        items = [item] if item is not None else []
    else:
        items = list(table.query_all(partition))
    gone = studies.withdrawn(table.query_all(keys.study_facts(opened.owner, opened.study), keys.MARKS))
    found = [read for item in items if (read := _series(table, opened, item, gone)) is not None]
    if not found:
        raise NotFound
    return found


def _series(table: Table, opened: VisibleStudy, item: Item, gone: set[str]) -> Series | None:
    """A series as it is to be shown. Where instances were withdrawn, or the view is newer than what was decided on, its
    content is counted anew: the view may not yet know."""
    view = SeriesView.from_item(item.sk, item.data)
    known = opened.within.patients is None or {*view.patients} <= {*opened.within.patients}
    if not gone and known and not opened.stale:
        return Series(item.sk, view.digest)
    found = _instances(table, opened, item.sk, gone)
    return Series(item.sk, study_totals.series_digest(found)) if found else None


def _instances(table: Table, opened: VisibleStudy, series: str, gone: set[str]) -> list[Instance]:
    facts = table.query_all(keys.study_facts(opened.owner, opened.study), keys.instance(series, ""))
    return in_reading_order(studies.instances(facts, gone, opened.within))


def texts(table: Table, objects: Objects, opened: VisibleStudy, wanted: Sequence[Series], now: datetime) -> bytes:
    """The kept lines of these series, joined by commas. One GET for each series, once it has been asked for."""
    with ThreadPoolExecutor(min(_PARALLEL, len(wanted))) as pool:
        found = list(pool.map(lambda series_entry: _series_text(table, objects, opened, series_entry, now), wanted))
    if sum(map(len, found)) > _MOST_TEXT:
        raise TooLarge("This is too much metadata for one answer. Please ask series by series.")
    return b",\n".join(found)


def _series_text(table: Table, objects: Objects, opened: VisibleStudy, series: Series, now: datetime) -> bytes:
    key = keys.metadata_of_series(opened.owner, series.digest)
    try:
        return _inflate(objects.read(key, 0, _WHOLE))
    except NotFound:
        pass
    gone = studies.withdrawn(table.query_all(keys.study_facts(opened.owner, opened.study), keys.MARKS))
    found = _instances(table, opened, series.uid, gone)
    text = b",\n".join(lines(objects, opened.owner, found))
    quiet = all(instance.fact.at < iso(now - _QUIET) for instance in found)
    if quiet and study_totals.series_digest(found) == series.digest:
        objects.write(key, gzip.compress(text, 1, mtime=0), "application/gzip")
    return text


def lines(objects: Objects, owner: str, found: Sequence[Instance]) -> list[bytes]:
    """The kept line of each instance, from the parts that the indexer wrote; read anew where there is none."""
    parts = sorted({instance.fact.part for instance in found if instance.fact.part})
    kept: dict[bytes, bytes] = {}
    if parts:
        with ThreadPoolExecutor(min(_PARALLEL, len(parts))) as pool:
            for text in pool.map(lambda key: _part(objects, key), parts):
                kept.update(_by_hash(text))
    return [kept.get(instance.fact.sha256.encode()) or read_line(objects, owner, instance) for instance in found]


def _part(objects: Objects, key: str) -> bytes:
    try:
        return _inflate(objects.read(key, 0, _WHOLE))
    except NotFound:
        return b""


def _by_hash(text: bytes) -> Iterable[tuple[bytes, bytes]]:
    for line in text.split(b"\n"):
        sha, _, content = line.partition(b"\t")
        yield sha, content


def read_line(objects: Objects, owner: str, instance: Instance) -> bytes:
    """The line of metadata that is kept of an instance, from its bytes. Raises NotAcceptable, NotFound."""
    from chalicelib.dicom import frames, served
    from chalicelib.domain.rejections import Rejected

    key = object_key(owner, instance)
    head = head_of(objects, key, instance.fact.size)
    described = frames.examine(head, lambda start, length: objects.read(key, start, length))
    try:
        return served.keep(head, instance.series_instance_uid, instance.sop_instance_uid, described)
    except Rejected as rejected:
        raise NotAcceptable(f"The instance cannot be read: {rejected.reason}.") from rejected


def _inflate(data: bytes) -> bytes:
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
    text = inflate.decompress(data, _MOST_TEXT)
    if inflate.unconsumed_tail:
        raise TooLarge("This is too much metadata for one answer. Please ask for single instances.")
    return text


def serve(text: bytes, opened: VisibleStudy, study_url: str, now: datetime) -> bytes:
    """Kept lines as a JSON array for this viewer: under its own patient number, with addresses of the archive.

    Where the number is another than the one in the images, the originals stand in Original Attributes Sequence
    (PS3.3 C.12.1.1.9).
    """
    from chalicelib.dicom import served

    suffix = f"?owner={opened.shown_owner}" if opened.shown_owner else ""

    def replace(original: Attributes) -> tuple[Attributes, Attributes]:
        value = first_value(original, tags.PatientID)
        face = opened.face(PatientIdentifier("", value))
        if len({face.shown for face in opened.faces if face.patient is not None and face.patient.value == value}) > 1:
            return original, {}  # two patients with the same number of two issuers
        if face is None or face.shown is None or (len(opened.faces) > 1 and not face.coerced):
            return original, {}
        identifiers, item = shown_patients.coerced(original, face.shown, opened.owner)
        return identifiers, dated(item, now)

    coercing = replace if opened.coerced else None
    return b"[" + served.serve(text, study_url, suffix, coercing, opened.accession_issuer) + b"]"


def numbers_text(opened: VisibleStudy) -> str:
    """The numbers that an answer is made for, for its entity tag."""
    return "\x1e".join(f"{number.issuer}\x1f{number.value}" for number in opened.numbers) if opened.coerced else ""
