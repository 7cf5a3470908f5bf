"""Orders: which examination of whom is about to be made (ORM^O01, OMG^O19, OMI^O23; HL7 v2.5.1 chapter 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from forwarder.config import Hl7Config, OrdersConfig
from forwarder.hl7.adt.event import number_of, value_of
from forwarder.hl7.message import RefusedMessage, Segment, parse

NOT_MADE = frozenset({"CA", "OC", "CR", "DC", "OD", "DR", "UA", "DE"})
"""ORC-1 (table 0119): cancelled, discontinued, refused: nothing is about to be made."""
MOST_ORDERS = 20


@dataclass(frozen=True, slots=True)
class Order:
    """One examination that is ordered. `digest` names it; `number` is the hospital's own; `modality` as DICOM has it, or "";
    `code` as `scheme|value`, or ""."""

    digest: str
    control_id: str
    number: str
    description: str
    modality: str
    code: str


def read_orders(content: bytes, header: Segment, config: Hl7Config, digest: str) -> list[Order]:
    """The orders in a message (`report.ORDERS`), each OBR one; none where nothing is to be made. Raises RefusedMessage (AE)."""
    segments = parse(content, header, config.charset, config.max_segments)
    pid = next((segment for segment in segments if segment.name == "PID"), None)
    if pid is None:
        raise RefusedMessage("AE", 100, "The message has no PID segment.", "PID")
    groups = list(_groups(segments))
    if not groups:
        raise RefusedMessage("AE", 100, "The message has no OBR segment.", "OBR")
    if len(groups) > MOST_ORDERS:
        raise RefusedMessage("AE", 207, f"The message has more than {MOST_ORDERS} orders.", "OBR", MOST_ORDERS + 1)
    number = number_of(pid, 3, config)
    orders: list[Order] = []
    for place, group in enumerate(groups):
        control = next((segment.value(1).upper() for segment in group if segment.name == "ORC"), "")
        obr = next(segment for segment in group if segment.name == "OBR")
        description = obr.value(4, 2) or obr.value(4, 5) or obr.value(44, 2)
        code, scheme = obr.value(4, 1), obr.value(4, 3)
        modality = _modality(group, config.orders)
        if control not in NOT_MADE and (description or code or modality):
            named = f"{scheme}|{code}"[:128] if code and scheme else ""
            orders.append(Order(f"{digest}-{place}", header.value(10), number, (description or code)[:128], modality, named))
    return orders


def _groups(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """The segments of each order: its ORC, its OBR and what follows them."""
    group: list[Segment] = []
    for segment in segments:
        has_obr = any(known.name == "OBR" for known in group)
        if segment.name == "ORC" or (segment.name == "OBR" and has_obr):
            if has_obr:
                yield group
            group = [segment]
        else:
            group.append(segment)
    if any(known.name == "OBR" for known in group):
        yield group


def _modality(group: Sequence[Segment], config: OrdersConfig) -> str:
    """The modality by the first field that names one, as it is, or as the configuration translates it."""
    for place in config.modality_fields:
        said = value_of(group, place).upper()
        if said:
            return config.modalities.get(said, said if len(said) == 2 and said.isalpha() else "")
    return ""
