"""Handlers of WADO-RS: instances, frames, bulk data, metadata (PS3.18 10.4), and of WADO-URI (PS3.18 9).

Each is a function of what was asked (`Asked`), so that a reading session can answer with the same within its own limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chalice.app import Response

from chalicelib import bootstrap
from chalicelib.api.bodies import send
from chalicelib.api.call import Call
from chalicelib.api.registry import handler
from chalicelib.dicomweb import caching, media_types, representations, resources, wado_uri
from chalicelib.dicomweb.media_types import Selected
from chalicelib.domain import identifiers
from chalicelib.domain.audit import Kind
from chalicelib.domain.errors import BadRequest, NotFound
from chalicelib.domain.studies import Instance
from chalicelib.services.retrieval import bodies, metadata, rendering
from chalicelib.services.retrieval import bulkdata as retrieve_values
from chalicelib.services.retrieval import files as retrieve_files
from chalicelib.services.retrieval import frames as retrieve_frames
from chalicelib.services.retrieval.bodies import Body, Inline, Opened

STUDY = "/dicomweb/studies/{study}"
SERIES = STUDY + "/series/{series}"
INSTANCE = SERIES + "/instances/{instance}"


@dataclass(frozen=True)
class Asked:
    """What is to be retrieved: of which study, and below which address of a DICOMweb service (without a slash at the end)."""

    call: Call
    service: str
    opened: Opened
    secret: bool = False
    """Whether the address of the service must not be kept anywhere, since it opens what is below it."""
    shown: bool = False
    """Whether it is for a viewer that draws what it gets."""

    @property
    def accept(self) -> str | None:
        """The Accept header."""
        found: str | None = self.call.request.headers.get("accept")
        return found

    def require_picture(self, one: Instance) -> None:
        """Raises NotAcceptable where a person would be shown this image, and every picture of it would be wrong."""
        if self.shown and rendering.is_image(one):
            rendering.require_picture(bootstrap.objects(), self.opened.owner, one)

    def select(self, offers: tuple[media_types.Offer, ...]) -> Selected:
        """The representation that the caller wants. Raises NotAcceptable, BadRequest."""
        return media_types.negotiate(offers, self.accept, self.call.parameter("accept"))

    @property
    def study_url(self) -> str:
        """The address of the study, without `?owner=`."""
        return resources.study_url(self.service, self.opened.study)

    def located(self, one: Instance, path: str) -> str | None:
        """The address of a resource below an instance, for the header of a part."""
        if self.secret:
            return None
        of, owner = (self.opened.study, one.series_instance_uid, one.sop_instance_uid), self.opened.shown_owner
        return resources.below_instance(self.service, *of, path, owner)

    def bulkdata_address(self, one: Instance, name: str) -> str | None:
        """The address of a value, as the metadata of its instance gives it."""
        return self.located(one, f"bulkdata/{name}")

    def locations(self, one: Instance, paths: Iterable[str]) -> list[str]:
        """Those addresses; none for a service whose address is kept nowhere."""
        return [address for path in paths if (address := self.located(one, path)) is not None]


def asked(call: Call, study: str) -> Asked:
    """What a signed request asks for. Raises BadRequest, NotFound."""
    uid = identifiers.uid(study, "study")
    opened = bodies.open_study(bootstrap.table(), call.caller, uid, call.parameter("owner"), call.now)
    return Asked(call, f"{call.base_url}/dicomweb", opened)


@handler("GET", STUDY, head=True)
def retrieve_study(call: Call, study: str) -> Response:
    """200 or 307 with all instances of a study (PS3.18 10.4.1.1.1). 400, 404, 406, 413."""
    return files(asked(call, study))


@handler("GET", SERIES, head=True)
def retrieve_series(call: Call, study: str, series: str) -> Response:
    """200 or 307 with all instances of a series. 400, 404, 406, 413."""
    return files(asked(call, study), identifiers.uid(series, "series"))


@handler("GET", INSTANCE, head=True)
def retrieve_instance(call: Call, study: str, series: str, instance: str) -> Response:
    """200 or 307 with one instance. 400, 404, 406."""
    return files(asked(call, study), identifiers.uid(series, "series"), identifiers.uid(instance, "instance"))


@handler("GET", INSTANCE + "/frames/{frames}", head=True)
def retrieve_frames_of_instance(call: Call, study: str, series: str, instance: str, frames: str) -> Response:
    """200 or 307 with frames, as they are stored or decoded (PS3.18 10.4.1.1.6). 400, 404, 406, 413."""
    return frame_list(asked(call, study), identifiers.uid(series, "series"), identifiers.uid(instance, "instance"), frames)


@handler("GET", INSTANCE + "/bulkdata/{bulkdata}", head=True)
def retrieve_bulkdata(call: Call, study: str, series: str, instance: str, bulkdata: str) -> Response:
    """200 or 307 with the value of one attribute, whose address the metadata gave (PS3.18 10.4.1.1.5). 400, 404, 406, 413."""
    return bulk(asked(call, study), identifiers.uid(series, "series"), identifiers.uid(instance, "instance"), bulkdata)


@handler("GET", STUDY + "/metadata", head=True)
def retrieve_study_metadata(call: Call, study: str) -> Response:
    """200 or 307 with the metadata of a study's instances (PS3.18 10.4.1.1.2). 304, 400, 404, 406."""
    return series_metadata(asked(call, study))


@handler("GET", SERIES + "/metadata", head=True)
def retrieve_series_metadata(call: Call, study: str, series: str) -> Response:
    """200 or 307 with the metadata of a series' instances. 304, 400, 404, 406."""
    return series_metadata(asked(call, study), identifiers.uid(series, "series"))


@handler("GET", INSTANCE + "/metadata", head=True)
def retrieve_instance_metadata(call: Call, study: str, series: str, instance: str) -> Response:
    """200 with the metadata of one instance. 304, 400, 404, 406."""
    return instance_metadata(asked(call, study), identifiers.uid(series, "series"), identifiers.uid(instance, "instance"))


@handler("GET", "/dicomweb/wado", head=True)
def retrieve_by_uri(call: Call) -> Response:
    """307 to the instance, or 200 with its picture (PS3.18 9). 400, 404, 406."""
    wanted = wado_uri.parse_wado_uri(call.query)
    opened = bodies.open_study(bootstrap.table(), call.caller, wanted.study_instance_uid, wanted.owner, call.now)
    return by_uri(Asked(call, f"{call.base_url}/dicomweb", opened), wanted)


def files(this: Asked, series: str | None = None, sop: str | None = None) -> Response:
    """Whole instances, each as it was stored unless another transfer syntax is asked for."""
    table, objects = bootstrap.table(), bootstrap.objects()
    if series is not None and sop is not None:
        found = [bodies.instance(table, this.opened, series, sop)]
        this.require_picture(found[0])
        offers = representations.instance(str(found[0].data["syntax"]))
    else:
        found = bodies.instances(table, this.opened, series)
        offers = representations.instances(frozenset(str(one.data["syntax"]) for one in found))
    selected = this.select(offers)
    if selected.offer.media_type == representations.OCTETS:  # the same as the resource's bulk data (10.4.4)
        return bulkdata_of(this, found, selected)
    return answer_body(this, retrieve_files.body(objects, bootstrap.pixels(), this.opened, found, selected), len(found))


def frame_list(this: Asked, series: str, sop: str, text: str) -> Response:
    """Frames: as they are stored, or decoded where the caller wants plain pixels and they are compressed."""
    table, objects = bootstrap.table(), bootstrap.objects()
    one = bodies.instance(table, this.opened, series, sop)
    this.require_picture(one)
    numbers = resources.parse_frame_list(text, retrieve_frames.number_of_frames(objects, this.opened.owner, one))
    stored = retrieve_files.stored_frames(objects, this.opened, one)
    selected = this.select(representations.frames(stored, single=len(numbers) == 1))
    locations = this.locations(one, (f"frames/{number}" for number in numbers))
    body = retrieve_files.frames_body(objects, bootstrap.pixels(), this.opened, one, numbers, selected, locations)
    return answer_body(this, body, 1)


def bulkdata_of(this: Asked, found: Sequence[Instance], selected: Selected) -> Response:
    """All bulk data of these instances."""
    locate = this.bulkdata_address
    body = retrieve_values.bulkdata_body(bootstrap.objects(), bootstrap.pixels(), this.opened, found, selected, locate)
    return answer_body(this, body, len(found))


def bulk(this: Asked, series: str, sop: str, name: str) -> Response:
    """The value of one attribute; compressed Pixel Data as its frames, one part each; a document in its own type."""
    table, objects = bootstrap.table(), bootstrap.objects()
    one = bodies.instance(table, this.opened, series, sop)
    pixel_data = name.upper() in resources.PIXEL_TAGS
    if pixel_data and retrieve_frames.known_pixels(objects, this.opened.owner, one).encapsulated:
        numbers = tuple(range(1, retrieve_frames.number_of_frames(objects, this.opened.owner, one) + 1))
        stored = retrieve_files.stored_frames(objects, this.opened, one)
        selected = this.select(representations.frames(stored, single=len(numbers) == 1))
        locations = this.locations(one, [f"bulkdata/{name.upper()}"] * len(numbers))
        body = retrieve_files.frames_body(objects, bootstrap.pixels(), this.opened, one, numbers, selected, locations)
        return answer_body(this, body, 1)
    document = rendering.document_type(one) if name == resources.ENCAPSULATED_DOCUMENT else None
    selected = this.select(representations.bulkdata(single=True, document=document))
    if selected.offer.media_type == document:
        pieces = retrieve_frames.document(objects, this.opened.owner, one)
    else:
        pieces = retrieve_frames.bulk_value(objects, this.opened.owner, one, name)
    locations = this.locations(one, [f"bulkdata/{name.upper()}"])
    return answer_body(this, retrieve_files.parts_body(objects, [pieces], selected, locations=locations), 1)


def series_metadata(this: Asked, series: str | None = None) -> Response:
    """Metadata of a series, or of all series, with an entity tag."""
    table, objects = bootstrap.table(), bootstrap.objects()
    selected = this.select(representations.METADATA)
    if this.opened.stale:
        bootstrap.read_study_again(this.opened.owner, this.opened.study)
    wanted = metadata.series_of(table, this.opened, series)
    tag = _metadata_tag(this, selected, *(part for one in wanted for part in (one.uid, one.digest)))
    if (unchanged := _unchanged(this, tag, selected)) is not None:
        return unchanged
    text = metadata.texts(table, objects, this.opened, wanted, this.call.now)
    return _metadata(this, selected, metadata.serve(text, this.opened, this.study_url, this.call.now), tag)


def instance_metadata(this: Asked, series: str, sop: str) -> Response:
    """Metadata of one instance, with an entity tag."""
    table, objects = bootstrap.table(), bootstrap.objects()
    selected = this.select(representations.METADATA)
    one = bodies.instance(table, this.opened, series, sop)
    tag = _metadata_tag(this, selected, str(one.data["sha256"]))
    if (unchanged := _unchanged(this, tag, selected)) is not None:
        return unchanged
    (text,) = metadata.lines(objects, this.opened.owner, [one])
    return _metadata(this, selected, metadata.serve(text, this.opened, this.study_url, this.call.now), tag)


def by_uri(this: Asked, wanted: wado_uri.WadoUri) -> Response:
    """One instance by the request with everything in its query: its file by an address of its own, or its picture."""
    objects, pixels = bootstrap.objects(), bootstrap.pixels()
    one = bodies.instance(bootstrap.table(), this.opened, wanted.series_instance_uid, wanted.sop_instance_uid)
    this.require_picture(one)
    if wanted.presentation is not None:
        raise BadRequest("Presentation states are not applied here.", "presentationUID")
    stored = str(one.data["syntax"])
    frame = wanted.rendering.frame
    if frame is not None and frame > retrieve_frames.number_of_frames(objects, this.opened.owner, one):
        raise BadRequest("The instance has fewer frames.", "frameNumber")
    selected = wado_uri.select(wanted, this.accept, stored, _rendered_by_uri(this, one))
    if selected.offer.media_type != representations.DICOM:
        return answer_body(this, rendering.body(objects, pixels, this.opened, [(one, frame)], wanted.rendering, selected), 1)
    if selected.any_syntax or selected.transfer_syntax in (None, stored):
        return answer_body(this, retrieve_files.elsewhere(this.opened, one), 1)
    return answer_body(this, retrieve_files.transcoded(objects, pixels, this.opened, one), 1)


def _rendered_by_uri(this: Asked, one: Instance) -> tuple[media_types.Offer, ...]:
    """The pictures that WADO-URI has of an instance: JPEG unless another is asked for (9.1.2.2.1). None for what has none."""
    try:
        offers = rendering.offers(bootstrap.objects(), this.opened.owner, one, 1 if rendering.is_image(one) else None)
        return tuple(offer for offer in offers if not offer.multipart)
    except NotFound:
        return ()


def _metadata_tag(this: Asked, selected: Selected, *content: str) -> str:
    opened = this.opened
    shown = metadata.numbers_text(opened)
    issuer = str(opened.accession_issuer)
    return caching.entity_tag(selected.offer.media_type, this.study_url, opened.owner, shown, issuer, *content)


def _unchanged(this: Asked, tag: str, selected: Selected) -> Response | None:
    if not caching.not_modified(this.call.request.headers.get("if-none-match"), tag):
        return None
    this.call.record(this.opened.entry(Kind.ACCESS, 0))
    return Response(b"", {**caching.cached(tag), "Content-Type": selected.offer.media_type}, 304)


def _metadata(this: Asked, selected: Selected, array: bytes, tag: str) -> Response:
    body = retrieve_files.metadata_body(bootstrap.objects(), array, selected, this.call.accepts_gzip)
    response = answer_body(this, body, 0)
    if isinstance(body, Inline):
        response.headers.update(caching.cached(tag))
    return response


def answer_body(this: Asked, body: Body, count: int) -> Response:
    """200 with a body that fits, or 307 to where it lies; recorded as what was sent, or what an address was given of."""
    this.call.record(this.opened.entry(Kind.SENT if isinstance(body, Inline) else Kind.ACCESS, count))
    return send(this.call, body)
