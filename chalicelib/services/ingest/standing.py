"""What became of an object at this moment: its verdict, which is never changed, and what happened since.

An indexed instance may have been corrected since (`superseded`). What came under UIDs that its owner has withdrawn is rejected as
long as the withdrawal lasts, so that nothing is `indexed` that nobody can see, and no automatic resend brings back what was taken
back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from chalicelib.domain import keys, studies
from chalicelib.domain.ports import Item, Key, Table
from chalicelib.domain.study_views import StudyView

K = TypeVar("K")
Verdict = Mapping[str, Any]
WITHDRAWN: Verdict = {"state": "rejected", "reason": "withdrawn"}
_CONCERNED = ("indexed", "conflict")


def now_standing(table: Table, institution: str, verdicts: Mapping[K, tuple[str, Verdict]]) -> dict[K, Verdict]:
    """The verdicts on objects of the institution, each (SHA-256, data), with what holds of them now in place of what held first.

    One read for the studies, and more only for those of which something was corrected or withdrawn.
    """
    concerned = {key: one for key, one in verdicts.items() if one[1]["state"] in _CONCERNED and one[1].get("study")}
    concerned_studies = {str(data["study"]) for _, data in concerned.values()}
    views = table.batch_get(keys.study_view(study, institution) for study in concerned_studies)
    touched = {
        key: one for key, one in concerned.items() if _touched(views.get(keys.study_view(str(one[1]["study"]), institution)))
    }
    found = table.batch_get(key for _, data in touched.values() for key in _keys(institution, data))
    return {key: _now(institution, sha, data, found) if key in touched else data for key, (sha, data) in verdicts.items()}


def _touched(view: Item | None) -> bool:
    """Whether something of a study was ever corrected or withdrawn, as far as its view knows; without one, it may be."""
    known = StudyView.from_item(view.data) if view is not None else None
    return known is None or known.withdrawn > 0 or known.gone or known.corrected > 0


def _keys(institution: str, data: Verdict) -> tuple[Key, Key, Key]:
    study, sop = str(data["study"]), str(data["sop"])
    one = keys.study_facts(institution, study), keys.withdrawn(sop)
    return keys.withdrawn_study(institution, study), one, keys.sop_now(institution, sop)


def _now(institution: str, sha256: str, data: Verdict, found: Mapping[Key, Item]) -> Verdict:
    whole, one, current = _keys(institution, data)
    marker = found.get(one)
    itself = marker is not None and marker.data.get("note") == data["sop"]  # a rejection note did what it was sent for
    if studies.is_withdrawal(found.get(whole)) or (studies.is_withdrawal(marker) and not itself):
        return {**data, **WITHDRAWN}
    pointer = found.get(current)
    if data["state"] == "indexed" and pointer is not None and pointer.data["sha256"] != sha256:
        return {**data, "state": "superseded"}
    return data
