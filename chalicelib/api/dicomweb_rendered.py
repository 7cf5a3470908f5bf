"""What is answered as pictures: rendered resources and thumbnails (PS3.18 10.4.1.1.3, 10.4.1.1.4)."""

from __future__ import annotations

from collections.abc import Sequence

from chalice.app import Response

from chalicelib.api.dicomweb_service import RetrieveRequest, Service
from chalicelib.dicomweb import representations, resources
from chalicelib.dicomweb.media_types import Representation
from chalicelib.dicomweb.rendered import Rendering, parse_rendering, parse_thumbnail
from chalicelib.dicomweb.search_results import warning_header
from chalicelib.domain.errors import NotFound
from chalicelib.domain.studies import Instance
from chalicelib.services.retrieval import frames as pixel_frames
from chalicelib.services.retrieval import rendering

MOST_AHEAD = 1400
"""Pixels of the longer side of a picture that a page may have ahead; a larger one is a look."""


def retrieve_rendered(
    service: Service, study: str, series: str | None = None, instance: str | None = None, frames: str | None = None
) -> Response:
    """200, 304 or 307 with an instance or frames of it as a picture, an animation, a text or a document (10.4.1.1.3); for a
    study or a series the picture that stands for it, or in multipart all. 400, 404, 406."""
    this = service.open_study(study)
    found = this.instances(series, instance)
    return _of_all(this, found) if instance is None else _of_one(this, found[0], frames)


def retrieve_thumbnail(
    service: Service, study: str, series: str | None = None, instance: str | None = None, frames: str | None = None
) -> Response:
    """200 or 304 with a small picture of what stands for the resource (10.4.1.1.4); of frames the first. 400, 404, 406."""
    this = service.open_study(study)
    wanted = rendering.thumbnail(parse_thumbnail(this.call.query))
    found = this.instances(series, instance)
    chosen = found[0] if instance is not None else rendering.representative(found)
    if not rendering.is_image(chosen):
        raise NotFound
    frame = resources.parse_frame_list(frames, _count(this, chosen))[0] if frames is not None else None
    return _pictures(this, [(chosen, frame)], wanted, representations.THUMBNAIL)


def _of_one(this: RetrieveRequest, instance: Instance, frames: str | None) -> Response:
    wanted = parse_rendering(this.call.query)
    if frames is None:
        return _pictures(this, [(instance, None)], wanted, rendering.offers(this.archive.objects, this.opened.owner, instance))
    numbers = resources.parse_frame_list(frames, _count(this, instance))
    offers = rendering.offers(this.archive.objects, this.opened.owner, instance, len(numbers))
    return _pictures(this, [(instance, number) for number in numbers], wanted, offers)


def _of_all(this: RetrieveRequest, found: Sequence[Instance]) -> Response:
    wanted = parse_rendering(this.call.query)
    selected = this.service.select(rendering.offers_of_all(this.archive.objects, this.opened.owner, found))
    shown = (
        [instance for instance in found if rendering.is_image(instance)]
        if selected.offer.multipart
        else [rendering.representative(found)]
    )
    return _pictures(this, [(instance, None) for instance in shown], wanted, (selected.offer,))


def _count(this: RetrieveRequest, instance: Instance) -> int:
    return pixel_frames.number_of_frames(this.archive.objects, this.opened.owner, instance)


def _is_ahead(this: RetrieveRequest, wanted: Rendering) -> bool:
    """Whether a page of a reading session has this ready before anybody looks: a preview as a whole, and nothing larger."""
    if this.service.reader is None or this.call.parameter("ahead") is None:
        return False
    return wanted.window is None and wanted.viewport is not None and wanted.viewport.is_at_most(MOST_AHEAD)


def _pictures(
    this: RetrieveRequest, shown: Sequence[tuple[Instance, int | None]], wanted: Rendering, offers: tuple[Representation, ...]
) -> Response:
    selected = this.service.select(offers)
    body = rendering.body(this.archive.objects, this.archive.pixels, this.opened, shown, wanted, selected)
    response = this.answer(body, len(shown), ahead=_is_ahead(this, wanted))
    warning = warning_header(this.service.url, wanted.warnings)
    if warning:
        response.headers["Warning"] = warning
    return response
