"""A patient's erasure, which the owner decides: first what would go; confirmed as it was shown, hidden at once, erased in time.

Who asked and why, and every study that went, stand in the audit. Of the order itself counts and the chain of hashes stay.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from chalicelib.domain import erasures, identifiers, keys
from chalicelib.domain.audit import Act, Entry, Kind, Purpose, Recorder
from chalicelib.domain.erasures import ErasureOrder
from chalicelib.domain.errors import BadRequest, Conflict, NotFound, TryAgain
from chalicelib.domain.fields import fields
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Table
from chalicelib.domain.rfc3339 import iso
from chalicelib.domain.studies import is_withdrawal
from chalicelib.domain.study_views import StudyView
from chalicelib.services import access
from chalicelib.services.identity import known_patients
from chalicelib.services.registry import Caller
from chalicelib.services.sharing import protection

MOST_STUDIES = 1000


@dataclass(frozen=True)
class ErasurePreview:
    """What would go: the studies, each with its view; `left_out` are those that have images of another patient too."""

    patient: PatientIdentifier
    views: tuple[StudyView, ...]
    left_out: tuple[str, ...]
    whole: bool

    @property
    def confirmation(self) -> str:
        """What stands for it."""
        return erasures.digest_of(
            [self.patient.hash, str(self.whole), *(f"{view.study_instance_uid} {view.instances}" for view in self.views)]
        )

    def to_answer(self) -> dict[str, object]:
        """As it is shown."""
        return {
            "study_instance_uids": [view.study_instance_uid for view in self.views],
            "left_out": list(self.left_out),
            "instances": sum(view.instances for view in self.views),
            "bytes": sum(view.size for view in self.views),
            "whole_patient": self.whole,
            "confirm": self.confirmation,
        }


def order(
    table: Table, caller: Caller, patient_id: str, body: object, now: datetime, act: Act, record: Recorder
) -> tuple[dict[str, object], bool]:
    """The answer of `POST /patients/{id}/erasures`, and whether it was ordered: without `confirm`, what would go.

    With `order`, one that waits is confirmed anew. Raises NotFound for a patient that is not the caller's; BadRequest; Conflict
    where it is another thing than was confirmed, or does not wait.
    """
    said = fields(body, ("reason", "after_days", "study_instance_uids", "confirm", "order"))
    if "order" in said:
        return _confirm_anew(table, caller, patient_id, said, now, act), True
    own = _meant(table, caller, patient_id, now)
    preview = _preview(table, caller, own, _named(said))
    if "confirm" not in said:
        record(Entry(Kind.READ, caller.member.id, (own,), text="what an erasure would take", count=len(preview.views)))
        return preview.to_answer(), False
    reason, days = erasures.reason_of(said), erasures.days_of(said)
    if said["confirm"] != preview.confirmation:
        raise Conflict("It is another thing than was confirmed. Please look at it again.")
    made = ErasureOrder(
        secrets.token_hex(12), caller.member.id, own, tuple(view.study_instance_uid for view in preview.views), reason,
        caller.actor, iso(now), iso(now + timedelta(days=days)), whole=preview.whole,
    )  # fmt: skip
    entry = Entry(
        Kind.ERASURE_ORDERED, made.institution, (own,), purpose=Purpose.PATIENT_REQUEST, subject=made.id,
        count=len(made.studies), text=f"due {made.due_at}; {reason}",
    )  # fmt: skip
    for study in _shown(table, made):  # before it is ordered: nothing goes that its owner has no answer for
        protection.withdraw(table, caller, study, {"reason": reason}, now, act)
    if act([made.write()], entry):
        raise TryAgain
    return {"id": made.id, "due_at": made.due_at} | preview.to_answer(), True


def _shown(table: Table, made: ErasureOrder) -> list[str]:
    """The studies of an order that are not hidden yet."""
    there = table.batch_get(keys.withdrawn_study(made.institution, study) for study in made.studies)
    return [study for study in made.studies if not is_withdrawal(there.get(keys.withdrawn_study(made.institution, study)))]


def take_back(table: Table, caller: Caller, patient_id: str, id: str, act: Act) -> dict[str, object]:
    """The answer of `DELETE /patients/{id}/erasures/{erasure}`: not erased; what is hidden stays so until its withdrawal ends.

    Raises NotFound, Conflict once it began.
    """
    made = _standing(table, caller, patient_id, id)
    if made.begun and not made.waits:
        raise Conflict("It is being erased already.")
    entry = Entry(Kind.ERASURE_ORDERED, caller.member.id, (made.patient,), subject=id, text="taken back")
    if act([replace(made, cancelled=True).write()], entry):
        raise TryAgain  # it begins at this moment
    return {"id": id, "status": "cancelled"}


def _confirm_anew(
    table: Table, caller: Caller, patient_id: str, said: dict[str, object], now: datetime, act: Act
) -> dict[str, object]:
    """Confirm an order that waits since it came with a restored table; it goes when it was due, or at once."""
    id = said["order"]
    if len(said) > 1 or not isinstance(id, str):
        raise BadRequest("order must be the id of an erasure that waits, and stands alone.", "order")
    made = _standing(table, caller, patient_id, id)
    text = f"confirmed anew; due {made.due_at}"
    entry = Entry(Kind.ERASURE_ORDERED, made.institution, (made.patient,), subject=id, count=len(made.studies), text=text)
    if act([made.confirmed(now).write()], entry):
        raise TryAgain
    found = table.batch_get(keys.study_view(study, made.institution) for study in made.studies)
    views = tuple(StudyView.from_item(item.data) for _, item in sorted(found.items()))
    return {"id": id, "due_at": made.due_at} | ErasurePreview(made.patient, views, (), made.whole).to_answer()


def _standing(table: Table, caller: Caller, patient_id: str, id: str) -> ErasureOrder:
    """An order of the caller's on this patient that was not taken back. Raises NotFound."""
    named = identifiers.patient_identifier(patient_id, None, caller.member.patient_id_issuer)
    item = table.get(keys.erasure_facts(caller.member.id), keys.erasure_order(id))
    made = ErasureOrder.from_item(item.data, item.version) if item is not None else None
    if made is None or made.patient.value != named.value or made.cancelled:
        raise NotFound
    return made


def _meant(table: Table, caller: Caller, patient_id: str, now: datetime) -> PatientIdentifier:
    """The patient of the caller's that is meant: by its own number, or by a national code that it files studies under."""
    try:
        return protection.own_patient(table, caller, patient_id)[0]
    except NotFound:
        own = identifiers.patient_identifier(patient_id, None, caller.member.patient_id_issuer)
        if known_patients.has(table, caller, own, now):
            return own
        raise


def _named(said: dict[str, object]) -> list[str] | None:
    named = said.get("study_instance_uids")
    if named is None:
        return None
    if not isinstance(named, list) or not 1 <= len(named) <= MOST_STUDIES:
        raise BadRequest(f"study_instance_uids must list 1 to {MOST_STUDIES} UIDs.", "study_instance_uids")
    return list(dict.fromkeys(identifiers.uid(study, "study_instance_uids") for study in named))


def _preview(table: Table, caller: Caller, own: PatientIdentifier, named: list[str] | None) -> ErasurePreview:
    owner = caller.member
    filed = {study for institution, study in access.load_record(table, own.hash).studies if institution == owner.id}
    if named is not None and not set(named) <= filed:
        raise NotFound
    wanted = sorted(filed if named is None else named)
    if len(wanted) > MOST_STUDIES:
        raise BadRequest(f"More than {MOST_STUDIES} studies: please name some.", "study_instance_uids")
    found = table.batch_get(keys.study_view(study, owner.id) for study in wanted)
    views = [StudyView.from_item(item.data) for _, item in sorted(found.items())]
    whole = [view for view in views if {owner.own(number) for number in view.patients} <= {own}]
    left_out = [view.study_instance_uid for view in views if view not in whole]
    return ErasurePreview(own, tuple(whole), tuple(left_out), named is None and not left_out)
