"""What deliveries ask the archive beside instances: whose a transfer or a study is, a patient's exams, and which are relevant."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

from forwarder.archive.changes import ask
from forwarder.archive.client import Archive
from forwarder.deliver.rules import Patient, number_in, patient
from forwarder.errors import ArchiveError, Failure
from forwarder.retrieve.instances import Instance, Instances

MOST_PRIORS = 50
REMEMBERED_SECONDS = 10.0
"""For how long who a patient is counts as just asked: the exams of one patient are brought one after the other."""


class Source(Instances):
    """The archive, asked by deliveries. Methods raise ArchiveError."""

    def __init__(self, archive: Archive) -> None:
        super().__init__(archive)
        self._asked: dict[str, tuple[float, Patient]] = {}

    def transfer(self, transfer: str) -> dict[str, Any] | None:
        """A transfer that runs, accepted or not; None where it ended, or is none of ours."""
        found = self.maybe(f"/transfers/{quote(transfer, safe='')}")
        return found if found is not None and found.get("status") == "active" else None

    def number_in(self, transfer: dict[str, Any]) -> str | None:
        """Our number of the patient of a transfer that was accepted; None where none is known, or nothing was accepted."""
        if not transfer.get("accepted_at"):
            return None
        return number_in(transfer, self.ourselves().issuer)

    def number_of_study(self, study: str) -> str | None:
        """Our number of the patient of a study; None where none is known, or the study is not to be seen."""
        found = ask(
            self._archive,
            f"/dicomweb/studies?StudyInstanceUID={quote(study, safe='')}&includefield=IssuerOfPatientID",
            "application/dicom+json",
        )
        own = self.ourselves()
        for match in found:
            number, issuer = (str((match.get(tag, {}).get("Value") or [""])[0]) for tag in ("00100020", "00100021"))
            if number and issuer == own.issuer:
                return number
        return None

    def exams_of(self, number: str, issuer: str = "") -> Patient:
        """A patient by our own number, or another issuer's; without exams where the archive shows nothing of this number."""
        found = self.maybe(
            f"/patients/{quote(number, safe='')}/timeline" + (f"?issuer={quote(issuer, safe='')}" if issuer else "")
        )
        if found is None:
            return Patient(number, "", "", "", (), "")
        try:
            own = self.ourselves()
            return patient(number, found, own.id, "" if issuer else own.issuer)
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError("The archive's timeline is not what the contract says.", Failure.PROTOCOL) from error

    def person(self, number: str) -> Patient:
        """Who has our number: as `exams_of`, or as that said of it a moment ago. What may be seen it does not tell."""
        now = time.monotonic()
        since, known = self._asked.get(number, (0.0, None))
        if known is not None and now - since < REMEMBERED_SECONDS:
            return known
        found = self.exams_of(number)
        lately = {other: asked for other, asked in self._asked.items() if now - asked[0] < REMEMBERED_SECONDS}
        self._asked = lately | ({number: (now, found)} if found.exams else {})
        return found

    def listed(self, study: str, owner: str) -> dict[str, Instance] | None:
        """The instances of a study, by SOP Instance UID; None where it is not to be seen, or not any more."""
        found: dict[str, Instance] = {}
        cursor: str | None = ""
        while cursor is not None:
            page = self.manifest_page(study, owner, cursor)
            if page is None:
                return None
            instances, cursor = page
            found |= {instance.sop_instance: instance for instance in instances}
        return found

    def relevant(self, study: str) -> list[tuple[str, str]]:
        """(study, owner) of the priors that are relevant to a study of ours, best first."""
        found = self.maybe(
            f"/studies/{quote(study, safe='')}/priors?owner={quote(self.ourselves().id, safe='')}&limit={MOST_PRIORS}"
        )
        if found is None:
            return []
        try:
            return [
                (str(prior["study_instance_uid"]), str(prior["owner"])) for prior in found["priors"] if prior["relevant"] is True
            ]
        except (KeyError, TypeError) as error:
            raise ArchiveError("The archive's priors are not what the contract says.", Failure.PROTOCOL) from error
