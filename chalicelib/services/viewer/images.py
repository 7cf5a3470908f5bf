"""The images of one study as the page shows them: series and instances in their order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from chalicelib.dicomweb.representations import VIDEO
from chalicelib.domain import audit, identifiers, keys, places, procedures, studies, tags
from chalicelib.domain.audit import Kind, Recorder
from chalicelib.domain.dicom_json import first_value
from chalicelib.domain.errors import BadRequest, NotFound
from chalicelib.domain.fields import fields
from chalicelib.domain.instance_versions import is_stale
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.ports import Table
from chalicelib.domain.procedures import Vocabulary
from chalicelib.domain.reading_order import by_series, number
from chalicelib.domain.studies import Instance
from chalicelib.domain.study_views import StudyView
from chalicelib.services import access
from chalicelib.services.finding.procedure_names import vocabularies
from chalicelib.services.viewer.sessions import Reader
from chalicelib.services.viewer.timeline import remember, require_in_scope

MAX_INSTANCES = 5000
_OF_A_SERIES = ("kernel", "thickness", "view")
"""What is not said of each image again."""
MAX_SHOWN = 4
"""Studies that a page can have on the screen at once."""


def visible_owner(table: Table, reader: Reader, study: str, owner: str | None, now: datetime, record: Recorder) -> str:
    """Whose study a reader means: see `visible`."""
    return visible(table, reader, study, owner, now, record).owner


def visible(
    table: Table, reader: Reader, study: str, owner: str | None, now: datetime, record: Recorder, kind: Kind = Kind.ACCESS
) -> StudyView:
    """The view of the study that a reader means, in the link's scope and allowed on facts at this moment. Raises NotFound.

    Recorded as an access, or as the `kind` that is named.
    """
    meant = require_in_scope(table, reader, study, owner)
    view, decided = access.find_study(table, reader.viewer, study, meant, now)
    record(audit.of_study(kind, audit.disclosed(view, decided.decision)))
    return view


def on_screen(table: Table, reader: Reader, shown: object, now: datetime, record: Recorder) -> set[tuple[str, str]]:
    """Record which studies a reader has on the screen, and answer (UID, owner) of them; what may not be seen any more is passed
    over. Raises BadRequest."""
    seen: set[tuple[str, str]] = set()
    if not isinstance(shown, list) or len(shown) > MAX_SHOWN:
        raise BadRequest(f"shown must be a list of at most {MAX_SHOWN} studies.", "shown")
    for entry in shown:
        said = fields(entry, of="shown")
        uid, owner = said.get("study_instance_uid"), said.get("owner")
        if not isinstance(uid, str) or not (owner is None or isinstance(owner, str)):
            raise BadRequest('Each one of shown must be {"study_instance_uid", "owner"?}.', "shown")
        identifiers.uid(uid, "shown")
        try:
            meant = require_in_scope(table, reader, uid, owner)
            view, decided = access.find_study(table, reader.viewer, uid, meant, now)
        except NotFound:
            continue
        record(audit.of_study(Kind.SHOWN, audit.disclosed(view, decided.decision)))
        seen.add((uid, view.owner))
    return seen


def images(
    table: Table,
    reader: Reader,
    study: str,
    owner: str | None,
    now: datetime,
    record: Recorder,
    freshen: Callable[[str, str], object] | None = None,
    *,
    read: bool = True,
) -> JsonObject:
    """Series and instances of a study in the order in which one reads them, at most `MAX_INSTANCES`. Raises NotFound.

    `freshen` reads the instances of an owner's study again that an earlier reader read. `read`: somebody looks at them; else the
    page has them ahead, which is recorded as that.
    """
    view = visible(table, reader, study, owner, now, record, Kind.ACCESS if read else Kind.AHEAD)
    meant, within = view.owner, studies.bounds(reader.viewer, view)
    if read:
        remember(table, reader, meant, study, None, now)
    if freshen is not None and is_stale(view.reader):
        freshen(meant, study)
    found: list[Instance] = []
    count = 0
    partition = keys.study_facts(meant, study)
    gone = studies.withdrawn(table.query_all(partition, keys.MARKS))
    for instance in studies.instances(table.query_all(partition, keys.INSTANCES), gone, within):
        count += 1
        if count > MAX_INSTANCES:
            break
        found.append(instance)
    return {
        "study_instance_uid": study,
        "owner": meant,
        "places": places.stretch(_shown_places(view, vocabularies(table, {meant}).get(meant))),
        "series": [_series(members) for members in by_series(found)],
        "key_images": _key_images(found),
        "complete_list": count <= MAX_INSTANCES,
    }


def _key_images(found: list[Instance]) -> list[JsonObject]:
    """What documents of the study single out among its images: key object selections and presentation states, in their order."""
    here = {instance.sop_instance_uid for instance in found}
    said = []
    for document in found:
        named = document.fact.key_images
        if named is None:
            continue
        images = [{"sop_instance_uid": sop, "frames": list(frames)} for sop, frames in named.images.items() if sop in here]
        if images:
            of = {"series_instance_uid": document.series_instance_uid, "sop_instance_uid": document.sop_instance_uid}
            said.append({"kind": named.kind, "title": named.title, "description": named.description, **of, "images": images})
    return said


def _shown_places(view: StudyView, own: Vocabulary | None) -> frozenset[str]:
    """What of the body a study shows, as far as its codes and names say."""
    description = first_value(view.attributes, tags.StudyDescription)
    shown = procedures.understand(
        description, "", view.modalities, codes=view.codes, series=view.series_names, body_parts=view.body_parts, own=own
    )
    return shown.regions


def _series(members: list[Instance]) -> JsonObject:
    first = members[0].attributes
    return {
        "series_instance_uid": members[0].series_instance_uid,
        "number": number(members[0], tags.SeriesNumber) or 0,
        "modality": first_value(first, tags.Modality),
        "description": first_value(first, tags.SeriesDescription),
        "body_part": first_value(first, tags.BodyPartExamined),
        "kernel": members[0].fact.geometry.kernel,
        "thickness": members[0].fact.geometry.thickness,
        "instances": [_instance(instance) for instance in members],
    }


def _instance(instance: Instance) -> JsonObject:
    """One image, with what it is put beside another one by; of places and values only what is known."""
    geometry = instance.fact.geometry
    facts = instance.fact.pixels
    return {
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": instance.fact.sop_class_uid,
        "number": number(instance) or 0,
        "frames": instance.fact.number_of_frames,
        "rows": instance.fact.rows,
        "columns": instance.fact.columns,
        "view": first_value(instance.attributes, tags.ViewPosition) or geometry.view,
        "laterality": first_value(instance.attributes, tags.ImageLaterality) or first_value(instance.attributes, tags.Laterality),
        "image_type": instance.attributes.get(tags.ImageType, {}).get("Value", []),
        **{name: value for name, value in geometry.to_item().items() if name not in _OF_A_SERIES},
        **({"fault": facts.picture_fault} if facts is not None and facts.picture_fault else {}),
        **_kind(instance),
    }


def _kind(instance: Instance) -> JsonObject:
    """What says that an instance is no image that one looks at: it has no pixels, or is a video, one stream of all its frames."""
    if not instance.fact.pixel_offset:
        return {"kind": "none"}
    return {"kind": "video"} if instance.fact.transfer_syntax_uid in VIDEO else {}
