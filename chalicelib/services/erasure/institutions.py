"""What two operators decide on an institution that left: one asks for its erasure, another confirms, each may take it back."""

from __future__ import annotations

from datetime import datetime

from chalicelib.domain import erasures, keys
from chalicelib.domain.audit import Act, Entry, Kind, Purpose
from chalicelib.domain.erasures import InstitutionErasure
from chalicelib.domain.errors import BadRequest, Conflict, NotFound, TryAgain
from chalicelib.domain.fields import fields
from chalicelib.domain.institutions import Registry
from chalicelib.domain.ports import Item, PutVersion, Table
from chalicelib.services.registry import Caller


def load(table: Table, registry: Registry, institution: str) -> InstitutionErasure:
    """What was decided on an institution since it left; one of version 0 where nothing ever was."""
    item = table.get(keys.erasure_facts(institution), keys.WHOLE)
    known = InstitutionErasure(institution) if item is None else InstitutionErasure.from_item(item.data, item.version or 0)
    return known.since(registry.versions.get(institution, 0))


def shown(table: Table, caller: Caller, institution: str) -> dict[str, object]:
    """The answer of `GET /institutions/{id}/erasure`. Operator only. Raises NotFound where none was ever asked for."""
    caller.require_operator()
    known = load(table, caller.registry, institution)
    if not known.version:
        raise NotFound
    return known.to_answer()


def put(table: Table, caller: Caller, session: str, institution: str, body: object, now: datetime, act: Act) -> dict[str, object]:
    """The answer of `PUT /institutions/{id}/erasure`: asked for, or, with `confirm`, confirmed by another operator.

    `session` is the name of the role's session that signed, which nobody can choose by a header. Raises NotFound, BadRequest;
    Conflict for a member, where the one who asked would confirm, and where it is another thing than was confirmed.
    """
    caller.require_operator()
    said = fields(body, ("reason", "after_days", "confirm"))
    if "confirm" in said and len(said) > 1:
        raise BadRequest("confirm stands alone: what it confirms was said when it was asked for.", "confirm")
    if institution in caller.registry.members:
        raise Conflict("It is a member: end its membership first (python -m infra.onboard ID --remove).")
    if institution not in caller.registry.former:
        raise NotFound
    known = load(table, caller.registry, institution)
    if "confirm" in said:
        return _keep(act, known.confirmed(session, said["confirm"], now), "confirmed")
    return _keep(act, known.asked(session, erasures.reason_of(said), erasures.days_of(said), now), "asked")


def cancel(table: Table, caller: Caller, institution: str, act: Act) -> dict[str, object]:
    """The answer of `DELETE /institutions/{id}/erasure`: taken back, as long as it has not begun. Raises Conflict."""
    caller.require_operator()
    return _keep(act, load(table, caller.registry, institution).cancelled(), "taken back")


def _keep(act: Act, new: InstitutionErasure, what: str) -> dict[str, object]:
    asked = f"{new.after_days} days from its confirmation"
    when = f"due {new.due_at}; asked by {new.asked_by} at {new.asked_at}" if new.due_at else asked
    text = f"{what}; {when}; {new.reason}"
    entry = Entry(
        Kind.ERASURE_ORDERED, new.institution, purpose=Purpose.ADMINISTRATION, subject=f"institution={new.institution}", text=text
    )
    if act([write(new)], entry):
        raise TryAgain
    return new.to_answer()


def write(new: InstitutionErasure) -> PutVersion:
    """The write that keeps it, if nobody else changed it meanwhile."""
    item = Item(keys.erasure_facts(new.institution), keys.WHOLE, new.to_item(), version=new.version + 1)
    return PutVersion(item, new.version)
