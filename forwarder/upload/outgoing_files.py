"""What `send` puts on the line: a file as it is, or losslessly compressed and checked, in a folder of its own meanwhile."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forwarder.archive.client import Offer
from forwarder.compression.jpegls import Compressed
from forwarder.compression.pool import CompressionPool
from forwarder.errors import ConfigError
from forwarder.files import Known


@dataclass(frozen=True, slots=True)
class OutgoingFile:
    """A file on its way. `packed` is its compressed form (at `path` then), or None where the file itself is sent."""

    known: Known
    path: Path
    packed: Compressed | None = None

    @property
    def sha256(self) -> str:
        return self.packed.digest if self.packed else self.known.sha256

    @property
    def size(self) -> int:
        return self.packed.size if self.packed else self.known.size

    def offer(self) -> Offer:
        """What to ask the archive about."""
        original = self.known.sha256 if self.packed else None
        return Offer(self.sha256, self.size, self.known.study_instance_uid, original)

    def discard(self) -> None:
        """The compressed form is needed no more."""
        if self.packed:
            self.path.unlink(missing_ok=True)


Preparation = Callable[[Known], Callable[[], OutgoingFile]]
"""Begins to make a parcel in the background; calling the result waits for it."""


def as_it_is(known: Known) -> Callable[[], OutgoingFile]:
    """The file itself."""
    return lambda: OutgoingFile(known, known.path)


@contextmanager
def compressing(on_failure: Callable[[], None]) -> Iterator[Preparation]:
    """Parcels of compressed files, as far as they can be compressed, while the block runs.

    `on_failure` hears of each file that is sent as it is because its compression failed. Raises ConfigError where there is
    no temporary folder to compress into.
    """
    packers = CompressionPool()
    try:
        temporary = tempfile.TemporaryDirectory(prefix="forwarder-")
    except OSError as error:
        raise ConfigError(f"There is no temporary folder to compress in ({error.strerror}); --no-lossless needs none.") from error
    with temporary as name:
        folder = Path(name)

        def begin(known: Known) -> Callable[[], OutgoingFile]:
            if not known.compressible or shutil.disk_usage(folder).free < 2 * known.size:
                return as_it_is(known)
            target = folder / known.sha256
            future = packers.submit(known.path, target, known.sha256)
            return lambda: _ended(known, target, future, on_failure)

        try:
            yield begin
        finally:
            packers.close()


def _ended(known: Known, target: Path, future: Future[Compressed | str | None], on_failure: Callable[[], None]) -> OutgoingFile:
    result = future.result()
    if isinstance(result, Compressed):
        return OutgoingFile(known, target, result)
    if result is not None:
        target.unlink(missing_ok=True)
        on_failure()
    return OutgoingFile(known, known.path)
