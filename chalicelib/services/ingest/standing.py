"""What became of an object at this moment: its verdict, which is never changed, and what happened since.

An indexed instance may have been corrected since (`superseded`). What came under UIDs that its owner has withdrawn is rejected as
long as the withdrawal lasts, so that nothing is `indexed` that nobody can see, and no automatic resend brings back what was taken
back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from chalicelib.domain import keys, studies
from chalicelib.domain.ports import Item, Key, Table
from chalicelib.domain.study_views import StudyView
from chalicelib.domain.verdicts import UploadState, Verdict

K = TypeVar("K")
WITHDRAWN = "withdrawn"
"""The reason of what is rejected as long as its owner takes it back."""
_CONCERNED = (UploadState.INDEXED, UploadState.CONFLICT)


def now_standing(table: Table, institution: str, verdicts: Mapping[K, tuple[str, Verdict]]) -> dict[K, Verdict]:
    """The verdicts on objects of the institution, each (SHA-256, verdict), with what holds of them now.

    One read for the studies, and more only for those of which something was corrected or withdrawn.
    """
    concerned = {
        key: verdict for key, (_, verdict) in verdicts.items() if verdict.state in _CONCERNED and verdict.study_instance_uid
    }
    concerned_studies = {verdict.study_instance_uid for verdict in concerned.values()}
    views = table.batch_get(keys.study_view(study, institution) for study in concerned_studies)
    touched = {
        key: verdict
        for key, verdict in concerned.items()
        if _touched(views.get(keys.study_view(verdict.study_instance_uid, institution)))
    }
    found = table.batch_get(key for verdict in touched.values() for key in _keys(institution, verdict))
    return {
        key: _now(institution, sha, verdict, found) if key in touched else verdict for key, (sha, verdict) in verdicts.items()
    }


def _touched(view: Item | None) -> bool:
    """Whether something of a study was ever corrected or withdrawn, as far as its view knows; without one, it may be."""
    known = StudyView.from_item(view.data) if view is not None else None
    return known is None or known.withdrawn > 0 or known.gone or known.corrected > 0


def _keys(institution: str, verdict: Verdict) -> tuple[Key, Key, Key]:
    study, sop = verdict.study_instance_uid, verdict.sop_instance_uid
    itself = keys.study_facts(institution, study), keys.withdrawn(sop)
    return keys.withdrawn_study(institution, study), itself, keys.sop_now(institution, sop)


def _now(institution: str, sha256: str, verdict: Verdict, found: Mapping[Key, Item]) -> Verdict:
    whole, mark, current = _keys(institution, verdict)
    marker = found.get(mark)
    itself = marker is not None and marker.data.get("note") == verdict.sop_instance_uid  # a note did what it was sent for
    if studies.is_withdrawal(found.get(whole)) or (studies.is_withdrawal(marker) and not itself):
        return replace(verdict, state=UploadState.REJECTED, reason=WITHDRAWN)
    pointer = found.get(current)
    if verdict.state is UploadState.INDEXED and pointer is not None and pointer.data["sha256"] != sha256:
        return replace(verdict, state=UploadState.SUPERSEDED)
    return verdict
