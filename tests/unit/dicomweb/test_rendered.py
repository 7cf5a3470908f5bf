"""Parameters of rendered resources, thumbnails and WADO-URI, and the geometry that they mean (PS3.18 8.3.5, 9)."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.dicomweb import representations
from chalicelib.dicomweb.media_types import Representation
from chalicelib.dicomweb.rendered import (
    MAX_VIEWPORT,
    Placement,
    Rendering,
    Viewport,
    Window,
    parse_rendering,
    parse_thumbnail,
    place,
)
from chalicelib.dicomweb.wado_uri import WadoUri, parse_wado_uri, select
from chalicelib.domain.errors import BadRequest, NotAcceptable

ELE, JLS, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.50"
WADO = "requestType=WADO&studyUID=1.2&seriesUID=1.3&objectUID=1.4"
IMAGES = representations.RENDERED["single-frame"]


def rendering(text: str) -> Rendering:
    return parse_rendering(parse_qsl(text, keep_blank_values=True))


def wado(text: str) -> WadoUri:
    return parse_wado_uri(parse_qsl(text, keep_blank_values=True))


def test_no_parameter_means_the_image_as_it_is() -> None:
    assert rendering("") == Rendering()
    assert rendering("foo=1&accept=image/png&charset=utf-8") == Rendering()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("512,256", Viewport(512, 256)),
        ("512,512,,,512,512", Viewport(512, 512, 0, 0, 512, 512)),
        ("64,64,10.5,20,-30,-40", Viewport(64, 64, 10.5, 20, 30, 40, True, True)),
        ("64,64,10", Viewport(64, 64, 10)),
        ("64,64,-10,,,", Viewport(64, 64, 10)),
    ],
)
def test_a_viewport_has_a_size_and_perhaps_a_region(written: str, expected: Viewport) -> None:
    assert rendering(f"viewport={written}").viewport == expected


def test_windows_qualities_annotations_and_profiles_are_read() -> None:
    found = rendering("window=40,400.5,linear-exact&quality=80&annotation=patient,technique&iccprofile=srgb")
    assert found.window == Window(40, 400.5, "linear-exact")
    assert (found.quality, found.icc_profile) == (80, "srgb")
    assert found.annotations == {"patient", "technique"}
    assert rendering("window=-600,1500,linear").window == Window(-600, 1500)


def test_an_annotation_that_is_not_supported_is_ignored_with_a_warning() -> None:
    found = rendering("annotation=patient,logo")
    assert found.annotations == {"patient"}
    assert found.warnings == ("The following annotation values are not supported: logo",)


@pytest.mark.parametrize(
    ("written", "parameter"),
    [
        ("viewport=", "viewport"),
        ("viewport=512", "viewport"),
        ("viewport=0,512", "viewport"),
        ("viewport=512,-1", "viewport"),
        ("viewport=1.5,1", "viewport"),
        ("viewport=8193,1", "viewport"),
        ("viewport=1,1,a", "viewport"),
        ("viewport=1,1,0,0,0,5", "viewport"),
        ("viewport=1,1,0,0,1,1,1", "viewport"),
        ("viewport=1,1,nan", "viewport"),
        ("window=40,400", "window"),
        ("window=40,400,LINEAR", "window"),
        ("window=40,0,sigmoid", "window"),
        ("window=40,0.5,linear", "window"),
        ("window=,400,linear", "window"),
        ("window=inf,400,linear", "window"),
        ("quality=0", "quality"),
        ("quality=101", "quality"),
        ("quality=80.5", "quality"),
        ("quality=", "quality"),
        ("annotation=", "annotation"),
        ("annotation=patient,,", "annotation"),
        ("annotation=<script>", "annotation"),
        ("iccprofile=cmyk", "iccprofile"),
        ("quality=80&quality=90", "quality"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_name_of_the_parameter(written: str, parameter: str) -> None:
    with pytest.raises(BadRequest) as caught:
        rendering(written)
    assert caught.value.parameter == parameter


def test_a_thumbnail_takes_its_size_only() -> None:
    assert parse_thumbnail([("viewport", "100,100"), ("window", "nonsense")]) == Rendering(Viewport(100, 100))
    assert parse_thumbnail([]) == Rendering()
    with pytest.raises(BadRequest):
        parse_thumbnail([("viewport", "100,100,0,0,5,5")])


@pytest.mark.parametrize(
    ("viewport", "expected"),
    [
        (None, Placement(0, 0, 400, 200, 400, 200)),
        (Viewport(100, 100), Placement(0, 0, 400, 200, 100, 50)),
        (Viewport(800, 800), Placement(0, 0, 400, 200, 800, 400)),
        (Viewport(100, None), Placement(0, 0, 400, 200, 100, 50)),
        (Viewport(None, 100), Placement(0, 0, 400, 200, 200, 100)),
        (Viewport(100, 100, 200, 100), Placement(200, 100, 400, 200, 100, 50)),
        (Viewport(50, 50, 0, 0, 100, 100, True), Placement(0, 0, 100, 100, 50, 50, True)),
        (Viewport(50, 50, 350, 0, 100, 50), Placement(350, 0, 400, 50, 50, 50)),
        (Viewport(10, 10, 0.5, 0.5, 0.2, 0.2), Placement(0, 0, 1, 1, 10, 10)),
        (Viewport(None, None, 0.1, 0.1, 0.2, 0.4, normalized=True), Placement(40, 20, 120, 100, 80, 80)),
        (Viewport(1, 1), Placement(0, 0, 400, 200, 1, 1)),
    ],
)
def test_the_region_is_cut_out_and_scaled_to_fit(viewport: Viewport | None, expected: Placement) -> None:
    assert place(viewport, 400, 200) == expected


def test_a_region_outside_the_image_is_refused() -> None:
    with pytest.raises(BadRequest):
        place(Viewport(10, 10, 400, 0), 400, 200)
    with pytest.raises(BadRequest):
        place(Viewport(None, MAX_VIEWPORT), 400, 200)


SIZES = st.integers(1, 3000)


@given(
    st.builds(
        Viewport,
        st.integers(1, MAX_VIEWPORT),
        st.integers(1, MAX_VIEWPORT),
        st.floats(0, 2000),
        st.floats(0, 2000),
        st.one_of(st.none(), st.floats(0.1, 2000)),
        st.one_of(st.none(), st.floats(0.1, 2000)),
    ),
    SIZES,
    SIZES,
)
def test_what_is_placed_lies_in_the_source_and_in_the_viewport(viewport: Viewport, columns: int, rows: int) -> None:
    try:
        found = place(viewport, columns, rows)
    except BadRequest:
        return
    assert 0 <= found.left < found.right <= columns
    assert 0 <= found.top < found.bottom <= rows
    assert 1 <= found.width <= (viewport.width or 0)
    assert 1 <= found.height <= (viewport.height or 0)
    assert found.width == viewport.width or found.height == viewport.height


def test_what_ohif_asks_by_uri_gets_the_stored_file() -> None:
    request = wado(f"{WADO}&contentType=application/dicom&transferSyntax=*")
    assert (request.study_instance_uid, request.series_instance_uid, request.sop_instance_uid) == ("1.2", "1.3", "1.4")
    selected = select(request, "*/*", JLS, IMAGES)
    assert (selected.offer.media_type, selected.transfer_syntax, selected.any_syntax) == ("application/dicom", JLS, True)


@pytest.mark.parametrize(
    ("written", "accept", "expected", "syntax"),
    [
        ("", "*/*", "image/jpeg", None),
        ("", None, "image/jpeg", None),
        ("", "image/png", "image/png", None),
        ("&contentType=image%2Fjp2;level=1,image%2Fjpeg;q=0.5", "*/*", "image/jpeg", None),
        ("&contentType=image/png", "*/*", "image/png", None),
        ("&contentType=image/svg+xml,image/png", "*/*", "image/png", None),
        ("&contentType=image/tiff", "*/*", "image/jpeg", None),
        ("&contentType=application/dicom", "*/*", "application/dicom", ELE),
        ("", "application/dicom", "application/dicom", ELE),
        (f"&contentType=application/dicom&transferSyntax={JLS}", "*/*", "application/dicom", JLS),
        (f"&contentType=application/dicom&transferSyntax={ELE}", "*/*", "application/dicom", ELE),
    ],
)
def test_by_uri_an_image_is_rendered_unless_the_file_is_asked_for(
    written: str, accept: str | None, expected: str, syntax: str | None
) -> None:
    selected = select(wado(WADO + written), accept, JLS, IMAGES)
    assert (selected.offer.media_type, selected.transfer_syntax) == (expected, syntax)


def test_by_uri_what_cannot_be_rendered_is_the_file() -> None:
    assert select(wado(WADO), "*/*", ELE, ()).offer.media_type == "application/dicom"


def test_by_uri_a_syntax_that_is_not_there_is_not_acceptable() -> None:
    with pytest.raises(NotAcceptable):
        select(wado(f"{WADO}&contentType=application/dicom&transferSyntax={JPEG}"), "*/*", JLS, IMAGES)


def test_by_uri_all_parameters_of_rendering_are_read() -> None:
    found = wado(
        f"{WADO}&frameNumber=3&rows=300&columns=400&region=0.3,0.4,0.5,0.5&windowCenter=-1000&windowWidth=2500"
        "&imageQuality=70&annotation=patient&charset=UTF-8&owner=maugeri"
    )
    assert found.rendering.frame == 3
    assert found.rendering.viewport == Viewport(400, 300, 0.3, 0.4, 0.5 - 0.3, 0.5 - 0.4, normalized=True)
    assert found.rendering.window == Window(-1000, 2500)
    assert (found.rendering.quality, found.rendering.annotations) == (70, frozenset({"patient"}))
    assert found.owner == "maugeri"
    assert wado(f"{WADO}&rows=10").rendering.viewport == Viewport(None, 10)
    assert wado(f"{WADO}&presentationSeriesUID=1.8&presentationUID=1.9").presentation == ("1.8", "1.9")


@pytest.mark.parametrize(
    ("written", "parameter"),
    [
        ("", "requestType"),
        (WADO.replace("WADO", "wado"), "requestType"),
        (WADO.replace("&studyUID=1.2", ""), "studyUID"),
        (WADO.replace("&seriesUID=1.3", ""), "seriesUID"),
        (WADO.replace("&objectUID=1.4", ""), "objectUID"),
        (WADO.replace("objectUID=1.4", "objectUID=../1"), "objectUID"),
        (WADO + "&objectUID=1.4", "objectUID"),
        (WADO + "&anonymize=yes", "anonymize"),
        (WADO + "&transferSyntax=abc", "transferSyntax"),
        (WADO + "&contentType=dicom", "contentType"),
        (WADO + "&contentType=application/dicom;transfer-syntax=1.2", "contentType"),
        (WADO + "&contentType=application/dicom;charset=utf-8", "contentType"),
        (WADO + "&contentType=application/dicom,image/png", "contentType"),
        (WADO + "&contentType=application/dicom&windowCenter=1&windowWidth=2", "windowCenter"),
        (WADO + "&frameNumber=0", "frameNumber"),
        (WADO + "&frameNumber=1,2", "frameNumber"),
        (WADO + "&rows=0", "rows"),
        (WADO + "&columns=x", "columns"),
        (WADO + "&region=0,0,1", "region"),
        (WADO + "&region=0.5,0,0.5,1", "region"),
        (WADO + "&region=0,0,1,1.1", "region"),
        (WADO + "&windowCenter=1", "windowWidth"),
        (WADO + "&windowWidth=1", "windowCenter"),
        (WADO + "&presentationUID=1.9", "presentationSeriesUID"),
        (WADO + "&presentationSeriesUID=1.8&presentationUID=1.9&frameNumber=1", "presentationUID"),
        (WADO + "&presentationSeriesUID=1.8&presentationUID=1.9&windowCenter=1&windowWidth=2", "presentationUID"),
        (WADO + "&imageQuality=0", "imageQuality"),
    ],
)
def test_by_uri_what_cannot_be_read_is_refused(written: str, parameter: str) -> None:
    with pytest.raises(BadRequest) as caught:
        wado(written)
    assert caught.value.parameter == parameter


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["viewport", "window", "quality", "annotation", "iccprofile"]),
            st.text(alphabet="0123456789,.-eaé ", max_size=20),
        ),
        max_size=3,
    )
)
def test_any_parameters_are_read_or_refused(params: list[tuple[str, str]]) -> None:
    for read in (parse_rendering, parse_thumbnail):
        try:
            read(params)
        except BadRequest:
            continue


def test_offers_are_what_a_category_renders() -> None:
    assert representations.RENDERED["text"][0] == Representation("text/html")
