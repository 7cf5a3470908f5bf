"""One instance made ready for the PACS: downloaded into the spool, in the transfer syntax that it takes, coerced."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from forwarder.deliver.source import Source
from forwarder.errors import SpoolError
from forwarder.header import EXPLICIT_LE, IMPLICIT_LE
from forwarder.retrieve.coercion import LocalPatient, Origin, coerced
from forwarder.retrieve.implicit import to_implicit
from forwarder.retrieve.instances import Instance
from forwarder.retrieve.outgoing import OutgoingInstance
from forwarder.spool.spool import Spool


@dataclass(frozen=True, slots=True)
class Coercion:
    """What an exam is coerced to: the patient as they are known here, where it comes from, and the moment that is written."""

    patient: LocalPatient
    origin: Origin
    at: datetime


class Preparation:
    """Files lie in the folder `deliver` of the spool, under their SHA-256, until `forget` or `clean`."""

    def __init__(self, spool: Spool, source: Source) -> None:
        self._spool, self._source = spool, source
        self.folder = spool.folder / "deliver"

    def instance(
        self, study: str, owner: str, instance: Instance, syntax: str, coercion: Coercion, pause: Callable[[int], None]
    ) -> OutgoingInstance:
        """An instance in this transfer syntax, its own or an uncompressed one. `pause` hears of each block that is downloaded,
        and may sleep.

        Raises ArchiveError, SpoolError, CannotBeHadError, UncoercibleError.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            self._spool.check_space()
        except OSError as error:
            raise SpoolError(f"The spool's disk does not take a folder: {error.strerror or error}") from error
        own = instance.transfer_syntax
        if syntax == own or (syntax, own) == (IMPLICIT_LE, EXPLICIT_LE):
            fetched = self._path(instance.sha256, "part")
            self._source.download(instance, fetched, pause)
        else:
            fetched = self._path(instance.sha256, "plain")
            self._source.transcoded(study, owner, instance, fetched)
            own = EXPLICIT_LE
        self._spool.step("deliver-fetched")
        if syntax == IMPLICIT_LE != own:
            implicit = self._path(instance.sha256, "implicit")
            to_implicit(fetched, implicit)
            fetched = implicit
        made = coerced(fetched, coercion.patient, coercion.origin, coercion.at)
        self._spool.step("deliver-coerced")
        return made

    def file(self, made: OutgoingInstance) -> Path:
        """The same as a file. Raises OSError."""
        path = made.source.with_suffix(".coerced")
        made.write_to(path)
        return path

    def forget(self, sha256: str) -> None:
        """Nothing of an instance is needed any more. Raises OSError."""
        for kind in ("part", "plain", "implicit", "coerced"):
            self._path(sha256, kind).unlink(missing_ok=True)

    def clean(self, waiting: Collection[str]) -> None:
        """Remove what a death or a broken association left, but for downloads that are gone on with (SHA-256). Raises OSError."""
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.suffix != ".part" or path.stem not in waiting:
                path.unlink(missing_ok=True)

    def _path(self, sha256: str, kind: str) -> Path:
        return self.folder / f"{sha256}.{kind}"
