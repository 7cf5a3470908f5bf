"""A plan of an assembly gives the same bytes, and parts that S3 takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import assembly
from chalicelib.domain.assembly import MIB, Extract, Part, Piece, bytes_read, gather, plan, size

extracts = st.builds(Extract, st.sampled_from("abc"), st.integers(0, 10), st.integers(0, 40 * MIB))
pieces = st.lists(st.one_of(st.binary(max_size=50), extracts), max_size=60)


def content(parts: list[Part]) -> list[tuple[str, int, int] | bytes]:
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
    assert content(plan(wanted)) == content([Part(tuple(wanted))])


@given(pieces)
def test_every_part_but_the_last_has_the_size_that_s3_wants(wanted: list[Piece]) -> None:
    parts = plan(wanted)
    assert all(assembly.MIN_PART <= part.length <= 5 * 1024 * MIB for part in parts[:-1])
    assert all(part.length <= assembly.READ_PART for part in parts if not part.copied)
    assert all(isinstance(part.pieces[0], Extract) and len(part.pieces) == 1 for part in parts if part.copied)


def test_of_a_large_object_only_the_beginning_is_read() -> None:
    parts = plan([b"head", Extract("film", 0, 20 * 1024 * MIB), b"tail"])
    assert bytes_read(parts) < 2 * assembly.READ_PART
    assert sum(part.length for part in parts) == 20 * 1024 * MIB + 8


@given(st.lists(st.builds(Extract, st.sampled_from("ab"), st.integers(0, 900), st.integers(0, 100)), max_size=20), st.binary())
def test_what_lies_close_together_is_read_at_once_and_each_piece_is_its_own(wanted: list[Extract], between: bytes) -> None:
    objects = {"a": bytes(range(250)) * 4, "b": bytes(range(249, -1, -1)) * 4}
    asked: list[Extract] = []

    def read(ranges: object) -> list[bytes]:
        assert isinstance(ranges, list)
        asked.extend(ranges)
        return [objects[one.key][one.start : one.start + one.length] for one in ranges]

    found = gather([between, *wanted], read)
    assert found == [between, *(objects[one.key][one.start : one.start + one.length] for one in wanted)]
    assert len(asked) <= len({one.key for one in wanted})
