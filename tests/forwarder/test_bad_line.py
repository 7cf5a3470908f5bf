"""A bad line between forwarder and cloud: a proxy that cuts, loses, slows down and answers for others."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FakeArchive
from hospital import conserved, hospital, store
from images import ct_slice
from line_proxy import BadLine, bad_line

from forwarder.service import running

pytestmark = pytest.mark.usefixtures("credentials")


@pytest.fixture
def line() -> Iterator[BadLine]:
    with bad_line() as line:
        yield line


def arrives(place, archive: FakeArchive, count: int = 12) -> dict:
    """Send `count` slices and wait until all are in the archive, with the counts agreeing all the while."""
    with running(place.config()):
        assert store(place, [ct_slice(n, edge=96) for n in range(1, count + 1)]) == [0x0000] * count
        deadline = time.monotonic() + 90
        while (state := place.state())["waiting"]:
            conserved(state)
            assert time.monotonic() < deadline, state
            time.sleep(0.02)
    conserved(state)
    assert state["indexed"] == len(archive.order) == len(set(archive.order)) == count
    return state


@pytest.mark.parametrize("after", [0, 1, 1000, 15000])
def test_cut_after_so_many_bytes(archive: FakeArchive, line: BadLine, tmp_path: Path, after: int):
    chance = random.Random(after)
    line.cut_after = lambda method, path: after if chance.random() < 0.3 else None
    arrives(hospital(tmp_path, archive.url, archive__proxy=line.url, send__lossless=False), archive)
    assert line.cuts


def test_answers_lost_after_the_commit(archive: FakeArchive, line: BadLine, tmp_path: Path):
    chance = random.Random(3)
    line.lose_answer = lambda method, path: chance.random() < 0.3
    arrives(hospital(tmp_path, archive.url, archive__proxy=line.url), archive)
    assert line.lost


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, b"<Error><Code>SlowDown</Code></Error>"),
        (403, b'{"message": "Signature expired: 20200101T000000Z is now earlier than 20200101T001500Z"}'),
        (502, b"<html>a proxy's own page</html>"),
        (407, b"<html>a proxy that wants a password</html>"),
    ],
)
def test_other_answers(archive: FakeArchive, line: BadLine, tmp_path: Path, status: int, body: bytes):
    """Whoever answers instead of the archive, no instance is blamed for it."""
    chance = random.Random(status)
    line.instead = lambda method, path: (status, body) if chance.random() < 0.15 else None
    arrives(hospital(tmp_path, archive.url, archive__proxy=line.url), archive)


def test_a_slow_line_is_only_slow(archive: FakeArchive, line: BadLine, tmp_path: Path):
    line.bytes_per_second = 100_000
    place = hospital(tmp_path, archive.url, archive__proxy=line.url, send__lossless=False)
    arrives(place, archive, 10)
    assert line.bytes_up > 10 * 96 * 96 * 2


def test_the_bandwidth_limit_holds(archive: FakeArchive, tmp_path: Path):
    place = hospital(
        tmp_path,
        archive.url,
        send__lossless=False,
        send__limits=[{"start": "00:00", "end": "24:00", "mbit": 0.8}],
    )
    began = time.monotonic()
    arrives(place, archive, 10)
    assert time.monotonic() - began > 10 * 96 * 96 * 2 / 100_000 * 0.8


def test_a_line_that_is_gone_for_a_while_loses_nothing(archive: FakeArchive, line: BadLine, tmp_path: Path):
    place = hospital(tmp_path, archive.url, archive__proxy=line.url)
    gone_until = time.monotonic() + 2
    line.lose_answer = lambda method, path: time.monotonic() < gone_until
    arrives(place, archive)
