"""The DICOMweb service as it stands before one caller: the archive's for who signs, a part of it for a reading session."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from chalice.app import Response

from chalicelib.api.bodies import send
from chalicelib.api.call import Call
from chalicelib.bootstrap import Archive
from chalicelib.dicomweb import caching, media_types, resources
from chalicelib.dicomweb.media_types import Selected
from chalicelib.domain.audit import Kind
from chalicelib.domain.studies import Instance
from chalicelib.services.retrieval import bodies, rendering
from chalicelib.services.retrieval.bodies import Body, Inline, VisibleStudy
from chalicelib.services.viewer import timeline
from chalicelib.services.viewer.sessions import Reader


@dataclass(frozen=True)
class Service:
    """A request to the service at `url` (without a slash at the end), of a reading session where there is a `reader`."""

    call: Call
    url: str
    reader: Reader | None = None

    @property
    def archive(self) -> Archive:
        """What the request works with."""
        return self.call.archive

    @property
    def accept(self) -> str | None:
        """The Accept header."""
        found: str | None = self.call.request.headers.get("accept")
        return found

    def select(self, offers: tuple[media_types.Representation, ...]) -> Selected:
        """The representation that the caller wants. Raises NotAcceptable, BadRequest."""
        return media_types.negotiate(offers, self.accept, self.call.parameter("accept"))

    def open_study(self, study: str, owner: str | None = None) -> RetrieveRequest:
        """A study, within what the session opens and allowed on facts at this moment. Raises NotFound.

        `owner`: whose is meant, where several have one of this UID; else the parameter says it.
        """
        owner = owner or self.call.parameter("owner")
        if self.reader is not None:
            owner = timeline.require_in_scope(self.archive.table, self.reader, study, owner)
        return RetrieveRequest(self, bodies.open_study(self.archive.table, self.call.caller, study, owner, self.call.now))


@dataclass(frozen=True)
class RetrieveRequest:
    """What is to be retrieved from a service: of which study."""

    service: Service
    opened: VisibleStudy

    @property
    def call(self) -> Call:
        """The request."""
        return self.service.call

    @property
    def archive(self) -> Archive:
        """What the request works with."""
        return self.service.archive

    @property
    def study_url(self) -> str:
        """The address of the study, without `?owner=`."""
        return resources.entity_url(self.service.url, self.opened.study)

    def require_picture(self, instance: Instance) -> None:
        """Raises NotAcceptable where a person would be shown this image, and every picture of it would be wrong."""
        if self.service.reader is not None and rendering.is_image(instance):
            rendering.require_picture(self.archive.objects, self.opened.owner, instance)

    def located(self, instance: Instance, path: str) -> str | None:
        """The address of a resource below an instance, for the header of a part.

        None in a reading session: its address opens what is below it, and a body may lie in the bucket for a day.
        """
        if self.service.reader is not None:
            return None
        of, owner = (self.opened.study, instance.series_instance_uid, instance.sop_instance_uid), self.opened.shown_owner
        return resources.below_instance(self.service.url, *of, path, owner)

    def bulkdata_address(self, instance: Instance, name: str) -> str | None:
        """The address of a value, as the metadata of its instance gives it."""
        return self.located(instance, f"bulkdata/{name}")

    def locations(self, instance: Instance, paths: Iterable[str]) -> list[str]:
        """Those addresses; none in a reading session."""
        return [address for path in paths if (address := self.located(instance, path)) is not None]

    def instances(self, series: str | None, instance: str | None) -> list[Instance]:
        """The instances of the resource, in the order in which they are read. Raises NotFound when there is none."""
        if series is not None and instance is not None:
            return [bodies.instance(self.archive.table, self.opened, series, instance)]
        return bodies.instances(self.archive.table, self.opened, series)

    def answer(self, body: Body, count: int, *, ahead: bool = False) -> Response:
        """200 with a body that fits, or 307 to where it lies; recorded as what was sent, or what an address was given of, or what
        a page has `ahead` of anybody's look.

        A body that fits has an entity tag, and is not sent to who has it (304): what a hospital's door keeps on its disk costs a
        question and no line the second time. Not in a reading session, whose films are kept nowhere.
        """
        tag = None
        if isinstance(body, Inline) and self.service.reader is None:
            tag = caching.entity_tag(body.content_type, hashlib.sha256(body.content).hexdigest())
            if caching.not_modified(self.call.request.headers.get("if-none-match"), tag):
                self.call.record(self.opened.entry(Kind.ACCESS, count))
                return Response(b"", {"ETag": tag, "Content-Type": body.content_type, **caching.NO_STORE}, 304)
        kind = Kind.SENT if isinstance(body, Inline) else Kind.ACCESS
        self.call.record(self.opened.entry(Kind.AHEAD if ahead else kind, count))
        response = send(self.call, body)
        if tag is not None:
            response.headers["ETag"] = tag
        return response
