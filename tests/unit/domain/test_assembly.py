"""A plan of an assembly gives the same bytes, and parts that S3 takes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from operator import itemgetter

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import assembly, checksums
from chalicelib.domain.assembly import MIB, Batch, ObjectRange, Piece, UploadPart, batches, bytes_read, gather, plan, size

extracts = st.builds(ObjectRange, st.sampled_from("abc"), st.integers(0, 10), st.integers(0, 40 * MIB))
pieces = st.lists(st.one_of(st.binary(max_size=50), extracts), max_size=60)


def content(parts: list[UploadPart]) -> list[tuple[str, int, int] | bytes]:
    """What parts amount to, in the fewest pieces."""
    found: list[tuple[str, int, int] | bytes] = []
    for piece in (piece for part in parts for piece in part.pieces if size(piece)):
        last = found[-1] if found else None
        if isinstance(piece, bytes):
            found[-1:] = [last + piece] if isinstance(last, bytes) else ([] if last is None else [last]) + [piece]
        elif isinstance(last, tuple) and last[0] == piece.key and last[1] + last[2] == piece.start:
            found[-1] = (last[0], last[1], last[2] + piece.length)
        else:
            found.append((piece.key, piece.start, piece.length))
    return found


@given(pieces)
def test_nothing_is_lost_added_or_moved(wanted: list[Piece]) -> None:
    assert content(plan(wanted)) == content([UploadPart(tuple(wanted))])


@given(pieces)
def test_every_part_but_the_last_has_the_size_that_s3_wants(wanted: list[Piece]) -> None:
    parts = plan(wanted)
    assert all(assembly.MIN_PART <= part.length <= 5 * 1024 * MIB for part in parts[:-1])
    assert all(part.length <= assembly.READ_PART for part in parts if not part.copied)
    assert all(isinstance(part.pieces[0], ObjectRange) and len(part.pieces) == 1 for part in parts if part.copied)


def test_of_a_large_object_only_the_beginning_is_read() -> None:
    parts = plan([b"head", ObjectRange("film", 0, 20 * 1024 * MIB), b"tail"])
    assert bytes_read(parts) < 2 * assembly.READ_PART
    assert sum(part.length for part in parts) == 20 * 1024 * MIB + 8


@given(
    st.lists(st.builds(ObjectRange, st.sampled_from("ab"), st.integers(0, 900), st.integers(0, 100)), max_size=20), st.binary()
)
def test_what_lies_close_together_is_read_at_once_and_each_piece_is_its_own(wanted: list[ObjectRange], between: bytes) -> None:
    objects = {"a": bytes(range(250)) * 4, "b": bytes(range(249, -1, -1)) * 4}
    asked: list[ObjectRange] = []

    def read(ranges: object) -> list[bytes]:
        assert isinstance(ranges, list)
        asked.extend(ranges)
        return [objects[byte_range.key][byte_range.start : byte_range.start + byte_range.length] for byte_range in ranges]

    found = gather([between, *wanted], read)
    assert found == [between, *(objects[extract.key][extract.start : extract.start + extract.length] for extract in wanted)]
    assert len(asked) <= len({extract.key for extract in wanted})


EVENT_LIMIT = 6 * 1000**2
"""Bytes of an invocation's event (Lambda quotas)."""


class Noted:
    """A assembler that notes what it is asked for."""

    def __init__(self) -> None:
        self.uploads: list[Batch] = []
        self.ranges: list[list[ObjectRange]] = []

    def upload(self, batch: Batch) -> list[str]:
        self.uploads.append(batch)
        return [str(number) for number, _ in batch.parts]

    def checksums(self, ranges: Sequence[ObjectRange]) -> list[int]:
        self.ranges.append(list(ranges))
        return [extract.length for extract in ranges]


LONG = "instances/" + "x" * 105
many = st.tuples(st.binary(max_size=300), st.builds(ObjectRange, st.just(LONG), st.integers(0, 10), st.integers(0, 2000)))
large = st.builds(lambda block, times: block * times, st.binary(min_size=1, max_size=8), st.integers(1, 3 * MIB))
bodies = st.one_of(
    pieces,
    st.builds(lambda some, times: [*some] * times, many, st.integers(1, 30_000)),
    st.lists(st.one_of(large, extracts), max_size=12),
)


@given(bodies)
def test_every_part_is_sent_by_someone_once_and_no_load_is_more_than_an_invocation_takes(wanted: list[Piece]) -> None:
    parts = plan(wanted)
    own, shared = batches(parts)
    assert sorted([*own, *(part for batch in shared for part in batch)], key=itemgetter(0)) == list(enumerate(parts, 1))
    for batch in shared:
        event = assembly.upload_event(Batch("cache/multipart/" + "x" * 64, "u" * 128, tuple(batch)))
        assert sum(part.length for _, part in batch) <= assembly.BATCH
        assert len(json.dumps(event)) < EVENT_LIMIT


@given(st.lists(st.one_of(st.binary(max_size=50), extracts), min_size=1, max_size=60))
def test_a_load_is_the_same_after_its_way_to_another_function(wanted: list[Piece]) -> None:
    batch = Batch("cache/multipart/1", "upload", tuple(enumerate(plan(wanted), 1)))
    assembler = Noted()
    tags = assembly.assemble(json.loads(json.dumps(assembly.upload_event(batch))), assembler)
    assert assembler.uploads == [batch]
    assert tags == [str(number) for number, _ in batch.parts]


def test_no_load_of_many_instances_is_carried_by_the_caller_and_twice_as_many_are_twice_the_loads() -> None:
    def slices(count: int) -> list[Piece]:
        return [piece for number in range(count) for piece in (b"--head", ObjectRange(f"instances/h/{number}", 0, 512 * 1024))]

    for count in (500, 1000):
        own, shared = batches(plan(slices(count)))
        assert own == []
        assert len(shared) == -(-count * 512 // (64 * 1024))


@given(st.lists(st.builds(ObjectRange, st.sampled_from("abc"), st.integers(0, 10), st.integers(0, 300 * MIB)), max_size=20))
def test_checksums_are_asked_for_in_ranges_that_fit_an_invocation_and_cover_everything(wanted: list[ObjectRange]) -> None:
    shared = assembly.ranges(wanted)
    assert content([UploadPart(tuple(extent for batch in shared for extent in batch))]) == content([UploadPart(tuple(wanted))])
    for batch in shared:
        assert 0 < sum(extent.length for extent in batch) <= assembly.BATCH
        assert all(extent.length <= assembly.READ_PART for extent in batch)
        assembler = Noted()
        assembly.assemble(json.loads(json.dumps(assembly.checksums_event(batch))), assembler)
        assert assembler.ranges == [batch]


@given(st.binary(), st.binary(max_size=5000))
def test_checksums_of_two_runs_give_that_of_both(first: bytes, second: bytes) -> None:
    assert checksums.joined(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)
