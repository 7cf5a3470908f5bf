"""Removing bytes for good, every version of them: the one place besides `ingest.removals` that does, and in one function alone.

Who calls this has a decision that stands as a fact: of two operators on an institution that left, of an owner on its patient, or
of an owner's rule that was tried before. Here it only goes.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from chalicelib.domain.errors import NotFound
from chalicelib.domain.ports import Objects, StoredVersion, Versions

_PARALLEL = 16
_WHOLE = 1 << 31
Found = TypeVar("Found")


def remove_objects(versions: Versions, wanted: Sequence[str]) -> None:
    """Remove every version of these objects."""

    def remove_all(key: str) -> None:
        for version in versions.of(key):
            versions.remove(key, version.id)

    _each(wanted, remove_all)


def remove_versions(versions: Versions, found: Iterable[StoredVersion]) -> None:
    """Remove these versions, and none that came since."""
    _each(list(found), lambda stored: versions.remove(stored.key, stored.version.id))


def remove_below(versions: Versions, prefix: str, enough_time: Callable[[], bool]) -> bool:
    """Remove everything below a prefix, as far as there is time (`enough_time()` answers); whether nothing is left."""
    while found := versions.below(prefix):
        if not enough_time():
            return False
        remove_versions(versions, found)
    return True


def remove_lines(objects: Objects, versions: Versions, part: str, gone: Collection[str]) -> None:
    """Take the lines of these instances (SHA-256) out of an object with the metadata of a batch, and its old versions with them.

    Where no line is left the object goes as a whole.
    """
    before = versions.of(part)
    try:
        text = zlib.decompress(objects.read(part, 0, _WHOLE), zlib.MAX_WBITS | 16)
    except NotFound:
        text = b""
    unwanted = {sha.encode() for sha in gone}
    left = [line for line in text.split(b"\n") if line and line.partition(b"\t")[0] not in unwanted]
    if left:
        objects.write(part, gzip.compress(b"\n".join(left), 6, mtime=0), "application/gzip")
    for version in before:
        versions.remove(part, version.id)


def _each(found: Sequence[Found], remove: Callable[[Found], object]) -> None:
    if found:
        with ThreadPoolExecutor(min(_PARALLEL, len(found))) as pool:
            list(pool.map(remove, found))
