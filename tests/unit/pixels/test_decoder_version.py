"""What is kept of pictures is named by the decoder's version: a change of what comes out needs another one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from pydicom.uid import ExplicitVRBigEndian

from chalicelib.domain.pixel_facts import DECODER
from chalicelib.services.retrieval import decoding
from pixels import render, report, transcode
from tests.unit.dicom.building import real_files
from tests.unit.pixels.generated import Spec, file_of, opened

LOSSLESS = (
    "CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "J2K_pixelrep_mismatch.dcm",
    "OBXXXX1A.dcm", "OBXXXX1A_expb.dcm", "SC_rgb_jpeg_gdcm.dcm", "liver_1frame.dcm",
    "mlut_18.dcm", "parametric_map_float.dcm", "vlut_04.dcm",
)  # fmt: skip
"""Images in which no rounding takes part that another processor does otherwise."""

SPECS = (
    Spec(),
    Spec(photometric="MONOCHROME1", signed=True, above=True, high_bit=15, stored=12, slope=2, intercept=-1024),
    Spec(window=(600, 900, "LINEAR")),
    Spec(window=(600, 900, "LINEAR_EXACT"), signed=True),
    Spec(photometric="RGB", allocated=8, stored=8, high_bit=7, planar=1, syntax=ExplicitVRBigEndian),
    Spec(photometric="RGB", allocated=16, stored=10, high_bit=9),
    Spec(photometric="RGB", allocated=8, stored=8, high_bit=7, signed=True),
    Spec(allocated=32, stored=30, high_bit=29),
)

MADE = {
    "2": "86c5a593a43b1d63446e0234da9a1023f13f56c77ac2bcaa9bd82462998284de",
    "3": "86c5a593a43b1d63446e0234da9a1023f13f56c77ac2bcaa9bd82462998284de",
    "4": "f0b1dd226e24b7b47c9554f813107daf419cc0c9778c82136b0c1bbbe446f331",
    "5": "81f26573f75e32891f6c16254bbe83ecb7d9a4fa9c681e300484abe93af736e1",
}
"""Decoder version → digest of what it makes of these images. A new version gets a line of its own here."""


def outcomes() -> Iterator[bytes]:
    every = {path.rpartition("/")[2]: found for path, found in sorted(real_files().items())}
    for name in LOSSLESS:
        if name in every:
            read = opened(every[name].read_bytes())
            yield name.encode() + render.drawn(read, 0).tobytes() + transcode.frame(read, 0)
    reading = report.head_of(every["reportsi.dcm"])
    yield report.to_html(reading) + report.to_text(reading)
    for spec in SPECS:
        read = opened(file_of(spec))
        yield render.drawn(read, 0).tobytes() + transcode.frame(read, 0)


def test_pictures_come_out_as_this_version_of_the_decoder_makes_them() -> None:
    digest = hashlib.sha256(b"".join(hashlib.sha256(outcome).digest() for outcome in outcomes())).hexdigest()
    assert MADE.get(DECODER) == digest, "Pictures come out otherwise: give `DECODER` another version, and it a line here."


def test_a_kept_picture_is_named_by_the_version() -> None:
    job = {"op": "render", "source": "instances/a/b"}
    text = json.dumps([DECODER, job], sort_keys=True)
    assert decoding.target(job) == f"cache/rendered/{hashlib.sha256(text.encode()).hexdigest()}"
