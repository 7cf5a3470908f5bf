"""WADO-URI: the one request with everything in its query (PS3.18 chapter 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chalicelib.dicomweb import rendered, representations
from chalicelib.dicomweb.media_types import (
    ANY,
    BLANK,
    Representation,
    Selected,
    negotiate,
    parse_media_type,
    split_outside_quotes,
)
from chalicelib.dicomweb.rendered import Rendering, Viewport, Window
from chalicelib.domain.errors import BadRequest, NotAcceptable
from chalicelib.domain.identifiers import uid

DICOM = representations.DICOM
MAX_FRAME = 1_000_000

# Tables 9.1.2-1, 9.1.2-2, 9.4.1-1 and 9.5.1-1; each may stand once.
PARAMETERS = (
    "requestType",
    "studyUID",
    "seriesUID",
    "objectUID",
    "contentType",
    "charset",
    "anonymize",
    "annotation",
    "imageAnnotation",
    "transferSyntax",
    "frameNumber",
    "imageQuality",
    "rows",
    "columns",
    "region",
    "windowCenter",
    "windowWidth",
    "presentationSeriesUID",
    "presentationUID",
    "owner",
)


@dataclass(frozen=True, slots=True)
class WadoUri:
    """One request: which instance, as what (`content_type`, as in Accept, or None), and how to render it.

    `transfer_syntax`: a UID, `*` for the stored one (which is more than the standard has), or None for the default.
    `presentation`: (series, SOP Instance UID) of a presentation state.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    content_type: str | None
    transfer_syntax: str | None
    rendering: Rendering
    presentation: tuple[str, str] | None = None
    owner: str | None = None


def parse_wado_uri(params: Sequence[tuple[str, str]]) -> WadoUri:
    """The request that a query makes. Raises BadRequest naming the parameter.

    `anonymize` is refused, since the archive does not de-identify: ignoring it would disclose what was to be hidden.
    """
    single = rendered.single_values(params, PARAMETERS)
    if single.get("requestType") != "WADO":
        raise BadRequest("requestType must be WADO.", "requestType")
    for name in ("studyUID", "seriesUID", "objectUID"):
        if name not in single:
            raise BadRequest(f"{name} is missing.", name)
    if "anonymize" in single:
        raise BadRequest("anonymize is not supported: the archive does not de-identify.", "anonymize")
    content_type = _content_type(single.get("contentType"))
    syntax = single.get("transferSyntax")
    if syntax is not None and syntax != ANY:
        syntax = uid(syntax, "transferSyntax")
    request = WadoUri(
        uid(single["studyUID"], "studyUID"),
        uid(single["seriesUID"], "seriesUID"),
        uid(single["objectUID"], "objectUID"),
        content_type,
        syntax,
        _rendering(single),
        _presentation(single),
        single.get("owner") or None,
    )
    _check_together(request)
    return request


def _content_type(text: str | None) -> str | None:
    """application/dicom alone, or rendered media types (9.1.2.2.1), without the parameters of PS3.18 8.7.3.5."""
    if not text or not text.strip():
        return None
    text = BLANK.sub("+", text)  # a plus sign that is not percent-encoded arrives as a blank
    found = [parse_media_type(part) for part in split_outside_quotes(text, ",")]
    if any(media_type is None for media_type in found):
        raise BadRequest("contentType takes media types.", "contentType")
    known = [media_type for media_type in found if media_type is not None]
    if any(media_type.parameter("transfer-syntax") or media_type.parameter("charset") for media_type in known):
        raise BadRequest("contentType takes no transfer-syntax and no charset.", "contentType")
    if len({media_type.name for media_type in known}) > 1 and any(media_type.name == DICOM for media_type in known):
        raise BadRequest("contentType takes application/dicom, or rendered media types.", "contentType")
    return text


def _rendering(single: dict[str, str]) -> Rendering:
    name = "annotation" if "annotation" in single else "imageAnnotation"
    annotations, warnings = rendered.parse_annotation(name, single.get(name))
    frame = single.get("frameNumber")
    return Rendering(
        viewport=_viewport(single),
        window=_window(single),
        quality=rendered.parse_quality("imageQuality", single.get("imageQuality")),
        annotations=annotations,
        frame=None if frame is None else rendered.positive("frameNumber", frame, MAX_FRAME),
        warnings=warnings,
    )


def _viewport(single: dict[str, str]) -> Viewport | None:
    """rows and columns as maxima, either alone too (9.5.2.5), and the region in parts of the image (9.5.1.2.5)."""
    rows, columns = (
        rendered.positive(name, single[name], rendered.MAX_VIEWPORT) if name in single else None for name in ("rows", "columns")
    )
    if "region" not in single:
        return None if rows is None and columns is None else Viewport(columns, rows)
    values = [rendered.decimal("region", value.strip()) for value in single["region"].split(",")]
    if len(values) != 4:
        raise BadRequest("region takes four numbers.", "region")
    left, top, right, bottom = values
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise BadRequest("region takes xmin < xmax and ymin < ymax, all from 0 to 1.", "region")
    return Viewport(columns, rows, left, top, right - left, bottom - top, normalized=True)


def _window(single: dict[str, str]) -> Window | None:
    center, width = single.get("windowCenter"), single.get("windowWidth")
    if center is None and width is None:
        return None
    if center is None or width is None:
        name = "windowCenter" if center is None else "windowWidth"
        raise BadRequest("windowCenter and windowWidth go together.", name)
    return Window(rendered.decimal("windowCenter", center), rendered.window_width("windowWidth", width))


def _presentation(single: dict[str, str]) -> tuple[str, str] | None:
    series, instance = single.get("presentationSeriesUID"), single.get("presentationUID")
    if series is None and instance is None:
        return None
    if series is None or instance is None:
        name = "presentationSeriesUID" if series is None else "presentationUID"
        raise BadRequest("presentationSeriesUID and presentationUID go together.", name)
    return uid(series, "presentationSeriesUID"), uid(instance, "presentationUID")


def _check_together(request: WadoUri) -> None:
    """What may not stand in one request (9.5.1.2.6, 9.5.1.2.7, 8.3.5.1.6)."""
    if request.presentation and (request.rendering.window or request.rendering.frame):
        raise BadRequest("A presentation state goes with no window and no frame.", "presentationUID")
    if request.content_type and request.rendering.window:
        media_type = parse_media_type(request.content_type)
        if media_type is not None and media_type.name == DICOM:
            raise BadRequest("A window goes with rendered media types only.", "windowCenter")


def select(request: WadoUri, accept: str | None, stored: str, offered: Sequence[Representation]) -> Selected:
    """What to answer with (9.3): rendered by default, the file when `application/dicom` is asked for.

    `stored`: the instance's transfer syntax. `offered`: its rendered media types, none for what cannot be rendered.
    Raises NotAcceptable.
    """
    instance = representations.instance(stored)
    file = next(offer for offer in instance if offer.media_type == DICOM and not offer.multipart)
    chosen = negotiate((*offered, file), accept, request.content_type)
    if chosen.offer != file:
        return chosen
    if request.transfer_syntax is None:
        return Selected(file, file.transfer_syntaxes[0])
    if request.transfer_syntax == ANY:
        return Selected(file, file.stored, any_syntax=True)
    if request.transfer_syntax not in file.transfer_syntaxes:
        raise NotAcceptable(f"The instance can be had in {', '.join(file.transfer_syntaxes)}.")
    return Selected(file, request.transfer_syntax)
