"""Who is a member: registering, changing, confirming and ending it; and who is told.

Every change is a fact of its own; the projector tells of it from there: in the institution's feed and as an alert, a removal in
everyone's feed. In the audit it stands with the change itself, in one transaction.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime

from chalicelib.domain import institutions, keys, membership
from chalicelib.domain.audit import Act, Entry, Kind, Purpose, Recorder
from chalicelib.domain.errors import BadRequest, Conflict, Forbidden, NotFound, TryAgain
from chalicelib.domain.feed import MembershipNews
from chalicelib.domain.fields import fields
from chalicelib.domain.institutions import Institution, Registry
from chalicelib.domain.ports import Alerts, Item, PutNew, PutVersion, Table
from chalicelib.domain.rfc3339 import iso
from chalicelib.services import changes
from chalicelib.services.changes import Change
from chalicelib.services.registry import OPERATOR, VERSIONS, Caller, load_registry

_MOST_LOOKED_AT = 200
_NAMES_NOBODY = frozenset({Kind.ADMINISTRATION, Kind.AUDIT_USED, Kind.PROBED, Kind.QUERY, Kind.REFUSAL})
"""What may happen to an institution's data without a fact that names one of its patients."""


def register(
    table: Table,
    caller: Caller,
    institution: str,
    body: object,
    now: datetime,
    act: Act,
    record: Recorder,
    operator_role_arn: str = "",
) -> tuple[Institution, bool]:
    """Register an institution, or change it: the institution and whether anything changed. Operator only.

    What the body does not name stays as it is; another role than the one it has waits (`domain.membership`). Raises
    Conflict when its id, role, issuer or an AE title is or was another's, or its issuer cannot change any more; BadRequest.
    """
    caller.require_operator()
    known = caller.registry.known(institution)
    wanted = institutions.parse(institution, body, known)
    if wanted.id == OPERATOR:
        raise BadRequest("This id is taken by the operator of the archive.", "id")
    new = membership.proposed(known, wanted, "role_arn" in fields(body), now)
    if known is not None and not known.removed and replace(known, version=0) == new:
        record(_entry(new.id, None, None))
        return known, False
    reason = membership.refusal(caller.registry, list(_ever(table)), new)
    if reason is None:
        reason = _taken_issuer(table, caller.registry, new)
    if institutions.role_of(wanted.role_arn) == institutions.role_of(operator_role_arn):
        reason = "This role_arn is that of the archive's operator, who is no hospital."
    if reason is not None:
        raise Conflict(reason)
    return _write(caller.registry, known, new, caller.actor, now, act), True


def confirm(table: Table, caller: Caller, institution: str, body: object, now: datetime, act: Act) -> Institution:
    """A member confirms its new role, signed by the one it has: the new one counts from the next request on.

    `body` names the role that is meant, `{"role_arn"}`, or nothing where one alone was ever proposed: then none can have taken
    the place of the one that was looked at. Raises Forbidden for another institution's, Conflict where no role waits, another
    one than was meant, or it is not said which of several; BadRequest.
    """
    member = caller.member
    if member.id != institution:
        raise Forbidden("A new role is confirmed by the institution whose it is, signed by the role that it has.")
    said = fields(body, ("role_arn",))
    meant = said.get("role_arn", member.proposed_role_arn)
    if not isinstance(meant, str):
        raise BadRequest("role_arn must be the ARN of the role that is confirmed.", "role_arn")
    if not member.proposed_role_arn:
        raise Conflict("No new role of this institution waits for a confirmation.")
    if meant != member.proposed_role_arn:
        raise Conflict("Another role waits for a confirmation.")
    if "role_arn" not in said and len(membership.ever_proposed(_versions(table, institution))) > 1:
        raise Conflict("More than one role was proposed: please name the role_arn that is confirmed.")
    return _write(caller.registry, member, membership.in_effect(member), caller.actor, now, act)


def remove(caller: Caller, institution: str, now: datetime, act: Act) -> None:
    """End an institution's membership, at once; its facts stay. Operator only. Raises NotFound."""
    caller.require_operator()
    known = caller.registry.members.get(institution)
    if known is None:
        raise NotFound
    gone = replace(known, removed=True, proposed_role_arn="", takes_effect_at="")
    _write(caller.registry, known, gone, caller.actor, now, act)


def take_effect(table: Table, now: datetime, act: Act) -> int:
    """Let each new role count that waited long enough; how many did. Safe to repeat, by several at once. Raises TryAgain."""
    done = 0
    while waiting := membership.due(known := load_registry(table), now):
        _write(known, waiting[0], membership.in_effect(waiting[0]), "nobody, for it was not confirmed in time", now, act)
        done += 1
    return done


def tell(table: Table, alerts: Alerts, sks: list[str], now: datetime) -> None:
    """Tell what these facts changed, once each: the institution in its feed and by an alert, a removal everybody."""
    for sk in sks:
        kind, _, rest = sk.partition("#")
        institution, _, number = rest.partition("#")
        if f"{kind}#" != VERSIONS or not number.isdigit() or int(number) < 2:
            continue  # that it was registered for the first time is no change
        registrations = [(keys.REGISTRY, keys.institution(institution, version)) for version in (int(number) - 1, int(number))]
        found = table.batch_get(registrations)
        if registrations[1] not in found:
            continue
        before = institutions.from_data(found[registrations[0]].data) if registrations[0] in found else None
        content = membership.what_changed(before, institutions.from_data(found[registrations[1]].data))
        if content is not None:
            _tell(
                table,
                alerts,
                institution,
                f"MEMBERSHIP#{institution}#{number}",
                content,
                found[registrations[1]].data.get("at", iso(now)),
                now,
            )


def _tell(table: Table, alerts: Alerts, institution: str, event: str, content: MembershipNews, at: object, now: datetime) -> None:
    own = Change(institution, event, "membership-changed", content)
    if not changes.was_told(table, own):
        told = {"institution": content.institution, "change": content.change}
        told |= {"takes_effect_at": content.takes_effect_at} if content.takes_effect_at else {}
        alerts.alert("membership-changed", told | {"owner": institution, "at": str(at)})
    others = list(load_registry(table).members) if content.change == "removed" else []
    changes.tell(table, [own, *(replace(own, viewer=other) for other in others if other != institution)], now)


def named_by_facts(table: Table, institution: str) -> bool:
    """Whether a fact may name this institution's patient numbers: it sent, received, linked or changed something.

    Found by indexes, which run behind by moments. When in doubt, it is named.
    """
    if any(table.query(f"{way}#{institution}", index=index, limit=1).items for way, index in (("FROM", "gsi1"), ("TO", "gsi2"))):
        return True
    if table.query(keys.rows_by_date(institution), index="gsi3", limit=1).items:
        return True
    page = table.query(keys.audit_of_owner(institution), index="gsi3", limit=_MOST_LOOKED_AT, descending=True)
    return page.next is not None or any(Kind(str(item.data["kind"])) not in _NAMES_NOBODY for item in page.items)


def _taken_issuer(table: Table, registry: Registry, new: Institution) -> str | None:
    """Why `new` cannot have its issuer, since facts name that or the one it has; or None."""
    known = registry.members.get(new.id)
    if known is not None and known.patient_id_issuer != new.patient_id_issuer and named_by_facts(table, new.id):
        return "Facts name patients under the patient_id_issuer that this institution has: it does not change any more."
    for former in registry.former.values():
        if former.id != new.id and former.patient_id_issuer == new.patient_id_issuer and named_by_facts(table, former.id):
            return "This patient_id_issuer was another institution's, and facts name patients under it."
    return None


def issuers_ever(table: Table, institution: str) -> list[str]:
    """The issuers under which an institution's patients may be filed: the one it has, and those it had before."""
    return list(dict.fromkeys(entry.patient_id_issuer for entry in _versions(table, institution)))


def _versions(table: Table, institution: str) -> list[Institution]:
    """Every registration of an institution, oldest first."""
    return [institutions.from_data(item.data) for item in table.query_all(keys.REGISTRY, f"{VERSIONS}{institution}#")]


def _ever(table: Table) -> list[Institution]:
    return [institutions.from_data(item.data) for item in table.query_all(keys.REGISTRY, VERSIONS)]


def _write(known: Registry, before: Institution | None, new: Institution, by: str, now: datetime, act: Act) -> Institution:
    version = known.versions.get(new.id, 0) + 1
    entry = replace(new, version=version)
    data: dict[str, object] = asdict(entry) | {"at": iso(now), "by": by}
    everyone = {**known.former, **known.members, new.id: entry}
    said: dict[str, object] = {"institutions": [asdict(registered) for registered in everyone.values()]}
    latest = Item(keys.REGISTRY, keys.LATEST, said, version=known.changes + 1)
    fact = PutNew(Item(keys.REGISTRY, keys.institution(new.id, version), data))
    told = membership.what_changed(before, entry)
    concerned = [new.id, *(member for member in known.members if member != new.id and entry.removed)]
    if act([fact, PutVersion(latest, known.changes)], *(_entry(new.id, owner, _words(told)) for owner in concerned)):
        raise TryAgain("The registry was changed at the same moment. Please look, and send it again.")
    return entry


def _words(told: MembershipNews | None) -> str:
    """A change in the words of the audit: what it was, and of which fields or to which role."""
    if told is None:
        return ""
    more = (told.role_arn, told.proposed_role_arn, told.takes_effect_at)
    return " ".join([told.change, *(told.fields or ()), *filter(None, more)])


def _entry(institution: str, owner: str | None, text: str | None) -> Entry:
    return Entry(Kind.ADMINISTRATION, owner, purpose=Purpose.ADMINISTRATION, subject=f"institution={institution}", text=text)
