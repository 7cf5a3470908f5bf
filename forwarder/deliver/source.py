"""What deliveries ask the archive beside instances: whose a transfer or a study is, and a patient's exams."""

from __future__ import annotations

from urllib.parse import quote

from forwarder.archive.changes import ask
from forwarder.deliver.rules import Patient, patient
from forwarder.errors import ArchiveError, Failure
from forwarder.retrieve.instances import Instances


class Source(Instances):
    """The archive, asked by deliveries. Methods raise ArchiveError."""

    def number_of_transfer(self, transfer: str) -> str | None:
        """Our number of the patient of a transfer that was accepted; None where none is known, or nothing was accepted."""
        found = self.maybe(f"/transfers/{quote(transfer, safe='')}")
        own = self.ourselves()
        if found is None or not found.get("accepted_at"):
            return None
        for identifier in (found.get("receiving_patient"), found["patient"]):
            if identifier and identifier["issuer"] == own.issuer:
                return str(identifier["id"])
        return None

    def is_accepted(self, transfer: str) -> bool:
        """Whether a transfer was accepted and runs."""
        found = self.maybe(f"/transfers/{quote(transfer, safe='')}")
        return bool(found and found.get("accepted_at") and found["status"] == "active")

    def number_of_study(self, study: str) -> str | None:
        """Our number of the patient of a study of another hospital; None where none is known, or the study is not to be seen."""
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

    def exams_of(self, number: str) -> Patient:
        """A patient by our own number; without exams where the archive shows nothing of this number."""
        found = self.maybe(f"/patients/{quote(number, safe='')}/timeline")
        if found is None:
            return Patient(number, "", "", "", (), "")
        try:
            return patient(number, found, self.ourselves().id)
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError("The archive's timeline is not what the contract says.", Failure.PROTOCOL) from error
