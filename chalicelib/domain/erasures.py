"""Erasure: what is asked for, by whom, when it is due, how far it went, and what proves it. Pure.

Three things are erased: all of an institution that left, which two operators decide; what a patient asks for, and what is past
its time, which the owner decides (`domain.retention`). What was erased is proven by a chain over the SHA-256 of each object in
the order in which they went: who has the files can make it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from chalicelib.domain import keys
from chalicelib.domain.errors import BadRequest, Conflict
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item, Key, Put, PutVersion
from chalicelib.domain.rfc3339 import iso, kept_moment

DEFAULT_DAYS, MOST_DAYS = 30, 3650
MAX_REASON = 200
_BEGINNING = "0" * 64
_MADE_UP = ("botocore-session-", "aws-cli-session-", "aws-sdk-", "aws-go-sdk-")
"""How the names begin that AWS's CLI and SDKs give a session for which nobody chose any."""


class ErasureState(StrEnum):
    """Of the erasure of an institution: asked by one operator, confirmed by another, through; or taken back."""

    ASKED = "asked"
    CONFIRMED = "confirmed"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class ErasedCount:
    """What went: how many studies, objects, bytes of these; `digest` chains the SHA-256 of each object."""

    studies: int = 0
    objects: int = 0
    bytes: int = 0
    digest: str = _BEGINNING

    def and_object(self, sha256: str, size: int) -> ErasedCount:
        """With one object more."""
        digest = hashlib.sha256(bytes.fromhex(self.digest) + bytes.fromhex(sha256)).hexdigest()
        return replace(self, objects=self.objects + 1, bytes=self.bytes + size, digest=digest)

    def and_studies(self, count: int) -> ErasedCount:
        """With so many studies more."""
        return replace(self, studies=self.studies + count)

    def __str__(self) -> str:
        return f"studies={self.studies} objects={self.objects} bytes={self.bytes} sha256={self.digest}"


def plus(before: ErasedCount, other: ErasedCount) -> ErasedCount:
    """Both together: the second's chain is taken up by the first's."""
    together = before.and_object(other.digest, other.bytes) if other.objects else before
    return replace(together, studies=before.studies + other.studies, objects=before.objects + other.objects)


def counted(item: Mapping[str, object]) -> ErasedCount:
    """What `asdict` made of one."""
    studies, objects, size = (int(str(item[name])) for name in ("studies", "objects", "bytes"))
    return ErasedCount(studies, objects, size, str(item["digest"]))


@dataclass(frozen=True)
class InstitutionErasure:
    """That all of an institution is erased. `stage` and `after`: how far it went. `version` 0: nobody asked.

    `after_days` count from the confirmation, so `due_at` is empty until then.
    `registration`: the version of its registration by which it left. One that joined again has to leave and be decided on anew.
    """

    institution: str
    state: ErasureState = ErasureState.CANCELLED
    reason: str = ""
    asked_by: str = ""
    asked_at: str = ""
    after_days: int = 0
    due_at: str = ""
    confirmed_by: str = ""
    confirmed_at: str = ""
    done_at: str = ""
    stage: str = ""
    after: str = ""
    erased: ErasedCount = field(default_factory=ErasedCount)
    pending: tuple[str, ...] = ()
    """The studies of the page that is on its way out: a run that dies has begun with some of them."""
    registration: int = 0
    version: int = 0

    def to_item(self) -> dict[str, object]:
        """As its fact keeps it."""
        return {name: value for name, value in asdict(self).items() if name != "version"} | {"pending": list(self.pending)}

    def to_answer(self) -> dict[str, object]:
        """As the operator reads it; with `confirm`, which another operator confirms it by, while it waits for that."""
        shown = {name: value for name, value in self.to_item().items() if name not in ("pending", "registration")}
        return shown | {"confirm": self.confirmation if self.state is ErasureState.ASKED else ""}

    @property
    def confirmation(self) -> str:
        """What stands for what was asked for: by whom, of what, why, when, and how long it waits."""
        return digest_of(
            [self.institution, str(self.registration), self.reason, self.asked_by, self.asked_at, str(self.after_days)]
        )

    @classmethod
    def from_item(cls, item: Mapping[str, object], version: int) -> InstitutionErasure:
        """What `to_item` made, and earlier releases, which counted the days from the asking."""
        erased, pending, state = item["erased"], item.get("pending", []), ErasureState(str(item["state"]))
        assert isinstance(erased, dict) and isinstance(pending, list)
        others = ("erased", "state", "pending", "registration", "after_days")
        texts = {name: str(value) for name, value in item.items() if name not in others}
        if "after_days" in item:
            days = int(str(item["after_days"]))
        else:
            days = (kept_moment(item["due_at"]) - kept_moment(item["asked_at"])).days if item["due_at"] else 0
        if state is ErasureState.ASKED:
            texts["due_at"] = ""
        return cls(
            **texts, state=state, erased=counted(erased), pending=tuple(pending), after_days=days,
            registration=int(str(item.get("registration", 0))), version=version,
        )  # fmt: skip

    def since(self, registration: int) -> InstitutionErasure:
        """What holds of it once the institution left by this registration: of what was decided before, only what is done."""
        if self.registration == registration:
            return self
        if self.state is ErasureState.DONE:
            return replace(self, registration=registration)
        return InstitutionErasure(self.institution, version=self.version, registration=registration)

    def is_due(self, now: datetime) -> bool:
        """Whether it may be carried out at `now` (aware)."""
        return self.state is ErasureState.CONFIRMED and kept_moment(self.due_at) <= now

    def asked(self, by: str, reason: str, days: int, now: datetime) -> InstitutionErasure:
        """Asked for by an operator. Raises Conflict where another is on its way."""
        _require_person(by)
        if self.state in (ErasureState.ASKED, ErasureState.CONFIRMED):
            raise self._contradicted("The erasure of this institution was asked for already.")
        return InstitutionErasure(
            self.institution, ErasureState.ASKED, reason, by, iso(now), days, registration=self.registration, version=self.version
        )

    def confirmed(self, by: str, meant: object, now: datetime) -> InstitutionErasure:
        """Confirmed by another operator than who asked. `meant`: the `confirmation` of what was shown. Raises Conflict."""
        _require_person(by)
        if self.state is not ErasureState.ASKED:
            raise self._contradicted("No erasure of this institution waits for a confirmation.")
        if by.casefold() == self.asked_by.casefold():
            raise self._contradicted("Whoever asked for an erasure cannot confirm it: another operator has to.")
        if meant != self.confirmation:
            raise self._contradicted("It is another thing than was confirmed. Please look at it again.")
        due = iso(now + timedelta(days=self.after_days))
        return replace(self, state=ErasureState.CONFIRMED, confirmed_by=by, confirmed_at=iso(now), due_at=due)

    def _contradicted(self, detail: str) -> Conflict:
        """The refusal, with what stands."""
        return Conflict(detail, stands=self.to_answer() if self.version else None)

    def is_older_than(self, table: datetime) -> bool:
        """Whether it was confirmed before the table that it stands in was made (aware): see `ErasureOrder.is_older_than`."""
        return self.state is ErasureState.CONFIRMED and kept_moment(self.confirmed_at) <= table

    def put_back(self) -> InstitutionErasure:
        """Asked for only: another operator has to confirm it anew. What went is counted, and what is left is looked for anew."""
        return replace(self, state=ErasureState.ASKED, stage="", confirmed_by="", confirmed_at="")

    def cancelled(self) -> InstitutionErasure:
        """Taken back. Raises Conflict once it began."""
        if self.state not in (ErasureState.ASKED, ErasureState.CONFIRMED) or self.stage:
            raise Conflict("There is no erasure of this institution that could be taken back.")
        return replace(self, state=ErasureState.CANCELLED)


@dataclass(frozen=True)
class ErasureOrder:
    """That an owner has a patient's studies erased, once it is due. Its item goes with it; what is left names no patient.

    `begun`: it goes, and nobody takes it back any more. `waits`: it is older than its table, and goes only once it is confirmed
    anew (`confirmed_at`); until then it may be taken back, even if it had begun. `version` counts what was changed of it; 0: it
    is not there yet, None: it is of an earlier release, which did not count.
    """

    id: str
    institution: str
    patient: PatientIdentifier
    studies: tuple[str, ...]
    reason: str
    asked_by: str
    asked_at: str
    due_at: str
    cancelled: bool = field(default=False, kw_only=True)
    begun: bool = field(default=False, kw_only=True)
    waits: bool = field(default=False, kw_only=True)
    confirmed_at: str = field(default="", kw_only=True)
    whole: bool = field(default=False, kw_only=True)
    """Whether what is known of the patient goes too, and not these studies alone."""
    erased: ErasedCount = field(default_factory=ErasedCount, kw_only=True)
    version: int | None = field(default=0, kw_only=True)

    @property
    def key(self) -> Key:
        """Where it stands."""
        return keys.erasure_facts(self.institution), keys.erasure_order(self.id)

    def write(self) -> Put | PutVersion:
        """The write that keeps it, if nobody else changed it meanwhile."""
        item = Item(*self.key, self.to_item(), version=(self.version or 0) + 1)
        return Put(item) if self.version is None else PutVersion(item, self.version)

    def written(self) -> ErasureOrder:
        """As it stands once that is done."""
        return replace(self, version=(self.version or 0) + 1)

    def to_item(self) -> dict[str, object]:
        """As its fact keeps it."""
        kept = {name: value for name, value in asdict(self).items() if name != "version"}
        return kept | {"patient": self.patient.to_item(), "studies": list(self.studies)}

    @classmethod
    def from_item(cls, item: Mapping[str, object], version: int | None) -> ErasureOrder:
        """What `to_item` made, and earlier releases, which had one begun once a study was gone."""
        patient, studies, erased = item["patient"], item["studies"], item["erased"]
        assert isinstance(patient, dict) and isinstance(studies, list) and isinstance(erased, dict)
        names = ("id", "institution", "reason", "asked_by", "asked_at", "due_at")
        return cls(
            **{name: str(item[name]) for name in names},
            patient=PatientIdentifier.from_item(patient),
            studies=tuple(map(str, studies)),
            cancelled=bool(item["cancelled"]),
            begun=bool(item.get("begun", erased["studies"])),
            waits=bool(item.get("waits", False)),
            confirmed_at=str(item.get("confirmed_at", "")),
            whole=bool(item["whole"]),
            erased=counted(erased),
            version=version,
        )

    def is_due(self, now: datetime) -> bool:
        """Whether it may be carried out at `now` (aware), or was taken back, and goes."""
        return self.cancelled or (not self.waits and kept_moment(self.due_at) <= now)

    def is_older_than(self, table: datetime) -> bool:
        """Whether it was given, and confirmed anew, before the table that it stands in was made (aware).

        Then it came with a restore, and that it was taken back may be among what was lost. A restored table is made minutes
        after the last moment that it can have, so that clocks which differ by seconds decide nothing.
        """
        return kept_moment(self.confirmed_at or self.asked_at) <= table

    def waiting(self) -> ErasureOrder:
        """The same, which goes only once it is confirmed anew."""
        return replace(self, waits=True)

    def confirmed(self, now: datetime) -> ErasureOrder:
        """Confirmed anew at `now` (aware). Raises Conflict where it does not wait for that."""
        if not self.waits:
            raise Conflict("This erasure does not wait to be confirmed anew.")
        return replace(self, waits=False, confirmed_at=iso(now))

    def tombstone(self, now: datetime) -> dict[str, object]:
        """What stays of it: who had what done and when, counts and the chain; no patient, no study."""
        return {"asked_by": self.asked_by, "asked_at": self.asked_at, "done_at": iso(now), **asdict(self.erased)}


def _require_person(session: str) -> None:
    """Raises Conflict for a name that is new in each session: two of these may be one person's."""
    if session.casefold().startswith(_MADE_UP):
        raise Conflict("The session of your role has a name that the AWS SDK made up: please give it yours (role_session_name).")


def reason_of(said: Mapping[str, object]) -> str:
    """The reason in a request. Raises BadRequest."""
    reason = said.get("reason")
    if not isinstance(reason, str) or not 1 <= len(reason.strip()) <= MAX_REASON or not reason.isprintable():
        raise BadRequest(f"reason must be 1 to {MAX_REASON} printable characters.", "reason")
    return reason.strip()


def days_of(said: Mapping[str, object]) -> int:
    """After how many days it is due, in a request. Raises BadRequest."""
    days = said.get("after_days", DEFAULT_DAYS)
    if isinstance(days, bool) or not isinstance(days, int) or not 0 <= days <= MOST_DAYS:
        raise BadRequest(f"after_days must be a whole number from 0 to {MOST_DAYS}.", "after_days")
    return days


def digest_of(parts: Sequence[str]) -> str:
    """What a person confirms of what was shown: changes when any of it does."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
