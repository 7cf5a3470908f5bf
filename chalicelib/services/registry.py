"""The registry of institutions, and who is calling."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime

from chalicelib.domain import institutions
from chalicelib.domain.audit import Act, Entry, Kind, Purpose, Recorder
from chalicelib.domain.errors import BadRequest, Conflict, Forbidden, NotFound, TryAgain, UnknownInstitution
from chalicelib.domain.institutions import Institution, Registry
from chalicelib.domain.ports import Item, PutNew, PutVersion, Table
from chalicelib.domain.transfers import iso

_PARTITION, _VERSIONS, _LATEST = "F#REGISTRY", "INSTITUTION#", "LATEST"
OPERATOR = "operator"


@dataclass(frozen=True)
class Caller:
    """Who signed the request: an institution, or the operator of the archive; and for which person or machine."""

    institution: Institution | None
    actor: str
    registry: Registry

    @property
    def member(self) -> Institution:
        """The caller's institution. Raises Forbidden for the operator, who is no hospital and sees no patient."""
        if self.institution is None:
            raise Forbidden("The operator is not an institution: this is for hospitals.")
        return self.institution

    def require_operator(self) -> None:
        """Raises Forbidden unless the operator is calling."""
        if self.institution is not None:
            raise Forbidden("Only the operator of the archive may change the registry of institutions.")


def load_registry(table: Table) -> Registry:
    """All institutions, read consistently: one item, which every change rewrites under its version."""
    latest = table.get(_PARTITION, _LATEST)
    if latest is None:
        return institutions.fold(institutions.from_data(item.data) for item in table.query_all(_PARTITION, _VERSIONS))
    entries = latest.data["institutions"]
    assert isinstance(entries, list)
    return institutions.fold(map(institutions.from_data, entries), latest.version or 0)


def identify(table: Table, user_arn: str, on_behalf_of: str | None, operator_role_arn: str) -> Caller:
    """The caller behind `requestContext.identity.userArn`. Raises UnknownInstitution, or BadRequest for a bad header."""
    if on_behalf_of is not None and (
        not 1 <= len(on_behalf_of) <= 64 or not on_behalf_of.isascii() or not on_behalf_of.isprintable()
    ):
        raise BadRequest("X-On-Behalf-Of must be 1 to 64 printable ASCII characters.", "X-On-Behalf-Of")
    principal = institutions.assumed_role(user_arn)
    if principal is None:
        raise UnknownInstitution
    account, role, session = principal
    registry = load_registry(table)
    actor = on_behalf_of or session
    if institutions.role_of(operator_role_arn) == (account, role):
        return Caller(None, actor, registry)
    member = registry.by_role(account, role)
    if member is None:
        raise UnknownInstitution
    return Caller(member, actor, registry)


def register(
    caller: Caller, institution: str, body: object, now: datetime, act: Act, record: Recorder
) -> tuple[Institution, bool]:
    """Register an institution, or change it: the institution and whether anything changed. Operator only.

    What the body does not name stays as it is. Raises Conflict when its role, issuer or an AE title belongs to another member.
    """
    caller.require_operator()
    new = institutions.parse(institution, body, caller.registry.known(institution))
    known = caller.registry.members.get(new.id)
    if known is not None and replace(known, version=0) == new:
        record(_entry(new.id))
        return known, False
    if new.id == OPERATOR:
        raise BadRequest("This id is taken by the operator of the archive.", "id")
    field = institutions.clash(caller.registry, new)
    if field is not None:
        raise Conflict(f"Another institution already has this {field}.")
    return _write(caller, new, now, act), True


def remove(caller: Caller, institution: str, now: datetime, act: Act) -> None:
    """End an institution's membership, at once; its facts stay. Operator only. Raises NotFound."""
    caller.require_operator()
    known = caller.registry.members.get(institution)
    if known is None:
        raise NotFound
    _write(caller, replace(known, removed=True), now, act)


def _write(caller: Caller, new: Institution, now: datetime, act: Act) -> Institution:
    version = caller.registry.versions.get(new.id, 0) + 1
    entry = replace(new, version=version)
    data: dict[str, object] = asdict(entry) | {"at": iso(now), "by": caller.actor}
    known = caller.registry
    everyone = {**known.former, **known.members, new.id: entry}
    latest = Item(_PARTITION, _LATEST, {"institutions": [asdict(one) for one in everyone.values()]}, version=known.changes + 1)
    fact = PutNew(Item(_PARTITION, f"{_VERSIONS}{new.id}#{version:06d}", data))
    if act([fact, PutVersion(latest, known.changes)], _entry(new.id)):
        raise TryAgain("The registry was changed at the same moment. Please look, and send it again.")
    return entry


def _entry(institution: str) -> Entry:
    return Entry(Kind.ADMINISTRATION, purpose=Purpose.ADMINISTRATION, subject=f"institution={institution}")
