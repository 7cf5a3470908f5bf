"""Whether what is indexed can be searched: the projector brings the views up to date soon after the facts, not at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import TypeVar

from chalicelib.domain import keys
from chalicelib.domain.ports import Item, Table
from chalicelib.domain.study_views import StudyView
from chalicelib.domain.verdicts import UploadState, Verdict

_EVERY = 0.05

K = TypeVar("K")


def awaited(table: Table, institution: str, verdicts: Mapping[K, Verdict]) -> set[K]:
    """Those of the institution's indexed objects whose study's view does not know them yet. One read for all.

    A view knows of an instance when it was made of facts that are as new, and counts as many as are asked for here. Where
    something was taken back it counts less, and settled once.
    """
    indexed = {key: verdict for key, verdict in verdicts.items() if verdict.state is UploadState.INDEXED}
    instances = {(verdict.study_instance_uid, verdict.sop_instance_uid) for verdict in indexed.values()}  # of two digests
    asked = Counter(study for study, _ in instances)
    views = table.batch_get(keys.study_view(study, institution) for study in asked)
    return {
        key
        for key, verdict in indexed.items()
        if not _knows(
            views.get(keys.study_view(verdict.study_instance_uid, institution)), verdict.at, asked[verdict.study_instance_uid]
        )
    }


def wait_for(table: Table, institution: str, verdicts: Mapping[K, Verdict], seconds: float) -> None:
    """Wait until all of them can be searched, for so many seconds at the most."""
    until = time.monotonic() + seconds
    while awaited(table, institution, verdicts) and time.monotonic() < until:
        time.sleep(_EVERY)


def _knows(view: Item | None, at: str, count: int) -> bool:
    known = StudyView.from_item(view.data) if view is not None else None
    if known is None or known.unsettled:
        return False
    return known.withdrawn > 0 or (known.changed_at >= at and known.instances >= count)
