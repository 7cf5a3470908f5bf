"""The registry of institutions, and who is calling."""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.domain import institutions, italian, keys
from chalicelib.domain.errors import BadRequest, Forbidden, UnknownInstitution
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.institutions import Institution, Registry
from chalicelib.domain.ports import Table

VERSIONS = keys.begins(keys.institution)
"""What the sort keys of registrations begin with."""
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

    def is_anothers(self, number: PatientIdentifier) -> bool:
        """Whether another hospital gave out this number, which is no national code: nobody learns whose it is by asking."""
        return self.registry.by_issuer(number.issuer) != self.institution and italian.kind(number) == "hospital"

    def require_operator(self) -> None:
        """Raises Forbidden unless the operator is calling."""
        if self.institution is not None:
            raise Forbidden("Only the operator of the archive may change the registry of institutions.")


def load_registry(table: Table) -> Registry:
    """All institutions, read consistently: one item, which every change rewrites under its version."""
    latest = table.get(keys.REGISTRY, keys.LATEST)
    if latest is None:
        return institutions.fold(institutions.from_data(item.data) for item in table.query_all(keys.REGISTRY, VERSIONS))
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
