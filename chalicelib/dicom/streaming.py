"""Items of sequences that are too long to be held, read again one by one: each is forgotten before the next one comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydicom.dataset import Dataset

from chalicelib.dicom.elements import LeftOut, Streaming
from chalicelib.dicom.header import Head


@dataclass(frozen=True, slots=True)
class SequenceItem:
    """One item: its number, from 0, its data set, and the values of it that stayed in the object, by their whole paths."""

    number: int
    dataset: Dataset
    left_out: list[LeftOut]


class _Enough(Exception):
    """The item that was looked for is here."""


def each_item(head: Head, tag: int, use: Callable[[SequenceItem], None]) -> None:
    """Hand every item of a streamed sequence to `use`, in order. Raises what reading raises."""

    def each(of: int, number: int, dataset: Dataset, left_out: list[LeftOut]) -> None:
        if of == tag:
            use(SequenceItem(number, dataset, left_out))

    head.again(Streaming(lambda of, _: of == tag, each))


def one_item(head: Head, tag: int, number: int) -> SequenceItem | None:
    """One item of a streamed sequence; None where there is none. What is before it is walked, what is behind it not read."""
    if number >= head.streamed.get(tag, 0):
        return None
    found: list[SequenceItem] = []

    def each(_: int, at: int, dataset: Dataset, left_out: list[LeftOut]) -> None:
        found.append(SequenceItem(at, dataset, left_out))
        raise _Enough

    try:
        head.again(Streaming(lambda of, at: of == tag and at == number, each))
    except _Enough:
        return found[0]
    return None
