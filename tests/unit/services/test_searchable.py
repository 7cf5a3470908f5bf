"""`indexed` is said of what a search finds, and not before: in `/uploads/status` and in the answer to a store."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from chalicelib.domain.verdicts import Verdict
from chalicelib.services.ingest import searchable, store, uploads
from chalicelib.services.ingest.uploads import UploadOffer
from tests.streams import MOMENT
from tests.world import World, image, reading_world


def states(archive: World, *hashes: str) -> dict[str, Any]:
    answers = uploads.statuses(archive.table, archive.objects, "san-matteo", list(hashes))
    return {sha: str(status.state) for sha, status in answers.items()}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_what_is_indexed_counts_as_stored_until_the_projector_has_seen_it() -> None:
    archive = reading_world()
    first, second = image(sop="1"), image(sop="2")
    assert archive.index_batch(archive.put_objects("san-matteo", first)) == {}
    assert states(archive, digest(first)) == {digest(first): "stored"}
    archive.project_all()
    assert states(archive, digest(first)) == {digest(first): "indexed"}
    archive.index_batch(archive.put_objects("san-matteo", second))
    assert states(archive, digest(first), digest(second)) == {digest(first): "stored", digest(second): "stored"}
    assert states(archive, digest(first)) == {digest(first): "indexed"}
    archive.project_all()
    assert set(states(archive, digest(first), digest(second)).values()) == {"indexed"}


def test_an_instance_asked_for_by_both_of_its_digests_is_one() -> None:
    archive = reading_world()
    packed, original = image(), "0" * 64
    uploads.request_uploads(
        archive.table,
        archive.objects,
        archive.announced.append,
        "san-matteo",
        [UploadOffer(digest(packed), len(packed), original=original)],
        MOMENT,
    )
    archive.bring("san-matteo", packed)
    assert states(archive, original, digest(packed)) == {original: "indexed", digest(packed): "indexed"}


def test_what_was_taken_back_counts_as_withdrawn_and_holds_up_no_other() -> None:
    archive = reading_world()
    first, second = image(sop="1"), image(sop="2")
    archive.bring("san-matteo", first, second)
    archive.withdraw("san-matteo", "1.2.3", "1.2.3.1.1")
    archive.project_all()
    assert states(archive, digest(first), digest(second)) == {digest(first): "rejected", digest(second): "indexed"}


def test_an_answer_waits_four_seconds_at_the_most_and_no_longer_than_it_has_to() -> None:
    assert store._PATIENCE == 4.0
    archive = reading_world()
    (stored,) = archive.put_objects("san-matteo", image())
    archive.index_batch([stored])
    verdicts = {"one": Verdict.from_item(archive.verdict(stored))}
    started = time.monotonic()
    searchable.wait_for(archive.table, "san-matteo", verdicts, 0.2)
    assert 0.2 <= time.monotonic() - started < 3
    archive.project_all()
    started = time.monotonic()
    searchable.wait_for(archive.table, "san-matteo", verdicts, 60)
    assert time.monotonic() - started < 3
