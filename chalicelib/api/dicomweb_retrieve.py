"""What WADO-RS answers: instances, frames, bulk data, metadata (PS3.18 10.4); and WADO-URI (PS3.18 9)."""

from __future__ import annotations

from collections.abc import Sequence

from chalice.app import Response

from chalicelib.api.dicomweb_service import RetrieveRequest, Service
from chalicelib.dicomweb import caching, media_types, representations, resources, wado_uri
from chalicelib.dicomweb.media_types import Representation, Selected
from chalicelib.domain.audit import Kind
from chalicelib.domain.errors import BadRequest, NotFound
from chalicelib.domain.studies import Instance
from chalicelib.services.ingest import at_once
from chalicelib.services.retrieval import bulkdata as bulk_bodies
from chalicelib.services.retrieval import files as file_bodies
from chalicelib.services.retrieval import frames as pixel_frames
from chalicelib.services.retrieval import metadata, rendering
from chalicelib.services.retrieval.bodies import Inline


def retrieve_instances(service: Service, study: str, series: str | None = None, instance: str | None = None) -> Response:
    """200, 304 or 307 with whole instances (10.4.1.1.1), each as it was stored unless another transfer syntax is asked for.

    400, 404, 406, 413.
    """
    this = service.open_study(study)
    found = this.instances(series, instance)
    if instance is not None:
        this.require_picture(found[0])
        offers = representations.instance(found[0].fact.transfer_syntax_uid)
    else:
        offers = representations.instances(frozenset(instance.fact.transfer_syntax_uid for instance in found))
    (octets,) = _octets(found)
    selected = this.service.select(tuple(octets if offer.media_type == octets.media_type else offer for offer in offers))
    if selected.offer.media_type == representations.OCTETS:  # the same as the resource's bulk data (10.4.4)
        return _bulkdata_of(this, found, selected)
    return this.answer(file_bodies.body(this.archive.objects, this.archive.pixels, this.opened, found, selected), len(found))


def retrieve_frames(service: Service, study: str, series: str, instance: str, frames: str) -> Response:
    """200, 304 or 307 with frames (10.4.1.1.6): as they are stored, or decoded where the caller wants plain pixels and they are
    compressed. 400, 404, 406, 413."""
    this, objects = service.open_study(study), service.archive.objects
    (found,) = this.instances(series, instance)
    this.require_picture(found)
    numbers = resources.parse_frame_list(frames, pixel_frames.number_of_frames(objects, this.opened.owner, found))
    stored = file_bodies.stored_frames(objects, this.opened, found)
    selected = this.service.select(representations.frames(stored, single=len(numbers) == 1))
    locations = this.locations(found, (f"frames/{number}" for number in numbers))
    body = file_bodies.frames_body(objects, this.archive.pixels, this.opened, found, numbers, selected, locations)
    return this.answer(body, 1)


def retrieve_bulkdata(service: Service, study: str, series: str, instance: str, bulkdata: str) -> Response:
    """200, 304 or 307 with the value of one attribute, whose address the metadata gave (10.4.1.1.5); compressed Pixel Data as its
    frames, one part each; a document in its own type. 400, 404, 406, 413."""
    this, objects, name = service.open_study(study), service.archive.objects, bulkdata
    (found,) = this.instances(series, instance)
    pixel_data = name.upper() in resources.PIXEL_TAGS
    if pixel_data and pixel_frames.known_pixels(objects, this.opened.owner, found).encapsulated:
        numbers = tuple(range(1, pixel_frames.number_of_frames(objects, this.opened.owner, found) + 1))
        stored = file_bodies.stored_frames(objects, this.opened, found)
        selected = this.service.select(representations.frames(stored, single=len(numbers) == 1))
        locations = this.locations(found, [f"bulkdata/{name.upper()}"] * len(numbers))
        body = file_bodies.frames_body(objects, this.archive.pixels, this.opened, found, numbers, selected, locations)
        return this.answer(body, 1)
    document = rendering.document_type(found) if name == resources.ENCAPSULATED_DOCUMENT else None
    selected = this.service.select(representations.bulkdata(single=True, document=document))
    if selected.offer.media_type == document:
        pieces = pixel_frames.document(objects, this.opened.owner, found)
    else:
        pieces = pixel_frames.bulk_value(objects, this.opened.owner, found, name)
    locations = this.locations(found, [f"bulkdata/{name.upper()}"])
    return this.answer(file_bodies.parts_body(objects, [pieces], selected, locations=locations), 1)


def retrieve_all_bulkdata(service: Service, study: str, series: str | None = None, instance: str | None = None) -> Response:
    """200, 304 or 307 with all bulk data of the instances (10.4.1.1.5), compressed pixels as they are stored or decoded.

    400, 404, 406, 413.
    """
    this = service.open_study(study)
    found = this.instances(series, instance)
    return _bulkdata_of(this, found, service.select(_octets(found)))


def retrieve_pixel_data(service: Service, study: str, series: str | None = None, instance: str | None = None) -> Response:
    """200, 304 or 307 with every frame of the instances, one part each, as they are stored or decoded. 400, 404, 406, 413."""
    this = service.open_study(study)
    found, locate = this.instances(series, instance), this.bulkdata_address
    if not any(instance.fact.pixel_offset for instance in found):
        raise NotFound
    selected = this.service.select(_octets(found))
    body = bulk_bodies.pixels_body(this.archive.objects, this.archive.pixels, this.opened, found, selected, locate)
    return this.answer(body, len(found))


def retrieve_metadata(service: Service, study: str, series: str | None = None, instance: str | None = None) -> Response:
    """200 or 307 with the metadata of instances (10.4.1.1.2), with an entity tag. 304, 400, 404, 406."""
    this = service.open_study(study)
    if series is not None and instance is not None:
        return _instance_metadata(this, series, instance)
    return _series_metadata(this, series)


def retrieve_by_uri(service: Service) -> Response:
    """307 to the instance, or 200 with its picture, by a request with everything in its query. 304, 400, 404, 406."""
    wanted = wado_uri.parse_wado_uri(service.call.query)
    this = service.open_study(wanted.study_instance_uid, wanted.owner)
    objects, pixels = this.archive.objects, this.archive.pixels
    (found,) = this.instances(wanted.series_instance_uid, wanted.sop_instance_uid)
    this.require_picture(found)
    if wanted.presentation is not None:
        raise BadRequest("Presentation states are not applied here.", "presentationUID")
    stored = found.fact.transfer_syntax_uid
    frame = wanted.rendering.frame
    if frame is not None and frame > pixel_frames.number_of_frames(objects, this.opened.owner, found):
        raise BadRequest("The instance has fewer frames.", "frameNumber")
    selected = wado_uri.select(wanted, service.accept, stored, _rendered_by_uri(this, found))
    if selected.offer.media_type != representations.DICOM:
        return this.answer(rendering.body(objects, pixels, this.opened, [(found, frame)], wanted.rendering, selected), 1)
    if selected.any_syntax or selected.transfer_syntax in (None, stored):
        return this.answer(file_bodies.elsewhere(this.opened, found), 1)
    return this.answer(file_bodies.transcoded(objects, pixels, this.opened, found), 1)


def _bulkdata_of(this: RetrieveRequest, found: Sequence[Instance], selected: Selected) -> Response:
    """All bulk data of these instances."""
    locate = this.bulkdata_address
    body = bulk_bodies.bulkdata_body(this.archive.objects, this.archive.pixels, this.opened, found, selected, locate)
    return this.answer(body, len(found))


def _octets(found: Sequence[Instance]) -> tuple[Representation, ...]:
    """What their bulk data can be had as: octets in each transfer syntax that all pixels can be had in."""
    syntaxes = {instance.fact.transfer_syntax_uid for instance in found if instance.fact.pixel_offset}
    offers = representations.frames(next(iter(syntaxes)) if len(syntaxes) == 1 else "", single=False)
    return tuple(offer for offer in offers if offer.media_type == representations.OCTETS) or offers


def _series_metadata(this: RetrieveRequest, series: str | None) -> Response:
    table, objects = this.archive.table, this.archive.objects
    selected = this.service.select(representations.METADATA)
    if this.opened.stale:
        at_once.read_study_again(this.archive.table, this.archive.objects)(this.opened.owner, this.opened.study)
    wanted = metadata.series_of(table, this.opened, series)
    tag = _metadata_tag(this, selected, *(part for series in wanted for part in (series.uid, series.digest)))
    if (unchanged := _unchanged(this, tag, selected)) is not None:
        return unchanged
    text = metadata.texts(table, objects, this.opened, wanted, this.call.now)
    return _metadata(this, selected, metadata.serve(text, this.opened, this.study_url, this.call.now), tag)


def _instance_metadata(this: RetrieveRequest, series: str, instance: str) -> Response:
    selected = this.service.select(representations.METADATA)
    (found,) = this.instances(series, instance)
    tag = _metadata_tag(this, selected, found.fact.sha256)
    if (unchanged := _unchanged(this, tag, selected)) is not None:
        return unchanged
    (text,) = metadata.lines(this.archive.objects, this.opened.owner, [found])
    return _metadata(this, selected, metadata.serve(text, this.opened, this.study_url, this.call.now), tag)


def _rendered_by_uri(this: RetrieveRequest, instance: Instance) -> tuple[media_types.Representation, ...]:
    """The pictures that WADO-URI has of an instance: JPEG unless another is asked for (9.1.2.2.1). None for what has none."""
    try:
        offers = rendering.offers(this.archive.objects, this.opened.owner, instance, 1 if rendering.is_image(instance) else None)
        return tuple(offer for offer in offers if not offer.multipart)
    except NotFound:
        return ()


def _metadata_tag(this: RetrieveRequest, selected: Selected, *content: str) -> str:
    opened = this.opened
    shown = metadata.numbers_text(opened)
    issuer = str(opened.accession_issuer)
    return caching.entity_tag(selected.offer.media_type, this.study_url, opened.owner, shown, issuer, *content)


def _unchanged(this: RetrieveRequest, tag: str, selected: Selected) -> Response | None:
    if not caching.not_modified(this.call.request.headers.get("if-none-match"), tag):
        return None
    this.call.record(this.opened.entry(Kind.ACCESS, 0))
    return Response(b"", {**caching.cached(tag), "Content-Type": selected.offer.media_type}, 304)


def _metadata(this: RetrieveRequest, selected: Selected, array: bytes, tag: str) -> Response:
    body = file_bodies.metadata_body(this.archive.objects, array, selected, this.call.accepts_gzip)
    response = this.answer(body, 0)
    if isinstance(body, Inline):
        response.headers.update(caching.cached(tag))
    return response
