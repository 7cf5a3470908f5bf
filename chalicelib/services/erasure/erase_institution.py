"""All of an institution that left, once two operators decided it and the agreed time is over.

The bucket's listing is the inventory: of each page of objects first the studies that their verdicts name are forgotten, with
what their images said of their patients, then their own facts, then the bytes go. What is no object's is found by the owner's
lists of studies, patients (in the audit) and transfers. What stays is the audit trail, that the institution was a member, and
who had this done, with counts and the chain of hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from chalicelib.domain import keys
from chalicelib.domain.audit import Entry, Kind, Purpose
from chalicelib.domain.erasures import ErasureState, InstitutionErasure
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item, Table
from chalicelib.domain.rfc3339 import iso
from chalicelib.services.erasure import bytes, forgetting, institutions
from chalicelib.services.erasure.erase_study import Eraser
from chalicelib.services.membership import issuers_ever
from chalicelib.services.registry import load_registry

_RECORDS_AT_ONCE = 200


def carry_out(run: Eraser, erasure: InstitutionErasure) -> InstitutionErasure:
    """Go on with an erasure that is due, as far as there is time."""
    stages = list(_STAGES)
    while erasure.state is ErasureState.CONFIRMED and run.has_time() and _is_gone(run.table, erasure):
        stage = erasure.stage or stages[0]
        after = _STAGES[stage](run, replace(erasure, stage=stage))
        if after.stage == stage and after.after == "":  # through with this one
            following = stages[stages.index(stage) + 1 :]
            after = replace(after, stage=following[0]) if following else _done(after, run.clock())
        erasure = _saved(run, after)
    return erasure


def _is_gone(table: Table, erasure: InstitutionErasure) -> bool:
    """Whether it is no member at this moment, and was none since this was decided: it may join again meanwhile, and leave."""
    registry = load_registry(table)
    left = erasure.institution not in registry.members
    return left and registry.versions.get(erasure.institution, 0) == erasure.registration


def _done(erasure: InstitutionErasure, now: datetime) -> InstitutionErasure:
    return replace(erasure, state=ErasureState.DONE, stage="", done_at=iso(now))


def _saved(run: Eraser, new: InstitutionErasure) -> InstitutionErasure:
    """Keep how far it is; the end with the record that proves it. Raises TryAgain where another run was here."""
    if new.state is ErasureState.DONE:
        entry = Entry(
            Kind.ERASURE, new.institution, purpose=Purpose.ADMINISTRATION, subject=f"institution={new.institution}",
            count=new.erased.objects, text=f"{new.erased}; asked by {new.asked_by}, confirmed by {new.confirmed_by}",
        )  # fmt: skip
        if run.act([institutions.write(new)], entry):
            raise TryAgain
    elif not run.table.put(institutions.write(new)):
        raise TryAgain
    return replace(new, version=new.version + 1)


def _objects(run: Eraser, erasure: InstitutionErasure) -> InstitutionErasure:
    """A page of the bucket's listing. `after` is the last key that was counted: what is there still was on its way out."""
    institution = erasure.institution
    prefix = keys.instance_object(institution, "")
    found = run.versions.below(prefix)
    if not found and not erasure.pending:
        return replace(erasure, after="")
    last = max((stored.key for stored in found), default="")
    hashes = list(dict.fromkeys(stored.key.removeprefix(prefix) for stored in found))
    verdicts = run.table.batch_get(keys.verdict(institution, sha) for sha in hashes)
    named = sorted({str(item.data["study"]) for item in verdicts.values() if "study" in item.data})
    studies = [study for study in named if _is_there(run.table, institution, study)]
    erased = erasure.erased.and_studies(len({*studies} - {*erasure.pending}))
    studies = sorted({*studies, *erasure.pending})
    for stored in found:
        if stored.key > erasure.after and not stored.version.marker:
            erased = erased.and_object(stored.key.removeprefix(prefix), stored.size)
    going = replace(erasure, after=max(last, erasure.after), erased=erased, pending=tuple(studies))
    going = _saved(run, going)  # counted and named before they go: a run that dies counts none twice, and forgets none by half
    for study in studies:
        _forget(run, institution, study)
    gone = [item.key for sha in hashes for item in run.table.query_all(keys.object_facts(institution, sha))]
    forgetting.remove_items(run.table, gone)
    bytes.remove_versions(run.versions, found)
    return replace(going, pending=())


def _forget(run: Eraser, institution: str, study: str) -> None:
    """Forget a study; first, while its facts still say whose it is, what its images said of their patients."""
    issuers = issuers_ever(run.table, institution)
    numbers = forgetting.numbers_under(run.table, run.registry, institution, study)
    for own, number in sorted(((_is_own(number, issuers), number) for number in numbers), reverse=True):
        forgetting.forget_patient(run.table, number, whole=own, own=own, leaving=institution)
    forgetting.forget_study(run.table, run.registry, institution, study)


def _is_own(number: PatientIdentifier, issuers: Sequence[str]) -> bool:
    return any(number.issuer == issuer or number.issuer.startswith(f"{issuer}/") for issuer in issuers)


def _is_there(table: Table, institution: str, study: str) -> bool:
    return bool(table.query(keys.study_facts(institution, study), keys.INSTANCES, limit=1).items)


def _metadata(run: Eraser, erasure: InstitutionErasure) -> InstitutionErasure:
    """What was made of the bytes."""
    made = (keys.metadata_part, keys.metadata_of_series)
    prefixes = [f"{keys.begins(builder)}{erasure.institution}/" for builder in made]
    left = [prefix for prefix in prefixes if not bytes.remove_below(run.versions, prefix, run.has_time)]
    return replace(erasure, after="again" if left else "")


def _lists(run: Eraser, erasure: InstitutionErasure) -> InstitutionErasure:
    """What its own list of studies still has: own ones without bytes, and rows by which it found those of others."""
    institution = erasure.institution
    page = run.table.query(keys.rows_by_date(institution), index="gsi3", limit=_RECORDS_AT_ONCE)
    for item in page.items:
        read = keys.read(keys.search_rows, item.pk)
        assert read is not None
        if item.sk == keys.by_owner(institution):
            _forget(run, institution, read[1])
        forgetting.remove_items(run.table, [row.key for row in run.table.query_all(item.pk)])
    return replace(erasure, after="again" if page.next else "")


def _patients(run: Eraser, erasure: InstitutionErasure) -> InstitutionErasure:
    """Its patients without images, who are all in its audit: whatever was said of one is recorded with the number."""
    issuers = issuers_ever(run.table, erasure.institution)
    partition = keys.audit_of_owner(erasure.institution)
    between = (f"{erasure.after}!", "~")
    page = run.table.query(partition, index="gsi3", between=between, limit=_RECORDS_AT_ONCE)
    named = {PatientIdentifier(str(issuer), str(value)) for item in page.items for issuer, value in _numbers(item)}
    for number in sorted(named):
        if _is_own(number, issuers):
            forgetting.forget_patient(run.table, number, whole=True)
    return replace(erasure, after=page.items[-1].indexes["gsi3"][1] if page.next else "")


def _numbers(record: Item) -> list[list[str]]:
    found = record.data.get("patients", [])
    return found if isinstance(found, list) else []


def _transfers(run: Eraser, erasure: InstitutionErasure) -> InstitutionErasure:
    """Its transfers, whoever opened them."""
    ways = (keys.sent_transfers(erasure.institution), "gsi1"), (keys.received_transfers(erasure.institution), "gsi2")
    pages = [run.table.query(partition, index=index, limit=_RECORDS_AT_ONCE) for partition, index in ways]
    for page in pages:
        for item in page.items:
            forgetting.forget_transfer(run.table, item)
    return replace(erasure, after="again" if any(page.next for page in pages) else "")


def _rest(run: Eraser, erasure: InstitutionErasure) -> InstitutionErasure:
    """What is the institution's own, and orders of its patients that were still to come."""
    forgetting.forget_institution(run.table, erasure.institution)
    partition = keys.erasure_facts(erasure.institution)
    orders = run.table.query_all(partition, keys.begins(keys.erasure_order))
    forgetting.remove_items(run.table, [item.key for item in orders])
    return replace(erasure, after="")


_STAGES: Mapping[str, Callable[[Eraser, InstitutionErasure], InstitutionErasure]] = {
    "objects": _objects,
    "metadata": _metadata,
    "lists": _lists,
    "patients": _patients,
    "transfers": _transfers,
    "rest": _rest,
}
"""What is done one after the other; each answers how far it came, with an empty `after` when it is through."""
