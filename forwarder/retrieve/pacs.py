"""The hospital's PACS as we speak to it: C-FIND for what it knows, C-STORE for what it gets (PS3.4 B, C)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)

from forwarder.retrieve.coercion import LocalPatient
from forwarder.retrieve.store_scu import PLAIN, Node, NothingAcceptedError, PacsError

PENDING = frozenset({0xFF00, 0xFF01})


class Pacs(Node):
    """The PACS of the configuration. Methods raise PacsError."""

    def patient(self, number: str) -> LocalPatient | None:
        """The patient as the PACS knows this number; None where it does not, or answers no C-FIND of patients."""
        query = Dataset()
        query.QueryRetrieveLevel = "PATIENT"
        query.PatientID = number
        for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID"):
            setattr(query, keyword, "")
        query.SpecificCharacterSet = "ISO_IR 192"
        for found in self._find(query, PatientRootQueryRetrieveInformationModelFind):
            if str(found.get("PatientID", "")).strip() == number and str(found.get("PatientName", "")):
                return LocalPatient(
                    number,
                    str(found.get("IssuerOfPatientID", "")).strip(),
                    str(found.PatientName),
                    str(found.get("PatientBirthDate", "") or ""),
                    str(found.get("PatientSex", "") or ""),
                )
        return None

    def known(self, patient: LocalPatient) -> LocalPatient | None:
        """A patient of the archive's as the PACS knows them, else as they are; None where the two are two people."""
        known = self.patient(patient.id)
        if known is None:
            return patient
        if known.birth_date and patient.birth_date and known.birth_date != patient.birth_date:
            return None
        return LocalPatient(patient.id, known.issuer or patient.issuer, known.name, known.birth_date, known.sex)

    def has(self, study: str, series: Collection[str]) -> frozenset[str]:
        """The SOP Instance UIDs that the PACS has of these series; nothing where it answers no C-FIND of images."""
        found: set[str] = set()
        for series_instance_uid in series:
            query = Dataset()
            query.QueryRetrieveLevel = "IMAGE"
            query.StudyInstanceUID, query.SeriesInstanceUID = study, series_instance_uid
            query.SOPInstanceUID = ""
            found |= {str(row.get("SOPInstanceUID", "")) for row in self._find(query, StudyRootQueryRetrieveInformationModelFind)}
        return frozenset(found - {""})

    def _find(self, query: Dataset, model: Any) -> Iterator[Dataset]:
        ae = self._ae()
        ae.add_requested_context(model, list(PLAIN))
        try:
            association = self._associate(ae)
        except NothingAcceptedError:
            return  # it answers no such query
        try:
            for status, identifier in association.send_c_find(query, model):
                if "Status" not in status:
                    raise PacsError("no-answer")
                if status.Status in PENDING and identifier is not None:
                    yield identifier
        except (ValueError, RuntimeError, OSError, AttributeError) as error:
            raise PacsError("broke-off") from error
        finally:
            if association.is_established:
                association.release()
