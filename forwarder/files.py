"""Finding files, and knowing them by their content. Only what is DICOM is read further, and so can leave the hospital.

A folder may hold anything: keys, archives, office files, links into other places, pipes and devices. What is found in a folder
is opened from that folder on, part by part and never through a link, so that nothing which changes meanwhile leads elsewhere
(`openat` with O_NOFOLLOW); special files are not opened at all; and what has been opened is looked at again, since only that
is certain. What is no DICOM is left where it is, with its reason.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from forwarder.alerts import Reason
from forwarder.compression.jpegls import why_not
from forwarder.errors import ConfigError, SpoolError
from forwarder.header import head_of, is_dicom

BLOCK = 1024 * 1024
READ_ONLY = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # so that even a pipe put there meanwhile holds nobody up
FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY

Stamp = tuple[int, int, int, int]
"""Device, inode, size, time of the last change: whether a file is still the one that it was."""


class NotSentError(SpoolError):
    """A file stays where it is; `reason` says why."""

    def __init__(self, path: Path, reason: Reason) -> None:
        super().__init__(f"“{path.name}” is not sent: {reason}.")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was found: named itself, or in the folder `root` (a real path), beyond which it must not lead."""

    path: Path
    root: Path | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A file by its content: SHA-256 (hex), size in bytes, the study it says it belongs to, and whether it can be
    compressed losslessly."""

    source: SourceFile
    sha256: str
    size: int
    study_instance_uid: str | None
    compressible: bool
    stamp: Stamp

    @property
    def path(self) -> Path:
        return self.source.path


LeftOut = Callable[[Path, Reason], None]
"""Hears of what was found and is not looked into."""


def walk(paths: Iterable[Path], left_out: LeftOut = lambda *_: None) -> Iterator[SourceFile]:
    """The files named, and those below the folders named, in order.

    Inside folders hidden files and DICOMDIR, which index a medium and are no instances, are passed over; links that lead out of
    the folder and special files are `left_out`. A file that is named itself is always given. Raises ConfigError for a path that
    does not exist.
    """
    for path in paths:
        if path.is_dir():
            yield from _in_folder(path, left_out)
        elif path.exists():
            yield SourceFile(path)
        else:
            raise ConfigError(f"There is no file or folder “{path}”.")


def _in_folder(top: Path, left_out: LeftOut) -> Iterator[SourceFile]:
    root = Path(os.path.realpath(top))
    for folder, subfolders, names in os.walk(top):
        for name in sorted(subfolders):
            linked = Path(folder) / name
            if not name.startswith(".") and linked.is_symlink() and not _within(linked, root):
                left_out(linked, Reason.LINK_OUT_OF_FOLDER)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if name.startswith(".") or name == "DICOMDIR":
                continue
            why = _why_not_opened(path, root)
            if why is None:
                yield SourceFile(path, root)
            else:
                left_out(path, why)


def _within(path: Path, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)


def _why_not_opened(path: Path, root: Path | None) -> Reason | None:
    """Why a file is not even opened, if so: opening a device may do something."""
    if root is not None and path.is_symlink() and not _within(path, root):
        return Reason.LINK_OUT_OF_FOLDER
    try:
        found = path.stat()
    except OSError:
        return None  # what is wrong with it is said when it is opened
    return None if stat.S_ISREG(found.st_mode) else Reason.SPECIAL_FILE


def opened(source: SourceFile) -> BinaryIO:
    """The file, which is a regular one that is not empty. Raises NotSentError for any other, OSError if it cannot be opened."""
    why = _why_not_opened(source.path, source.root)
    if why is not None:
        raise NotSentError(source.path, why)
    descriptor = os.open(source.path, READ_ONLY) if source.root is None else _open_within(source.path, source.root)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NotSentError(source.path, Reason.SPECIAL_FILE)
        if found.st_size == 0:  # so are those of /proc, whatever they hold
            raise NotSentError(source.path, Reason.EMPTY_FILE)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _open_within(path: Path, root: Path) -> int:
    """Open what `path` leads to now, going down from `root` and following no link on the way."""
    parts = Path(os.path.relpath(os.path.realpath(path), root)).parts
    if os.pardir in parts:
        raise NotSentError(path, Reason.LINK_OUT_OF_FOLDER)
    here = os.open(root, FOLDER)
    try:
        for part in parts[:-1]:
            below = os.open(part, FOLDER | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        return os.open(parts[-1], READ_ONLY | os.O_NOFOLLOW, dir_fd=here)
    finally:
        os.close(here)


def stamp_of(file: BinaryIO) -> Stamp:
    """What tells whether a file is still the same. Raises OSError."""
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def opened_dicom(source: SourceFile) -> BinaryIO:
    """As `opened`, at its beginning; NotSentError for what is no DICOM too, before anything else of it is read."""
    file = opened(source)
    try:
        if not is_dicom(file):
            raise NotSentError(source.path, Reason.NOT_DICOM)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def know(source: SourceFile) -> Known:
    """Hash a DICOM file and look at its header. Raises NotSentError for what is none, SpoolError if it cannot be read."""
    try:
        with opened_dicom(source) as file:
            stamp = stamp_of(file)
            digest, size = _hashed(file)
            header = head_of(file)
    except OSError as error:
        raise SpoolError(f"“{source.path.name}” cannot be read: {error.strerror or error}") from error
    study = header.study_instance_uid if header else None
    return Known(source, digest, size, study, why_not(header) is None, stamp)


def opened_again(known: Known) -> BinaryIO:
    """The file that was hashed, to be sent as it is. Raises SpoolError if it is another, or was changed; OSError."""
    file = opened(known.source)
    if stamp_of(file) != known.stamp:
        file.close()
        raise SpoolError(f"“{known.path.name}” was changed while it was sent.")
    return file


def sha256_of(path: Path) -> str:
    """The SHA-256 (hex) of a file of our own. Raises OSError."""
    with path.open("rb") as file:
        return _hashed(file)[0]


def _hashed(file: BinaryIO) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while block := file.read(BLOCK):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size
