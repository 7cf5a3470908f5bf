"""Whom the DICOM door lets in, and with what: the rules, without sockets. PS3.8 9.3.4 and 9.3.3.2, PS3.7 D.3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from forwarder.alerts import Refusal
from forwarder.dicom.associate import (
    ABSTRACT_SYNTAX_NOT_SUPPORTED,
    ACCEPTED,
    APPLICATION_CONTEXT,
    TRANSFER_SYNTAXES_NOT_SUPPORTED,
    USER_REJECTION,
    AssociateRequest,
    ContextAnswer,
    ProposedContext,
)

STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"

# PS3.8 table 9-21: (result, source, reason) of an A-ASSOCIATE-RJ.
REJECTIONS = {
    Refusal.PROTOCOL_VERSION: (1, 2, 2),
    Refusal.APPLICATION_CONTEXT: (1, 1, 2),
    Refusal.CALLING_AE_TITLE: (1, 1, 3),
    Refusal.CALLED_AE_TITLE: (1, 1, 7),
    Refusal.TOO_MANY_ASSOCIATIONS: (2, 3, 2),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """Our AE title, who may call (empty: anyone) and whom they must call, and the transfer syntaxes of each SOP class, the
    preferred ones first: of those that anyone may use, and of those that peers may."""

    ae_title: str
    allowed_callers: frozenset[str]
    check_called: bool
    supported: Mapping[str, Sequence[str]]
    for_peers: Mapping[str, Sequence[str]] = field(default_factory=dict)


def why_refused(request: AssociateRequest, policy: Policy) -> Refusal | None:
    """What keeps the whole association from standing, if anything does; one of `REJECTIONS`."""
    if not request.protocol_version & 1:  # PS3.8 table 9-11: bit 0 is version 1, the others are not tested
        return Refusal.PROTOCOL_VERSION
    if request.application_context != APPLICATION_CONTEXT:
        return Refusal.APPLICATION_CONTEXT
    if policy.allowed_callers and request.calling not in policy.allowed_callers:
        return Refusal.CALLING_AE_TITLE
    if policy.check_called and request.called != policy.ae_title:
        return Refusal.CALLED_AE_TITLE
    return None


def answers(request: AssociateRequest, policy: Policy, *, peer: bool = False) -> list[tuple[ContextAnswer, Refusal | None]]:
    """The answer to each proposed context, in their order, and why it is refused if it is. `peer`: whether a peer calls.

    Where a number stands twice, the first context of it counts, and the number is answered once. A peer that proposes to be SCP
    of a storage class gets what it retrieves on this association (C-GET, PS3.4 C.4.3). Who proposes to be SCP of storage
    commitment brings the result of a request of ours (PS3.4 J.3.3). No other roles are answered.
    """
    found: dict[int, tuple[ContextAnswer, Refusal | None]] = {}
    for context in request.contexts:
        if context.context_id not in found:
            found[context.context_id] = _answer(context, policy, request.roles, peer)
    return list(found.values())


def _answer(
    context: ProposedContext, policy: Policy, roles: Mapping[str, tuple[bool, bool]], peer: bool
) -> tuple[ContextAnswer, Refusal | None]:
    name = context.abstract_syntax
    if not name:
        return ContextAnswer(context, ABSTRACT_SYNTAX_NOT_SUPPORTED), Refusal.DAMAGED_CONTEXT
    if name in policy.for_peers and not peer:
        return ContextAnswer(context, USER_REJECTION), Refusal.NOT_A_PEER
    supported = policy.for_peers.get(name) or policy.supported.get(name)
    if supported is None:
        return ContextAnswer(context, ABSTRACT_SYNTAX_NOT_SUPPORTED), Refusal.SOP_CLASS
    if not context.transfer_syntaxes:
        return ContextAnswer(context, TRANSFER_SYNTAXES_NOT_SUPPORTED), Refusal.NO_TRANSFER_SYNTAX
    for syntax in supported:
        if syntax in context.transfer_syntaxes:
            agreed = roles.get(name) if name in policy.supported and (peer or name == STORAGE_COMMITMENT) else None
            return ContextAnswer(context, ACCEPTED, syntax, agreed if agreed and agreed[1] else None), None
    return ContextAnswer(context, TRANSFER_SYNTAXES_NOT_SUPPORTED), Refusal.TRANSFER_SYNTAX
