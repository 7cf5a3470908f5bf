"""What may change of a membership, when it counts, and what is told of it. Pure.

Whoever holds a member's role reads that member's images, so the operator, who reads none, must not be able to hand the role
on unseen: a new role waits until the member confirms it, signed by the one it has, or for `WAITING`, while its alarm rings.
Names, numbers and roles that once stood for one institution never stand for another, since facts go on naming them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import takewhile

from chalicelib.domain.feed import MembershipNews
from chalicelib.domain.institutions import Institution, Registry, clash, role_of
from chalicelib.domain.rfc3339 import iso

WAITING = timedelta(hours=72)
"""After this a new role counts even if nobody confirmed it: a member may have lost the role that it had."""
_TOLD = ("name", "role_arn", "patient_id_issuer", "ae_titles", "issuer_names", "corrections")


def proposed(known: Institution | None, wanted: Institution, names_role: bool, now: datetime) -> Institution:
    """`wanted` as it is kept: a role other than the one that `known` has waits. `names_role`: whether a role was asked for.

    An institution that left has the role that it had: one that joins again under another role waits like any other.
    """
    if known is None:
        return wanted
    if not names_role:
        return replace(wanted, proposed_role_arn=known.proposed_role_arn, takes_effect_at=known.takes_effect_at)
    if role_of(wanted.role_arn) == role_of(known.role_arn):
        return replace(wanted, proposed_role_arn="", takes_effect_at="")
    waits = known.takes_effect_at if wanted.role_arn == known.proposed_role_arn else iso(now + WAITING)
    return replace(wanted, role_arn=known.role_arn, proposed_role_arn=wanted.role_arn, takes_effect_at=waits)


def in_effect(member: Institution) -> Institution:
    """The member with the role that was proposed."""
    return replace(member, role_arn=member.proposed_role_arn, proposed_role_arn="", takes_effect_at="")


def ever_proposed(versions: Iterable[Institution]) -> set[str]:
    """The roles that were proposed to a member since it has the one that it has; all `versions` of its registration."""
    newest_first = sorted(versions, key=lambda entry: entry.version, reverse=True)
    since = takewhile(lambda entry: entry.role_arn == newest_first[0].role_arn, newest_first)
    return {entry.proposed_role_arn for entry in since} - {""}


def due(registry: Registry, now: datetime) -> list[Institution]:
    """The members whose new role has waited long enough."""
    return [member for member in registry.members.values() if member.takes_effect_at and member.takes_effect_at <= iso(now)]


def refusal(registry: Registry, ever: Iterable[Institution], new: Institution) -> str | None:
    """Why `new` cannot be registered, or None. `ever`: every version of every institution that was registered."""
    former = registry.former.get(new.id)
    if former is not None and former.patient_id_issuer != new.patient_id_issuer:
        return "This id was another institution's, with another patient_id_issuer: an id is never given to another."
    roles = {role_of(new.role_arn), role_of(new.proposed_role_arn)} - {None}
    for institution in ever:
        if institution.id != new.id and roles & {role_of(institution.role_arn)}:
            return "This role_arn is or was another institution's: a role is never given to another."
    for member in registry.members.values():
        if member.id != new.id and roles & {role_of(member.proposed_role_arn)}:
            return "This role_arn is proposed for another institution."
    field = clash(registry, new)
    return None if field is None else f"Another institution already has this {field}."


def what_changed(before: Institution | None, after: Institution) -> MembershipNews | None:
    """What is told of a change; None for what is none."""
    if after.removed:
        return MembershipNews(after.id, "removed")
    if before is None or before.removed:
        return (
            _waiting(MembershipNews(after.id, "joined"), after) if after.proposed_role_arn else MembershipNews(after.id, "joined")
        )
    fields = tuple(key for key in _TOLD if getattr(before, key) != getattr(after, key))
    if "role_arn" in fields:
        return MembershipNews(after.id, "role-changed", fields, role_arn=after.role_arn)
    if after.proposed_role_arn != before.proposed_role_arn:
        if after.proposed_role_arn:
            return _waiting(MembershipNews(after.id, "role-proposed", fields), after)
        return MembershipNews(after.id, "role-withdrawn", fields)
    return MembershipNews(after.id, "changed", fields) if fields else None


def _waiting(news: MembershipNews, after: Institution) -> MembershipNews:
    return replace(news, proposed_role_arn=after.proposed_role_arn, takes_effect_at=after.takes_effect_at)
