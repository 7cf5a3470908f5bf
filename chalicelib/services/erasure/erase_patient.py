"""A patient's studies, and, where all of them go, what is known of the patient: an order of the owner's that is due."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from chalicelib.domain import erasures, italian, keys
from chalicelib.domain.audit import Entry, Kind, Purpose
from chalicelib.domain.erasures import ErasureOrder
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.ports import Delete, Item, PutNew, Table, Write
from chalicelib.domain.studies import Instance
from chalicelib.services import access
from chalicelib.services.erasure import forgetting
from chalicelib.services.erasure.erase_study import Eraser, MayGo, erase_study
from chalicelib.services.identity import numbering


def waiting(table: Table, institution: str) -> Iterator[ErasureOrder]:
    """The orders of an institution that are to come."""
    for item in table.query_all(keys.erasure_facts(institution), keys.begins(keys.erasure_order)):
        yield ErasureOrder.from_item(item.data, item.version)


def carry_out(run: Eraser, made: ErasureOrder) -> bool:
    """Erase what an order names, as far as there is time; whether all of it is gone. Raises TryAgain where it was taken back."""
    if made.cancelled:
        left = made.studies if made.begun else ()  # it had begun, and waited after a restore: what is left is a study again
        for study in left:
            run.table.put(Delete(keys.study_facts(made.institution, study), keys.ERASING))
        return run.table.put(Delete(*made.key))
    if not made.begun:
        made = _saved(run, replace(made, begun=True))
    while made.studies:
        gone = erase_study(run, made.institution, made.studies[0], f"order={made.id}", _of_the_patient_alone(run, made))
        if gone is None:
            return False
        if gone.is_kept:
            made = _left_out(run, made)
            continue
        made = _saved(run, replace(made, studies=made.studies[1:], erased=erasures.plus(made.erased, gone.count)))
    own = italian.kind(made.patient) == "hospital"  # a national code is others' too
    forgetting.forget_patient(run.table, made.patient, whole=own and made.whole and not _has_more(run, made), own=own)
    stone = Item(made.key[0], keys.erased(made.id), made.tombstone(run.clock()))
    entry = Entry(
        Kind.ERASURE, made.institution, (made.patient,), purpose=Purpose.PATIENT_REQUEST, subject=made.id,
        count=made.erased.objects, text=str(made.erased),
    )  # fmt: skip
    writes: list[Write] = [PutNew(stone), Delete(*made.key)]
    run.act(writes, entry)
    return True


def _saved(run: Eraser, made: ErasureOrder) -> ErasureOrder:
    """The order as it is kept from now on. Raises TryAgain where somebody changed it meanwhile."""
    if not run.table.put(made.write()):
        raise TryAgain
    return made.written()


def _has_more(run: Eraser, made: ErasureOrder) -> bool:
    """Whether the owner has studies of the patient that are not the order's: they came since, and what was said of them, and of
    the patient, holds on."""
    return any(owner == made.institution for owner, _ in access.load_record(run.table, made.patient.hash).studies)


def _of_the_patient_alone(run: Eraser, made: ErasureOrder) -> MayGo:
    """Whether all images of a study are the order's patient's still: another's may have come since it was confirmed."""
    own = numbering.own_of(run.registry, made.institution)

    def may_go(instances: Sequence[Instance]) -> bool:
        return {own(instance.fact.patient) for instance in instances if instance.fact.patient is not None} <= {made.patient}

    return may_go


def _left_out(run: Eraser, made: ErasureOrder) -> ErasureOrder:
    """The order without its next study, which is another patient's too: that is recorded, and the patient stays known."""
    study, *rest = made.studies
    after = replace(made, studies=tuple(rest), whole=False)
    entry = Entry(
        Kind.ERASURE_ORDERED, made.institution, (made.patient,), study, Purpose.PATIENT_REQUEST, subject=made.id,
        text="left out: images of another patient came since it was confirmed",
    )  # fmt: skip
    if run.act([after.write()], entry):
        raise TryAgain
    return after.written()
