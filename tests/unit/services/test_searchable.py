"""`indexed` is said of what a search finds, and not before."""

from __future__ import annotations

import hashlib

from chalicelib.services import uploads
from tests.archive import Archive, image

HOSPITAL = "san-matteo"


def said(archive: Archive, *contents: bytes) -> list[str]:
    hashes = [hashlib.sha256(one).hexdigest() for one in contents]
    answers = uploads.statuses(archive.table, archive.objects, HOSPITAL, hashes)
    return [answers[sha]["state"] for sha in hashes]


def test_an_instance_is_indexed_for_its_sender_once_the_views_know_it() -> None:
    archive = Archive()
    first, second = (image(sop=str(number)) for number in (1, 2))
    assert archive.deliver(archive.store(HOSPITAL, first)) == {}
    assert said(archive, first) == ["stored"]
    archive.project_all()
    assert said(archive, first) == ["indexed"]
    assert archive.deliver(archive.store(HOSPITAL, second)) == {}
    assert said(archive, first, second) == ["stored", "stored"]
    archive.project_all()
    assert said(archive, first, second) == ["indexed", "indexed"]


def test_what_the_archive_has_not_is_absent_and_what_it_refused_is_rejected_at_once() -> None:
    archive = Archive()
    assert archive.deliver(archive.store(HOSPITAL, b"no image")) == {}
    assert said(archive, b"no image", b"never sent") == ["rejected", "absent"]
