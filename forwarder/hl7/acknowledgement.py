"""Acknowledgements: MSH, MSA and, for what is refused, ERR (HL7 v2.5.1 2.9.2, 2.9.3, 2.15.5).

In the original mode the answer is AA, AE or AR; where MSH-15 or MSH-16 is valued, the enhanced mode's CA, CE, CR and the
application's AA, AE, AR under the conditions that stand there. Both say the same: the message is durable here, or it is not.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from forwarder.hl7.message import CONDITIONS, RefusedMessage, Segment

BEFORE_2_5 = ("2.1", "2.2", "2.3", "2.4")  # ERR-1 there, ERR-2 and ERR-3 since
MOST_WARNINGS = 10
RESPONSES = {"ORM": ("ORR", "O02", "ORR_O02"), "OMG": ("ORG", "O20", "ORG_O20"), "OMI": ("ORI", "O24", "ORI_O24")}
"""By the code of an order's message (MSH-9.1), its own response (HL7 v2.5.1 4.4.2, 4.4.5, 4.4.11)."""
_WANTED = {"AL": (True, True), "NE": (False, False), "ER": (False, True), "SU": (True, False)}
"""Table 0155: whether to answer (what was accepted, what was refused)."""


def acknowledge(
    header: Segment | None,
    refusal: RefusedMessage | None,
    left_out: Sequence[RefusedMessage] = (),
    more: Sequence[Sequence[str]] = (),
    *,
    responds: bool = False,
) -> list[bytes]:
    """The answers to a message, at most two. `header`: its MSH, None if it has none; `refusal`: None if it was accepted.

    `left_out`: what was not taken of an accepted message, told as warnings. `more`: the fields of segments that follow, in ASCII.
    `responds`: whether an order's application answer is its own response (`RESPONSES`) and no general acknowledgement.
    """
    code = refusal.code if refusal else "AA"
    if header is None:
        return [_message(None, code, refusal, ())]
    accept, application = header.value(15), header.value(16)
    if not accept and not application:
        return [_message(header, code, refusal, left_out, more, responds=responds)]
    codes = [kind + code[1] for kind, wish in (("C", accept), ("A", application)) if wish and _wanted(wish, refusal)]
    return [
        _message(header, code, refusal, left_out, more if code[0] == "A" else (), responds=responds and code[0] == "A")
        for code in codes
    ]


def _wanted(wish: str, refusal: RefusedMessage | None) -> bool:
    return _WANTED.get(wish, _WANTED["AL"])[refusal is not None]


def _message(
    header: Segment | None,
    code: str,
    refusal: RefusedMessage | None,
    left_out: Sequence[RefusedMessage],
    more: Sequence[Sequence[str]] = (),
    *,
    responds: bool = False,
) -> bytes:
    """One acknowledgement, in the message's delimiters and character set: what it repeats, it repeats byte for byte."""
    bar, marks = (header.delimiters.field, header.raw(2)) if header else ("|", "^~\\&")
    hat, ampersand = (header.delimiters.component, header.delimiters.subcomponent) if header else ("^", "&")
    said = header.raw if header else (lambda field: {11: "P", 12: "2.5.1"}.get(field, ""))
    event = [*said(9).split(hat), ""][1] or "R01"

    def plain(what: object) -> str:
        return "".join(" " if mark in bar + marks else mark for mark in str(what))

    text = plain(refusal or (left_out[0] if left_out else ""))
    now, ours = datetime.now().astimezone().strftime("%Y%m%d%H%M%S%z"), uuid.uuid4().hex[:20]
    addresses = [said(5), said(6), said(3), said(4)]
    response = RESPONSES.get(said(9).split(hat)[0]) if responds else None
    kind = hat.join(response or ("ACK", event, "ACK"))
    lines = [["MSH", marks, *addresses, now, "", kind, ours, said(11), said(12), *[""] * 5, said(18)]]
    lines.append(["MSA", code, said(10), text])
    for fault, severity in [(refusal, "E")] if refusal else [(fault, "W") for fault in left_out[:MOST_WARNINGS]]:
        condition = (str(fault.condition), CONDITIONS[fault.condition], "HL70357")
        place = [fault.segment, str(fault.number), str(fault.field or "")] if fault.segment else ["", "", ""]
        old = hat.join([*place, ampersand.join(condition)])
        new = ["", hat.join(place).rstrip(hat), hat.join(condition), severity, "", "", "", plain(fault)]
        if said(12)[:3] not in BEFORE_2_5:
            lines.append(["ERR", *new])
        elif severity == "E":  # which ERR-1 cannot say: there a warning stands in MSA-3 alone
            lines.append(["ERR", old])
    lines += [[plain(field) for field in fields] for fields in more]
    return "".join(bar.join(line).rstrip(bar) + "\r" for line in lines).encode("latin-1")
