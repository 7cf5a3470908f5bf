"""What is indexed in one transaction: what the instances of a study in it add up to, left for the projector.

`P#<batch>` stands beside the facts of the batch, written with them in one transaction, until the projector has added it to the
study's tally and removed it, in one transaction too. So each instance is counted once, however often events come, and what is
there is not read again for what arrives. The facts name their batch: of those that do not, which an earlier release wrote,
nobody left the totals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from chalicelib.domain import instance_versions, keys
from chalicelib.domain.ports import Item
from chalicelib.domain.studies import Instance
from chalicelib.domain.study_totals import total


def marked(facts: Sequence[Item]) -> list[Item]:
    """The facts of a transaction, each with the name of its batch: those of the same study have the same."""
    text = "\n".join(sorted(f"{fact.pk} {fact.sk} {fact.data['sha256']}" for fact in facts))
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return [replace(fact, data=fact.data | {"batch": name}) for fact in facts]


def totals_of(facts: Sequence[Item]) -> list[Item]:
    """The items that say what these facts, as `marked` answers them, add up to, one for each study."""
    by_study: dict[tuple[str, str], list[Instance]] = {}
    for fact in facts:
        place = instance_versions.place(fact.sk)
        assert place is not None
        by_study.setdefault((fact.pk, str(fact.data["batch"])), []).append(Instance.from_item(place.series, place.sop, fact.data))
    return [Item(pk, keys.batch(name), total(found).to_item()) for (pk, name), found in by_study.items()]


def is_left(record: Mapping[str, Any]) -> bool:
    """Whether a stream record of a study's partition tells of something that the item of a batch does not tell as well."""
    change = record["dynamodb"]
    sk = str(change["Keys"]["sk"]["S"])
    if sk.startswith(keys.BATCHES):
        return record.get("eventName") != "REMOVE"
    place = instance_versions.place(sk)
    image = change.get("NewImage", {}).get("data", {}).get("S", "")
    return place is None or place.number > 0 or '"batch":"' not in image
