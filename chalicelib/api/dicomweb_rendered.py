"""Handlers of rendered resources, thumbnails, and of pixels as bulk data (PS3.18 10.4.1.1.3 to 10.4.1.1.7)."""

from __future__ import annotations

from collections.abc import Sequence

from chalice.app import Response

from chalicelib import bootstrap
from chalicelib.api.call import Call
from chalicelib.api.dicomweb_retrieve import INSTANCE, SERIES, STUDY, Asked, answer_body, asked, bulkdata_of
from chalicelib.api.registry import handler
from chalicelib.dicomweb import representations, resources
from chalicelib.dicomweb.media_types import Offer
from chalicelib.dicomweb.rendered import Rendering, parse_rendering, parse_thumbnail
from chalicelib.dicomweb.search_results import warning_header
from chalicelib.domain import identifiers
from chalicelib.domain.errors import NotFound
from chalicelib.domain.studies import Instance
from chalicelib.services.retrieval import bodies, rendering
from chalicelib.services.retrieval import bulkdata as retrieve_values
from chalicelib.services.retrieval import frames as retrieve_frames


@handler("GET", STUDY + "/rendered", head=True)
def retrieve_rendered_study(call: Call, study: str) -> Response:
    """200 or 307 with the picture that stands for a study, or in multipart with all. 400, 404, 406."""
    return rendered_of_all(asked(call, study))


@handler("GET", SERIES + "/rendered", head=True)
def retrieve_rendered_series(call: Call, study: str, series: str) -> Response:
    """200 or 307 with the picture that stands for a series, or in multipart with all. 400, 404, 406."""
    return rendered_of_all(asked(call, study), identifiers.uid(series, "series"))


@handler("GET", INSTANCE + "/rendered", head=True)
def retrieve_rendered_instance(call: Call, study: str, series: str, instance: str) -> Response:
    """200 or 307 with the instance as a picture, an animation, a text or a document. 400, 404, 406."""
    return rendered(asked(call, study), identifiers.uid(series, "series"), identifiers.uid(instance, "instance"))


@handler("GET", INSTANCE + "/frames/{frames}/rendered", head=True)
def retrieve_rendered_frames(call: Call, study: str, series: str, instance: str, frames: str) -> Response:
    """200 or 307 with pictures of frames. 400, 404, 406."""
    return rendered(asked(call, study), identifiers.uid(series, "series"), identifiers.uid(instance, "instance"), frames)


@handler("GET", STUDY + "/thumbnail", head=True)
def retrieve_study_thumbnail(call: Call, study: str) -> Response:
    """200 with a small picture that stands for a study. 400, 404, 406."""
    return thumbnail(asked(call, study))


@handler("GET", SERIES + "/thumbnail", head=True)
def retrieve_series_thumbnail(call: Call, study: str, series: str) -> Response:
    """200 with a small picture that stands for a series. 400, 404, 406."""
    return thumbnail(asked(call, study), identifiers.uid(series, "series"))


@handler("GET", INSTANCE + "/thumbnail", head=True)
def retrieve_instance_thumbnail(call: Call, study: str, series: str, instance: str) -> Response:
    """200 with a small picture of an instance. 400, 404, 406."""
    return thumbnail(asked(call, study), identifiers.uid(series, "series"), identifiers.uid(instance, "instance"))


@handler("GET", INSTANCE + "/frames/{frames}/thumbnail", head=True)
def retrieve_frame_thumbnail(call: Call, study: str, series: str, instance: str, frames: str) -> Response:
    """200 with a small picture of a frame, the first of those named. 400, 404, 406."""
    return thumbnail(asked(call, study), identifiers.uid(series, "series"), identifiers.uid(instance, "instance"), frames)


@handler("GET", STUDY + "/bulkdata", head=True)
def retrieve_study_bulkdata(call: Call, study: str) -> Response:
    """200 or 307 with all bulk data of a study's instances (PS3.18 10.4.1.1.5). 400, 404, 406, 413."""
    return bulkdata(asked(call, study))


@handler("GET", SERIES + "/bulkdata", head=True)
def retrieve_series_bulkdata(call: Call, study: str, series: str) -> Response:
    """200 or 307 with all bulk data of a series' instances. 400, 404, 406, 413."""
    return bulkdata(asked(call, study), identifiers.uid(series, "series"))


@handler("GET", INSTANCE + "/bulkdata", head=True)
def retrieve_instance_bulkdata(call: Call, study: str, series: str, instance: str) -> Response:
    """200 or 307 with all bulk data of an instance. 400, 404, 406, 413."""
    return bulkdata(asked(call, study), identifiers.uid(series, "series"), identifiers.uid(instance, "instance"))


@handler("GET", STUDY + "/pixeldata", head=True)
def retrieve_study_pixel_data(call: Call, study: str) -> Response:
    """200 or 307 with the pixels of a study's instances. 400, 404, 406, 413."""
    return pixel_data(asked(call, study))


@handler("GET", SERIES + "/pixeldata", head=True)
def retrieve_series_pixel_data(call: Call, study: str, series: str) -> Response:
    """200 or 307 with the pixels of a series' instances. 400, 404, 406, 413."""
    return pixel_data(asked(call, study), identifiers.uid(series, "series"))


@handler("GET", INSTANCE + "/pixeldata", head=True)
def retrieve_instance_pixel_data(call: Call, study: str, series: str, instance: str) -> Response:
    """200 or 307 with the pixels of an instance. 400, 404, 406, 413."""
    return pixel_data(asked(call, study), identifiers.uid(series, "series"), identifiers.uid(instance, "instance"))


def rendered(this: Asked, series: str, sop: str, frames: str | None = None) -> Response:
    """An instance, or frames of it, as pictures; a report as text, a document as it is."""
    one = bodies.instance(bootstrap.table(), this.opened, series, sop)
    wanted = parse_rendering(this.call.query)
    if frames is None:
        return _pictures(this, [(one, None)], wanted, rendering.offers(bootstrap.objects(), this.opened.owner, one))
    numbers = resources.parse_frame_list(frames, _count(this, one))
    offers = rendering.offers(bootstrap.objects(), this.opened.owner, one, len(numbers))
    return _pictures(this, [(one, number) for number in numbers], wanted, offers)


def rendered_of_all(this: Asked, series: str | None = None) -> Response:
    """The picture that stands for a series or a study, or all pictures in multipart."""
    found = bodies.instances(bootstrap.table(), this.opened, series)
    wanted = parse_rendering(this.call.query)
    selected = this.select(rendering.offers_of_all(bootstrap.objects(), this.opened.owner, found))
    shown = [one for one in found if rendering.is_image(one)] if selected.offer.multipart else [rendering.representative(found)]
    return _pictures(this, [(one, None) for one in shown], wanted, (selected.offer,))


def thumbnail(this: Asked, series: str | None = None, sop: str | None = None, frames: str | None = None) -> Response:
    """A small picture of what stands for the resource. Raises NotFound for what has no picture."""
    wanted = rendering.thumbnail(parse_thumbnail(this.call.query))
    one = _standing_for(this, series, sop)
    if not rendering.is_image(one):
        raise NotFound
    frame = resources.parse_frame_list(frames, _count(this, one))[0] if frames is not None else None
    return _pictures(this, [(one, frame)], wanted, representations.THUMBNAIL)


def pixel_data(this: Asked, series: str | None = None, sop: str | None = None) -> Response:
    """Every frame of the resource's instances, one part each, as they are stored or decoded."""
    found, locate = _instances(this, series, sop), this.bulkdata_address
    if not any(one.data.get("pixel_offset") for one in found):
        raise NotFound
    selected = this.select(_octets(found))
    body = retrieve_values.pixels_body(bootstrap.objects(), bootstrap.pixels(), this.opened, found, selected, locate)
    return answer_body(this, body, len(found))


def bulkdata(this: Asked, series: str | None = None, sop: str | None = None) -> Response:
    """All bulk data of the resource's instances, compressed pixels as they are stored or decoded."""
    found = _instances(this, series, sop)
    return bulkdata_of(this, found, this.select(_octets(found)))


def _octets(found: Sequence[Instance]) -> tuple[Offer, ...]:
    """What their bulk data can be had as: octets in each transfer syntax that all pixels can be had in."""
    syntaxes = {str(one.data["syntax"]) for one in found if one.data.get("pixel_offset")}
    offers = representations.frames(next(iter(syntaxes)) if len(syntaxes) == 1 else "", single=False)
    return tuple(offer for offer in offers if offer.media_type == representations.OCTETS) or offers


def _count(this: Asked, one: Instance) -> int:
    return retrieve_frames.number_of_frames(bootstrap.objects(), this.opened.owner, one)


def _instances(this: Asked, series: str | None, sop: str | None) -> Sequence[Instance]:
    if series is not None and sop is not None:
        return [bodies.instance(bootstrap.table(), this.opened, series, sop)]
    return bodies.instances(bootstrap.table(), this.opened, series)


def _standing_for(this: Asked, series: str | None, sop: str | None) -> Instance:
    table = bootstrap.table()
    if series is not None and sop is not None:
        return bodies.instance(table, this.opened, series, sop)
    return rendering.representative(bodies.instances(table, this.opened, series))


def _pictures(
    this: Asked, shown: Sequence[tuple[Instance, int | None]], wanted: Rendering, offers: tuple[Offer, ...]
) -> Response:
    selected = this.select(offers)
    body = rendering.body(bootstrap.objects(), bootstrap.pixels(), this.opened, shown, wanted, selected)
    response = answer_body(this, body, len(shown))
    warning = warning_header(this.service, wanted.warnings)
    if warning:
        response.headers["Warning"] = warning
    return response
