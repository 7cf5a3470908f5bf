"""Signs of life of the forwarders: kept, counted, shown to the operator."""

from __future__ import annotations

from datetime import datetime

from chalicelib.domain import forwarder_signs, keys
from chalicelib.domain.forwarder_signs import CONTRACT, EVERY, SILENT_AFTER, Sign
from chalicelib.domain.institutions import CANARY
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Item, Put, Table
from chalicelib.domain.rfc3339 import iso
from chalicelib.services.registry import load_registry


def heard(table: Table, institution: str, body: object, now: datetime) -> JsonObject:
    """The answer of `PUT /forwarder`: how the archive sees this institution's forwarder. One write. Raises BadRequest."""
    sign = forwarder_signs.parse(body, iso(now))
    table.put(Put(Item(keys.FORWARDERS, keys.by_institution(institution), sign.to_item())))
    pace = {"every_seconds": int(EVERY.total_seconds()), "silent_after_seconds": int(SILENT_AFTER.total_seconds())}
    return sign.to_item() | {"contract": CONTRACT, **pace}


def shown(table: Table, now: datetime) -> list[JsonObject]:
    """Each member's last sign of life with its age in seconds; nulls for one that never sent any."""
    signs = {item.sk: Sign.from_item(item.data) for item in table.query_all(keys.FORWARDERS)}
    every: list[JsonObject] = []
    for institution in sorted(set(load_registry(table).members) - {CANARY}):
        sign = signs.get(institution)
        age = None if sign is None else round((now - datetime.fromisoformat(sign.at)).total_seconds())
        of_sign = sign.to_item() | {"archive_contract": CONTRACT} if sign is not None else {}
        every.append(
            {"institution": institution, "age_seconds": age, "silent": sign is not None and sign.is_silent(now), **of_sign}
        )
    return every


def counted(table: Table, now: datetime) -> JsonObject:
    """Of all forwarders of members: how many sent signs once and have fallen silent; how much waits in those that have not, and
    since when (s). One Query.
    """
    every = shown(table, now)
    alive = [sign for sign in every if sign["age_seconds"] is not None and not sign["silent"]]
    return {
        "silent": sum(bool(sign["silent"]) for sign in every),
        "alive": len(alive),
        "waiting": sum(sign["waiting"] or 0 for sign in alive),
        "oldest_waiting_seconds": max((sign["oldest_waiting_seconds"] or 0 for sign in alive), default=0),
    }
