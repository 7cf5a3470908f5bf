"""The fact of one instance that counts now, read by its UIDs."""

from __future__ import annotations

from chalicelib.domain import keys, studies
from chalicelib.domain.instance_versions import FactPlace
from chalicelib.domain.ports import Item, Table


def fact_of(table: Table, owner: str, study: str, series: str, sop: str) -> Item | None:
    """The fact of an instance as it is now; None where there is none, or its owner withdrew it.

    One read, and two of one that has versions.
    """
    partition = keys.study_facts(owner, study)
    first, withdrawn, current = (partition, FactPlace(series, sop).sk), (partition, keys.withdrawn(sop)), keys.sop_now(owner, sop)
    found = table.batch_get([first, withdrawn, current])
    if first not in found or studies.is_withdrawal(found.get(withdrawn)):
        return None
    if current not in found:
        return found[first]
    return table.get(partition, FactPlace(series, sop, int(str(found[current].data["number"]))).sk)
