"""Finding files and knowing them by their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from forwarder.errors import ConfigError, SpoolError
from forwarder.header import head_of
from forwarder.pack import why_not

BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Known:
    """A file by its content: SHA-256 (hex), size in bytes, the study it says it belongs to, and whether it is `fit` to be
    compressed losslessly."""

    path: Path
    sha256: str
    size: int
    study_instance_uid: str | None
    fit: bool


def walk(paths: Iterable[Path]) -> Iterator[Path]:
    """The files named, and those below the folders named, in order.

    Left out inside folders: hidden files and DICOMDIR, which index a medium and are no instances. A file that is named
    itself is never left out. Raises ConfigError for a path that does not exist.
    """
    for path in paths:
        if path.is_dir():
            for folder, subfolders, names in os.walk(path):
                subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
                for name in sorted(names):
                    file = Path(folder) / name
                    if not name.startswith(".") and name != "DICOMDIR" and file.is_file():
                        yield file
        elif path.exists():
            yield path
        else:
            raise ConfigError(f"There is no file or folder “{path}”.")


def know(path: Path) -> Known:
    """Hash a file and look at its header. Raises SpoolError if it cannot be read."""
    try:
        with path.open("rb") as file:
            digest, size = hashlib.sha256(), 0
            while block := file.read(BLOCK):
                digest.update(block)
                size += len(block)
            header = head_of(file)
    except OSError as error:
        raise SpoolError(f"“{path.name}” cannot be read: {error.strerror or error}") from error
    study = header.study_instance_uid if header else None
    return Known(path, digest.hexdigest(), size, study, why_not(header) is None)
