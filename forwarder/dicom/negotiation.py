"""Whom the DICOM door lets in, and with what: the rules, without sockets. PS3.8 9.3.4 and 9.3.3.2, PS3.7 D.3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forwarder.alerts import Refusal
from forwarder.dicom.associate import (
    ABSTRACT_SYNTAX_NOT_SUPPORTED,
    ACCEPTED,
    APPLICATION_CONTEXT,
    TRANSFER_SYNTAXES_NOT_SUPPORTED,
    AssociateRequest,
    ContextAnswer,
    ProposedContext,
)

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
    preferred ones first."""

    ae_title: str
    allowed_callers: frozenset[str]
    check_called: bool
    supported: Mapping[str, Sequence[str]]


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


def answers(request: AssociateRequest, policy: Policy) -> list[tuple[ContextAnswer, Refusal | None]]:
    """The answer to each proposed context, in their order, and why it is refused if it is.

    Where a number stands twice, the first context of it counts, and the number is answered once.
    """
    found: dict[int, tuple[ContextAnswer, Refusal | None]] = {}
    for context in request.contexts:
        if context.context_id not in found:
            found[context.context_id] = _answer(context, policy.supported)
    return list(found.values())


def _answer(context: ProposedContext, supported: Mapping[str, Sequence[str]]) -> tuple[ContextAnswer, Refusal | None]:
    if not context.abstract_syntax:
        return ContextAnswer(context, ABSTRACT_SYNTAX_NOT_SUPPORTED), Refusal.DAMAGED_CONTEXT
    if context.abstract_syntax not in supported:
        return ContextAnswer(context, ABSTRACT_SYNTAX_NOT_SUPPORTED), Refusal.SOP_CLASS
    if not context.transfer_syntaxes:
        return ContextAnswer(context, TRANSFER_SYNTAXES_NOT_SUPPORTED), Refusal.NO_TRANSFER_SYNTAX
    for syntax in supported[context.abstract_syntax]:
        if syntax in context.transfer_syntaxes:
            return ContextAnswer(context, ACCEPTED, syntax), None
    return ContextAnswer(context, TRANSFER_SYNTAXES_NOT_SUPPORTED), Refusal.TRANSFER_SYNTAX
