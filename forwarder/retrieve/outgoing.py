"""An instance on its way to a DICOM node: the beginning of its data set in memory, the rest in the file that it came in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forwarder.header import head_of

_COPIED_AT_ONCE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class OutgoingInstance:
    """What an instance is, its file meta information (with preamble; empty where nobody writes it to a file), the beginning of
    its data set, and the file in which what follows that stands, from `rest_at` on to its end (bytes)."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source: Path
    rest_at: int
    meta: bytes = b""
    head: bytes = b""
    kept: tuple[str, ...] = ()
    """Keywords of what could not be coerced, and stayed as it was."""

    def data_set_size(self) -> int:
        """Bytes of the data set. Raises OSError."""
        return len(self.head) + max(0, self.source.stat().st_size - self.rest_at)

    @contextmanager
    def data_set(self) -> Iterator[Callable[[int], bytes]]:
        """The data set from its beginning: a function that reads so many bytes, fewer only at the end. Raises OSError."""
        begun = 0
        with self.source.open("rb") as file:
            file.seek(self.rest_at)

            def read(count: int) -> bytes:
                nonlocal begun
                part = self.head[begun : begun + count]
                begun += len(part)
                return part if len(part) == count else part + file.read(count - len(part))

            yield read

    def write_to(self, target: Path) -> int:
        """Write it as a Part 10 file; its size. Raises OSError."""
        with target.open("wb") as out, self.source.open("rb") as file:
            out.write(self.meta)
            out.write(self.head)
            file.seek(self.rest_at)
            shutil.copyfileobj(file, out, _COPIED_AT_ONCE)
            return out.tell()


def outgoing(path: Path) -> OutgoingInstance:
    """A Part 10 file as it is. Raises ValueError for one that does not say what it is, OSError."""
    with path.open("rb") as file:
        header = head_of(file)
    if header is None or not header.sop_class_uid or not header.sop_instance_uid:
        raise ValueError("no instance")
    return OutgoingInstance(header.sop_class_uid, header.sop_instance_uid, header.transfer_syntax_uid, path, header.data_set_at)
