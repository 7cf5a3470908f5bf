"""Every key of the table and of the buckets, built and read here and nowhere else: docs/data-model.md says what lies under each.

`LAYOUT`, `INDEXES` and `OBJECTS` list them; a test holds these against that document. A key is text whose parts are joined by
`#`; a part has none, but for the last one of a key. Parts that are numbers have zeros before them, so that they sort.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from inspect import signature

from chalicelib.domain.ports import Key

Builder = Callable[..., str]

# Facts: partitions -----------------------------------------------------------------------------------------------------


def object_facts(institution: str, sha256: str) -> str:
    """What became of an uploaded object."""
    return f"F#OBJECT#{institution}#{sha256}"


def sop_facts(institution: str, sop_uid: str) -> str:
    """What a SOP Instance UID stands for at an institution."""
    return f"F#SOP#{institution}#{sop_uid}"


def study_facts(institution: str, study_uid: str) -> str:
    """The facts of one owner's study."""
    return f"F#STUDY#{institution}#{study_uid}"


def patient_facts(hash: str) -> str:
    """The facts of one patient identifier (`identifiers.PatientIdentifier.hash`)."""
    return f"F#PATIENT#{hash}"


def transfer_facts(id: str) -> str:
    """The facts of one transfer."""
    return f"F#TRANSFER#{id}"


def proposal_facts(institution: str) -> str:
    """When an institution proposed numbers of others."""
    return f"F#PROPOSALS#{institution}"


def feed(viewer: str) -> str:
    """The change feed of an institution."""
    return f"F#FEED#{viewer}"


def told_of(study_uid: str) -> str:
    """What each institution was told of a study."""
    return f"F#FEED#{study_uid}"


def reading_facts(owner: str, study_uid: str) -> str:
    """Who of another hospital read a study's reports."""
    return f"F#READ#{owner}#{study_uid}"


def commitment_facts(institution: str, transaction_uid: str) -> str:
    """The result of a Storage Commitment request."""
    return f"F#COMMITMENT#{institution}#{transaction_uid}"


def link_facts(sha256_of_the_token: str) -> str:
    """The facts of a link."""
    return f"F#LINK#{sha256_of_the_token}"


def emergency_facts(id: str) -> str:
    """The facts of an emergency access."""
    return f"F#EMERGENCY#{id}"


def audit_records(shard: str) -> str:
    """The records of an audit chain, one of an institution's: `<institution>#<nn>`."""
    return f"F#AUDIT#{shard}"


def offered_at(hour: str) -> str:
    """What was offered, and is looked at in this hour (`YYYY-MM-DDTHH`)."""
    return f"F#OFFERED#{hour}"


def removed_on(day: str) -> str:
    """What is removed on this day (`YYYY-MM-DD`)."""
    return f"F#REMOVAL#{day}"


def procedure_names(institution: str) -> str:
    """What an institution calls its examinations."""
    return f"F#PROCEDURES#{institution}"


def erasure_facts(institution: str) -> str:
    """What an institution has erased, or has had erased."""
    return f"F#ERASURE#{institution}"


REGISTRY = "F#REGISTRY"
FORWARDERS = "F#FORWARDERS"

# Facts: sort keys ------------------------------------------------------------------------------------------------------

ONLY = "."
LATER, MADE_FROM, SENT_AS = "LATER", "FROM", "AS"
CURRENT, CONFLICT = "CURRENT", "CONFLICT"
WITHDRAWN = "WITHDRAWN"
OPEN, END, HEAD, NAMES, LATEST = "OPEN", "END", "HEAD", "NAMES", "LATEST"
LINK, OPENED = "LINK", "OPENED"
ENDED = "#END"
"""What a fact's sort key is followed by in that of the fact that ends it."""
NOTED = "#NOTED"
ERASING = "ERASING"
"""That a study is being erased: nothing is made of its facts any more."""
WHOLE, RETENTION = "INSTITUTION", "RETENTION"
INSTANCES, BATCHES, ANNOUNCEMENTS, MARKS = "I#", "P#", "E#", "W#"
"""What the sort keys of instances, of what is left of batches, of announcements, of withdrawn instances begin with."""


def instance(series_uid: str, sop_uid: str) -> str:
    """An instance."""
    return f"{INSTANCES}{series_uid}#{sop_uid}"


def instance_version(series_uid: str, sop_uid: str, number: int) -> str:
    """A later version of an instance's fact. Those of one instance are neighbours: `#` sorts before digits and points."""
    return f"{INSTANCES}{series_uid}#{sop_uid}#{number:06d}"


def batch(batch: str) -> str:
    """What the instances of a batch add up to."""
    return f"{BATCHES}{batch}"


def refused(sha256: str) -> str:
    """Bytes that were refused for a SOP Instance UID."""
    return f"{CONFLICT}#{sha256}"


def announcement(digest: str) -> str:
    """What the sender said would come."""
    return f"{ANNOUNCEMENTS}{digest}"


def withdrawn(sop_uid: str) -> str:
    """That an instance is withdrawn by itself."""
    return f"{MARKS}{sop_uid}"


def withdrawal(id: str) -> str:
    """A withdrawal, of a study or of instances."""
    return f"WITHDRAWAL#{id}"


def renamed(version: str) -> str:
    """That the issuer of a study's numbers is called otherwise from this version of a registration on."""
    return f"N#{version}"


def filed(institution: str, study_uid: str) -> str:
    """That a patient has a study."""
    return f"UID#{institution}#{study_uid}"


def carries(hash: str, digest: str) -> str:
    """That an identifier carries a codice fiscale."""
    return f"CARRIES#{hash}#{digest}"


def about(digest: str) -> str:
    """What an image says of its patient."""
    return f"ABOUT#{digest}"


def link(id: str, number: int) -> str:
    """That a patient identifier is linked to another."""
    return f"LINK#{id}#{number:06d}"


def transfer(id: str, number: int) -> str:
    """A transfer that touches a patient identifier, in this version."""
    return f"TRANSFER#{id}#{number:06d}"


def registration(number: int) -> str:
    """What a hospital's registration says of its patient."""
    return f"ADT#{number:06d}"


def objection(id: str) -> str:
    """That a patient does not want a study, or any, to be shared."""
    return f"OBJECTION#{id}"


def protection(study_uid: str) -> str:
    """That a study is under strengthened protection."""
    return f"PROTECTION#{study_uid}"


def consent(id: str) -> str:
    """That a patient consents to a protected study being seen."""
    return f"CONSENT#{id}"


def emergency(id: str) -> str:
    """Emergency access to a patient's studies."""
    return f"EMERGENCY#{id}"


def transfer_version(number: int) -> str:
    """A later version of a transfer. What was changed first was the receiver's number."""
    return f"RECEIVER#{number:06d}"


def feed_entry(place: int) -> str:
    """An entry of a change feed."""
    return f"E#{place:020d}"


def event_told(event: str) -> str:
    """That an event was told."""
    return f"D#{event}"


def by_owner(owner: str) -> str:
    """What belongs to an owner's study, in a partition of the study."""
    return owner


def reading(institution: str, person: str, what: str) -> str:
    """That somebody read a report, or opened the exam."""
    return f"{institution}#{person}#{what}"


def link_key(kind: str, sha256: str) -> str:
    """A key or a pass that was given to who opened a link."""
    return f"KEY#{kind}#{sha256}"


def link_alive(at: str) -> str:
    """A sign of life of a reading session."""
    return f"ALIVE#{at}"


def review(owner: str) -> str:
    """That an emergency access waits for an owner's review."""
    return f"REVIEW#{owner}"


def reviewed(owner: str) -> str:
    """The review of an emergency access by an owner."""
    return f"REVIEWED#{owner}"


def audit_record(number: int) -> str:
    """A record of an audit chain."""
    return f"{number:012d}"


def offered(due: str, institution: str, digest: str) -> str:
    """What an institution asked to upload in one call."""
    return f"{due}#{institution}#{digest}"


def removed(due: str, institution: str, sha256: str) -> str:
    """An object that is removed then."""
    return f"{due}#{institution}#{sha256}"


def erasure_order(id: str) -> str:
    """That a patient's studies are to be erased."""
    return f"ORDER#{id}"


def erased(id: str) -> str:
    """What was erased: counts, and what proves them."""
    return f"DONE#{id}"


def institution(id: str, version: int) -> str:
    """A version of a registration."""
    return f"INSTITUTION#{id}#{version:06d}"


# Views ---------------------------------------------------------------------------------------------------------------


def study_views(study_uid: str) -> str:
    """The summaries of a study, one for each owner."""
    return f"V#STUDY#{study_uid}"


def tally(owner: str, study_uid: str) -> str:
    """What a study's instances add up to, and its reports."""
    return f"V#TALLY#{owner}#{study_uid}"


def report(series_uid: str, sop_uid: str) -> str:
    """A report of a study."""
    return f"R#{series_uid}#{sop_uid}"


def series_views(owner: str, study_uid: str) -> str:
    """The summaries of a study's series."""
    return f"V#SERIES#{owner}#{study_uid}"


def by_series(series_uid: str) -> str:
    """What belongs to a series, in a partition of its study."""
    return series_uid


def search_rows(viewer: str, study_uid: str) -> str:
    """Under what an institution can find a study."""
    return f"V#SEE#{viewer}#{study_uid}"


def row_of_number(owner: str, n: int) -> str:
    """A row for a further number of the patient."""
    return f"{owner}#{n}"


def row_of_modality(owner: str, modality: str) -> str:
    """A row for a modality."""
    return f"{owner}#M#{modality}"


def pages(viewer: str, owner: str, study_uid: str) -> str:
    """Where pages of a study ended."""
    return f"V#PAGES#{viewer}#{owner}#{study_uid}"


def page(digest_of_the_search: str, offset: int) -> str:
    """Where one page ended."""
    return f"{digest_of_the_search}#{offset:09d}"


def seen_by(institution: str, patient_hash: str) -> str:
    """What an institution's people had on the screen of a patient's exams."""
    return f"V#SEEN#{institution}#{patient_hash}"


def by_person(person: str) -> str:
    """What belongs to a person, told by a digest."""
    return person


def names_progress(institution: str) -> str:
    """How far studies were looked through after names changed."""
    return f"V#NAMES#{institution}"


def by_version(version: str) -> str:
    """What belongs to a version of a registration."""
    return version


def by_institution(institution: str) -> str:
    """What belongs to an institution, in a partition of all of them."""
    return institution


READ_PROGRESS, EXPIRIES, OFFERED_PROGRESS, REMOVAL_PROGRESS, AUDIT_PROGRESS, ERASURE_PROGRESS = (
    "V#READ", "V#EXPIRIES", "V#OFFERED", "V#REMOVAL", "V#AUDIT", "V#ERASURE",
)  # fmt: skip
LAST, EARLIER, LEASE = "LAST", "EARLIER", "LEASE"
COUNTED, ANCHOR = "COUNTED", "ANCHOR"


def counted(institution: str) -> str:
    """Up to where refusals were counted in an institution's chains."""
    return f"{COUNTED}#{institution}"


def anchored(institution: str) -> str:
    """The heads of an institution's chains that were anchored last."""
    return f"{ANCHOR}#{institution}"


# Indexes: partitions ---------------------------------------------------------------------------------------------------


def audit_of_patient(owner: str, patient_hash: str) -> str:
    """gsi1, gsi2: what happened to one patient of an owner."""
    return f"AUDIT#{owner}#{patient_hash}"


def audit_of_owner(owner: str) -> str:
    """gsi3: what happened to an owner's patients."""
    return f"AUDIT#{owner}"


def readings_of(institution: str, patient_hash: str) -> str:
    """gsi1: what an institution's people read of a patient."""
    return f"READ#{institution}#{patient_hash}"


def reviews_of(owner: str) -> str:
    """gsi1: emergency accesses that an owner has to review."""
    return f"REVIEW#{owner}"


def rows_by_patient(viewer: str, patient_id: str) -> str:
    """gsi1: studies by Patient ID."""
    return f"P#{viewer}#{patient_id}"


def series_of(series_uid: str) -> str:
    """gsi1: the studies that have a series of this UID."""
    return f"S#{series_uid}"


def sent_transfers(institution: str) -> str:
    """gsi1: transfers that an institution opened."""
    return f"FROM#{institution}"


def received_transfers(institution: str) -> str:
    """gsi2: transfers to an institution."""
    return f"TO#{institution}"


def rows_by_accession(viewer: str, accession_number: str) -> str:
    """gsi2: studies by Accession Number."""
    return f"A#{viewer}#{accession_number}"


def rows_by_modality(viewer: str, modality: str) -> str:
    """gsi3: studies by Modalities in Study."""
    return f"M#{viewer}#{modality}"


def rows_by_date(viewer: str) -> str:
    """gsi3: studies by date."""
    return f"D#{viewer}"


def rows_by_name(viewer: str) -> str:
    """gsi4: studies by the beginning of the patient's name."""
    return f"N#{viewer}"


EXPIRING = "EXPIRES"
"""gsi3: transfers by when they run out."""

# Objects ---------------------------------------------------------------------------------------------------------------


def instance_object(institution: str, sha256: str) -> str:
    """The bytes of an instance as they were sent."""
    return f"instances/{institution}/{sha256}"


def metadata_part(institution: str, digest: str) -> str:
    """The metadata of an indexed batch."""
    return f"metadata/parts/{institution}/{digest}.json.gz"


def metadata_of_series(institution: str, digest: str) -> str:
    """The metadata of a series."""
    return f"metadata/series/{institution}/{digest}.json.gz"


def multipart_body(digest: str) -> str:
    """A multipart body that fits no response."""
    return f"cache/multipart/{digest}"


def single_body(digest: str) -> str:
    """A body of one part that fits no response."""
    return f"cache/single/{digest}"


def zip_body(digest: str) -> str:
    """A study as ZIP."""
    return f"cache/zip/{digest}"


def metadata_body(digest: str) -> str:
    """Metadata that fits no response."""
    return f"cache/metadata/{digest}"


def rendered(digest: str) -> str:
    """What was made of an instance's pixels."""
    return f"cache/rendered/{digest}"


ANCHORS, RESTORES = "anchors/", "restores/"


def anchor(number: int) -> str:
    """The heads of the audit chains that grew."""
    return f"{ANCHORS}{number:09d}.json"


def restore(time: str) -> str:
    """That the table was restored."""
    return f"{RESTORES}{time}.json"


# All of them -----------------------------------------------------------------------------------------------------------

LAYOUT: Mapping[Builder | str, tuple[Builder | str, ...]] = {
    object_facts: (ONLY, LATER, MADE_FROM, SENT_AS),
    sop_facts: (ONLY, CURRENT, CONFLICT, refused),
    study_facts: (instance, instance_version, batch, announcement, withdrawn, WITHDRAWN, withdrawal, renamed, ERASING),
    patient_facts: (
        filed, carries, about, link, transfer, registration, objection, protection, consent, emergency,
    ),
    transfer_facts: (OPEN, END, transfer_version),
    proposal_facts: (ONLY,),
    feed: (feed_entry, HEAD, event_told),
    told_of: (by_owner,),
    reading_facts: (reading,),
    commitment_facts: (ONLY,),
    link_facts: (LINK, OPENED, link_key, link_alive, END),
    emergency_facts: (OPEN, review, reviewed),
    audit_records: (audit_record, HEAD),
    offered_at: (offered,),
    removed_on: (removed,),
    procedure_names: (NAMES,),
    erasure_facts: (WHOLE, RETENTION, erasure_order, erased),
    REGISTRY: (institution, LATEST),
    FORWARDERS: (by_institution,),
    study_views: (by_owner,),
    tally: (ONLY, report),
    series_views: (by_series,),
    search_rows: (by_owner, row_of_number, row_of_modality),
    pages: (page,),
    seen_by: (by_person,),
    names_progress: (by_version,),
    READ_PROGRESS: (by_institution,),
    EXPIRIES: (LAST, EARLIER),
    OFFERED_PROGRESS: (LAST,),
    REMOVAL_PROGRESS: (LAST,),
    ERASURE_PROGRESS: (LEASE,),
    AUDIT_PROGRESS: (COUNTED, counted, ANCHOR, anchored),
}  # fmt: skip
"""The sort keys in each partition of the table."""
ENDING: frozenset[Builder] = frozenset({withdrawal, carries, link, objection, protection, consent, emergency})
"""The facts that are ended by one with the same key and `ENDED`."""
INDEXES: tuple[Builder | str, ...] = (
    audit_of_patient, audit_of_owner, readings_of, reviews_of, rows_by_patient, series_of, sent_transfers, received_transfers,
    rows_by_accession, rows_by_modality, rows_by_date, rows_by_name, EXPIRING,
)  # fmt: skip
"""The partitions of the indexes."""
OBJECTS: tuple[Builder, ...] = (
    instance_object, metadata_part, metadata_of_series, multipart_body, single_body, zip_body, metadata_body, rendered, anchor,
    restore,
)  # fmt: skip
"""The objects in the buckets."""


class _Placeholder(str):
    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return str(self)


@cache
def pattern(builder: Builder | str) -> str:
    """A key with the names of its parts in angle brackets, as docs/data-model.md writes it."""
    if isinstance(builder, str):
        return builder
    return builder(*(_Placeholder(f"<{name.replace('_', ' ')}>") for name in signature(builder).parameters))


@cache
def begins(builder: Builder) -> str:
    """What all keys of a builder begin with, before their first part."""
    return pattern(builder).partition("<")[0]


def read(builder: Builder, key: str) -> tuple[str, ...] | None:
    """The parts of a key that `builder` made; None for another one."""
    found = _expression(builder).fullmatch(key)
    return found.groups() if found is not None else None


def shard_of(partition: str) -> str:
    """The audit chain whose records lie in a partition."""
    return partition.removeprefix(audit_records(""))


@cache
def _expression(builder: Builder) -> re.Pattern[str]:
    fixed = [re.escape(text) for text in re.split(r"<[^>]*>", pattern(builder))]
    return re.compile("([^#/]*)".join(fixed[:-1]) + "(.*)" + fixed[-1] if len(fixed) > 1 else fixed[0], re.DOTALL)


# Keys that are needed as a whole -----------------------------------------------------------------------------------------


def verdict(institution: str, sha256: str) -> Key:
    """The verdict on an object."""
    return object_facts(institution, sha256), ONLY


def sop(institution: str, sop_uid: str) -> Key:
    """What a SOP Instance UID stood for first."""
    return sop_facts(institution, sop_uid), ONLY


def sop_now(institution: str, sop_uid: str) -> Key:
    """What a SOP Instance UID stands for now, where it stands for another than first."""
    return sop_facts(institution, sop_uid), CURRENT


def withdrawn_study(institution: str, study_uid: str) -> Key:
    """That a whole study is withdrawn."""
    return study_facts(institution, study_uid), WITHDRAWN


def study_view(study_uid: str, owner: str) -> Key:
    """The summary of an owner's study."""
    return study_views(study_uid), by_owner(owner)


def seen_exams(institution: str, patient_hash: str, person: str) -> Key:
    """In which state a person saw the exams of a patient."""
    return seen_by(institution, patient_hash), by_person(person)


def study_tally(owner: str, study_uid: str) -> Key:
    """What a study's instances add up to."""
    return tally(owner, study_uid), ONLY


def search_row(viewer: str, study_uid: str, owner: str) -> Key:
    """The first row under which an institution can find a study."""
    return search_rows(viewer, study_uid), by_owner(owner)
