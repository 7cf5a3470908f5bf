"""Removing what the table says of a study, of a patient identifier, and of an institution. Safe to repeat; anything left is
found again by the same ways. What the audit trail says stays, and nothing here touches it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from chalicelib.domain import italian, keys, patients
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Delete, Item, Key, PutNew, Table
from chalicelib.domain.refusals import RefusedInstance
from chalicelib.domain.studies import Instance, every_version
from chalicelib.domain.study_views import StudyView
from chalicelib.services.identity import numbering

_PARALLEL = 16
_OF_ONE = tuple(map(keys.begins, (keys.filed, keys.about)))
_OF_IMAGES = (*_OF_ONE, *map(keys.begins, (keys.carries, keys.link)))
"""What a patient's partition has because of images alone; and what of that because of images under this very number."""


def remove_items(table: Table, found: Iterable[Key]) -> None:
    """Remove these items, many at a time."""
    wanted = list(dict.fromkeys(found))
    if wanted:
        with ThreadPoolExecutor(min(_PARALLEL, len(wanted))) as pool:
            list(pool.map(lambda key: table.put(Delete(*key)), wanted))


def instances_of(table: Table, owner: str, study: str) -> list[Instance]:
    """Every instance of a study that a fact tells of, superseded versions included."""
    return instances_in(table.query_all(keys.study_facts(owner, study), keys.INSTANCES))


def instances_in(facts: Iterable[Item]) -> list[Instance]:
    """The same, of facts of a study that were read before."""
    return list(every_version(item for item in facts if item.sk.startswith(keys.INSTANCES)))


def refused_of(table: Table, owner: str, study: str, instances: Iterable[Instance]) -> list[RefusedInstance]:
    """What was refused under the UIDs of these instances as being of the same study."""
    partitions = dict.fromkeys(keys.sop_facts(owner, instance.sop_instance_uid) for instance in instances)
    several = table.batch_get((partition, keys.CONFLICT) for partition in partitions)
    items = (item for partition, _ in sorted(several) for item in table.query_all(partition, keys.begins(keys.refused)))
    return [refused for refused in map(RefusedInstance.from_item, items) if refused.study_instance_uid == study]


def numbers_of(registry: Registry, owner: str, instances: Iterable[Instance], view: StudyView | None) -> set[PatientIdentifier]:
    """The identifiers under which a study is filed: as its instances say, and under its owner's own numbering."""
    said = {instance.fact.patient for instance in instances if instance.fact.patient is not None}
    said |= {*view.patients, *view.said} if view is not None else set()
    own = numbering.own_of(registry, owner)
    return said | {own(number) for number in said}


def view_of(table: Table, owner: str, study: str) -> StudyView | None:
    """A study's summary, where there is one."""
    item = table.get(*keys.study_view(study, owner))
    return StudyView.from_item(item.data) if item is not None else None


def forget_study(table: Table, registry: Registry, owner: str, study: str, facts: Sequence[Item] | None = None) -> None:
    """Remove all facts and views of a study, those of its objects and UIDs among them, and the patients of whom nothing else is
    known.

    `facts`: those that go, where not all do: what came since is a study of its own. The bytes are another's to remove. Facts go
    after what was made of them, so that a run that dies finds the rest by them; the marker that it is being erased, which keeps
    anything from being made of what is left, or from coming, comes first and goes last.
    """
    partition = keys.study_facts(owner, study)
    table.put(PutNew(Item(partition, keys.ERASING)))
    facts = list(table.query_all(partition)) if facts is None else facts
    instances, view = instances_in(facts), view_of(table, owner, study)
    numbers = numbers_of(registry, owner, instances, view)
    table.put(Delete(*keys.study_view(study, owner)))  # from here on nobody can move it on, and rows are written with it only
    rows = list(view.rows) if view is not None else []
    for viewer in sorted({*registry.members, *registry.former}):
        found = table.query_all(keys.search_rows(viewer, study), owner)
        rows += [item.key for item in found if item.sk == owner or item.sk.startswith(f"{owner}#")]
    partitions = keys.tally(owner, study), keys.series_views(owner, study), keys.reading_facts(owner, study)
    remove_items(table, [(keys.told_of(study), keys.by_owner(owner)), *rows, *_keys(table, partitions)])
    going = {instance.fact.sha256 for instance in instances}
    staying = [instance for instance in instances_of(table, owner, study) if instance.fact.sha256 not in going]
    for number in sorted(numbers - numbers_of(registry, owner, staying, None)):
        _unfile(table, number, owner, study)
        forget_patient(table, number, whole=False, own=_is_own(registry, owner, number))
    hashes = [instance.fact.sha256 for instance in instances]
    hashes += [refused.sha256 for refused in refused_of(table, owner, study, instances)]
    remove_items(table, _keys(table, dict.fromkeys(keys.object_facts(owner, sha) for sha in hashes)))
    originals = {instance.fact.original_sha256 for instance in instances} - {""}
    remove_items(table, [(keys.object_facts(owner, sha), keys.SENT_AS) for sha in sorted(originals)])
    remove_items(table, _keys(table, dict.fromkeys(keys.sop_facts(owner, instance.sop_instance_uid) for instance in instances)))
    remove_items(table, [item.key for item in facts if item.sk != keys.ERASING])
    table.put(Delete(partition, keys.ERASING))


def _is_own(registry: Registry, owner: str, number: PatientIdentifier) -> bool:
    member = registry.known(owner)
    return member is not None and number.issuer.partition("/")[0] == member.patient_id_issuer


def numbers_under(table: Table, registry: Registry, owner: str, study: str) -> set[PatientIdentifier]:
    """The identifiers under which a study is filed, from here on under those and no others: nothing is made of it any more."""
    table.put(PutNew(Item(keys.study_facts(owner, study), keys.ERASING)))
    return numbers_of(registry, owner, instances_of(table, owner, study), view_of(table, owner, study))


def _unfile(table: Table, number: PatientIdentifier, owner: str, study: str) -> None:
    """Remove what a patient's partition says of one study: that it is there, and what was decided of it alone."""
    partition = keys.patient_facts(number.hash)
    decided = [
        key
        for item in table.query_all(partition, between=patients.DECIDING)
        if item.data.get("owner") == owner and item.data.get("study") == study
        for key in (item.key, (item.pk, item.sk + keys.ENDED))
    ]
    remove_items(table, [(partition, keys.filed(owner, study)), *decided])


def forget_patient(table: Table, number: PatientIdentifier, *, whole: bool, own: bool = True, leaving: str | None = None) -> bool:
    """Remove what is known of a patient's identifier: its partition, and what others' partitions say of it.

    Unless `whole`, only where nothing but images made it known, no transfer, no objection, no registration, and no study is left
    but of the institution that is `leaving`; and of one that is not the owner's `own`, where no other number is linked to it or
    carries it. Whether it is gone.
    """
    partition = keys.patient_facts(number.hash)
    items = list(table.query_all(partition))
    of_images = _OF_IMAGES if own else (*_OF_ONE, keys.carries(number.hash, ""))
    if not whole and not all(item.sk.startswith(of_images) for item in items):
        return False
    filed = {patients.owner_and_study(item.sk)[0] for item in items if item.sk.startswith(keys.begins(keys.filed))}
    if not whole and filed - {leaving}:
        return False
    gone: list[Key] = []
    for link in patients.fold(number.hash, items).links:
        other = keys.patient_facts(link.beyond(number.hash).hash)
        gone += [item.key for item in table.query_all(other, f"{keys.begins(keys.link)}{link.id}#")]
        gone += _carrying(table, link.beyond(number.hash), number)
    for item in items:  # what was decided stands under linked numbers too
        elsewhere = item.data.get("in")
        gone += [(keys.patient_facts(str(hash)), item.sk) for hash in elsewhere] if isinstance(elsewhere, list) else []
    for code in {patients.statement(item).code for item in items if item.sk.startswith(patients.ABOUT)} - {""}:
        gone += _carrying(table, PatientIdentifier(italian.CODICE_FISCALE, code), number)
    for transfer in {str(item.sk.split("#")[1]) for item in items if item.sk.startswith(keys.begins(keys.transfer))}:
        gone += _keys(table, [keys.transfer_facts(transfer)])
    remove_items(table, gone)
    remove_items(table, [item.key for item in items])  # last, since it says what stands elsewhere
    return True


def _carrying(table: Table, code: PatientIdentifier, number: PatientIdentifier) -> list[Key]:
    found = table.query_all(keys.patient_facts(code.hash), keys.carries(number.hash, ""))
    return [item.key for item in found]


def forget_transfer(table: Table, opened: Item) -> None:
    """Remove a transfer, from the fact that opened it: its own facts, and their copies in the patient's partition."""
    id = opened.pk.removeprefix(keys.transfer_facts(""))
    patient = opened.data["patient"]
    assert isinstance(patient, dict)
    copies = table.query_all(keys.patient_facts(PatientIdentifier.from_item(patient).hash), f"{keys.begins(keys.transfer)}{id}#")
    remove_items(table, [*(item.key for item in copies), *_keys(table, [opened.pk])])


def forget_institution(table: Table, institution: str) -> None:
    """Remove what is the institution's own and no patient's: its feed, its names of examinations, its forwarder's last sign."""
    partitions = (
        keys.feed(institution), keys.proposal_facts(institution), keys.procedure_names(institution),
        keys.names_progress(institution),
    )  # fmt: skip
    single: Sequence[Key] = (
        (keys.FORWARDERS, keys.by_institution(institution)),
        (keys.READ_PROGRESS, keys.by_institution(institution)),
        (keys.erasure_facts(institution), keys.RETENTION),
    )
    remove_items(table, [*single, *_keys(table, partitions)])


def _keys(table: Table, partitions: Iterable[str]) -> list[Key]:
    return [item.key for partition in partitions for item in table.query_all(partition)]
