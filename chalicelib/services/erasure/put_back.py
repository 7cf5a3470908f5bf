"""What came with a restored table is not carried out: that it was taken back, or held, may be among what the restore took away.

Each kind goes back to where it takes a decision of those who may take it, and that stands in their audit: of an institution
another operator confirms, a patient's hospital confirms or takes back, a hospital says anew that its rule is carried out.
"""

from __future__ import annotations

from dataclasses import replace

from chalicelib.domain.audit import Entry, Kind, Purpose
from chalicelib.domain.erasures import ErasureOrder, InstitutionErasure
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.ports import Put, PutVersion
from chalicelib.services.erasure import institutions
from chalicelib.services.erasure.erase_study import Eraser
from chalicelib.services.erasure.retention import OwnersRetention

_WHY = "put back: it is older than the table, which was restored since"


def institution(run: Eraser, known: InstitutionErasure) -> InstitutionErasure:
    """The erasure of an institution, which another operator has to confirm anew. Raises TryAgain."""
    entry = Entry(
        Kind.ERASURE_ORDERED, known.institution, purpose=Purpose.ADMINISTRATION, subject=f"institution={known.institution}",
        text=_WHY,
    )  # fmt: skip
    _keep(run, institutions.write(known.put_back()), entry)
    return replace(known.put_back(), version=known.version + 1)


def order(run: Eraser, made: ErasureOrder) -> ErasureOrder:
    """An order, which waits for its hospital's word; recorded when it begins to wait. Raises TryAgain."""
    if made.waits:
        return made
    entry = Entry(
        Kind.ERASURE_ORDERED, made.institution, (made.patient,), purpose=Purpose.PATIENT_REQUEST, subject=made.id,
        count=len(made.studies), text=_WHY,
    )  # fmt: skip
    _keep(run, made.waiting().write(), entry)
    return made.waiting().written()


def rule(run: Eraser, known: OwnersRetention) -> OwnersRetention:
    """A rule, which is tried only. Raises TryAgain."""
    entry = Entry(
        Kind.ERASURE_ORDERED, known.institution, purpose=Purpose.ADMINISTRATION, subject="retention", text=f"{_WHY}; tried only"
    )
    _keep(run, known.put_back().write(), entry)
    return replace(known.put_back(), version=known.version + 1)


def _keep(run: Eraser, write: Put | PutVersion, entry: Entry) -> None:
    if run.act([write], entry):
        raise TryAgain
