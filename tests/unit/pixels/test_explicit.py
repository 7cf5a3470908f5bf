"""Instances written anew in Explicit VR Little Endian, against what pydicom reads of the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from chalicelib.domain.rejections import Rejected
from pixels import transcode
from pixels.errors import Undecodable
from tests.unit.dicom.building import BIG, IMPLICIT, element, file_meta, implicit, part10, real_files

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
NATIVE = {IMPLICIT, BIG, "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"}
FILES = {name: path for name, path in real_files().items() if path.stat().st_size < 3_000_000}


def anew(path: Path, folder: Path) -> pydicom.Dataset:
    target = folder / "anew.dcm"
    transcode.to_explicit_little_endian(path, target)
    found = pydicom.dcmread(target)
    assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    return found


def plain(dataset: pydicom.Dataset) -> dict[str, Any]:
    """What is compared: values, whatever their VR is called where the dictionary has two, or the file none."""
    found = dataset.to_json_dict(bulk_data_threshold=1 << 40, suppress_invalid_tags=True)
    kept = {tag: attribute for tag, attribute in found.items() if not tag.endswith("0000") and tag < "FFFC"}

    def values(attribute: Any) -> Any:
        items = attribute.get("Value", attribute.get("InlineBinary"))
        if attribute["vr"] == "SQ":
            return [{tag: values(inner) for tag, inner in item.items() if not tag.endswith("0000")} for item in items or []]
        return items

    return {tag: values(attribute) for tag, attribute in kept.items()}


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_native_file_has_the_same_elements(name: str, tmp_path: Path) -> None:
    try:
        written = anew(FILES[name], tmp_path)
    except (Rejected, Undecodable):
        pytest.skip("not stored, or not decoded")
    before, found = pydicom.dcmread(FILES[name], force=True), plain(written)
    syntax, wanted = str(before.file_meta.get("TransferSyntaxUID", "")) or IMPLICIT, plain(before)
    if syntax not in NATIVE:
        assert found.keys() >= wanted.keys() - {"7FE00001", "7FE00002", "00280006"}
        return
    differing = {
        tag: (wanted.get(tag), found.get(tag)) for tag in wanted.keys() | found.keys() if wanted.get(tag) != found.get(tag)
    }
    swapped = {tag for tag in differing if syntax == BIG and tag.startswith(("7FE0", "0028", "6000", "5400"))}
    assert {tag: str(pair)[:200] for tag, pair in differing.items() if tag not in swapped} == {}


PAIRS = ((0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2"), (0x00080018, "UI", "1.2.3.4.5"), (0x00100020, "LO", "P1"),
         (0x0020000D, "UI", "1.2.3"), (0x0020000E, "UI", "1.2.3.4"), (0x00280002, "US", b"\1\0"),
         (0x00280004, "CS", "MONOCHROME2"), (0x00280010, "US", b"\4\0"), (0x00280011, "US", b"\x08\0"),
         (0x00280100, "US", b"\x10\0"), (0x00280101, "US", b"\x10\0"), (0x00280102, "US", b"\x0f\0"),
         (0x00280103, "US", b"\0\0"))  # fmt: skip
PIXELS = bytes(range(64))


def file(tmp_path: Path, *extra: tuple[int, bytes], behind: bytes = b"") -> Path:
    body = [(tag, value if isinstance(value, bytes) else value.encode()) for tag, _, value in PAIRS] + list(extra)
    data = b"".join(implicit(tag, value) for tag, value in sorted(body))
    path = tmp_path / "before.dcm"
    path.write_bytes(part10(data + implicit(0x7FE00010, PIXELS) + behind, meta=file_meta(IMPLICIT)))
    return path


@pytest.mark.parametrize(
    "extra",
    [
        ((0x00190010, b"GEMS_ACQU_01"), (0x00191002, b"1 ")),
        ((0x00280106, b"\1\0\2"),),
        ((0x00189087, bytes(7)),),
        ((0x00185100, b"HFS"), (0x00104000, b"x" * 70_000)),
        ((0x00081030, b"y" * 70_000),),
        ((0x00281201, bytes(66_000)),),
        ((0x00091001, b"without a creator"),),
        ((0x00200013, b"1.0"), (0x00281050, b"1800,5"), (0x00080020, b"2026-01-10")),
    ],
    ids=["a private number of two bytes", "US of 3 bytes", "FD of 7 bytes", "a long text", "LO of 70 kB", "a palette of 66 kB",
         "a private element of nobody", "sloppy values"],
)  # fmt: skip
def test_an_odd_value_withholds_no_image(extra: tuple[tuple[int, bytes], ...], tmp_path: Path) -> None:
    found = anew(file(tmp_path, *extra), tmp_path)
    assert found.PixelData == PIXELS
    for tag, value in extra:
        raw = found.get_item(tag)
        assert raw is not None
        stored = raw.value if isinstance(raw.value, bytes) else str(raw.value).encode()
        assert stored.rstrip(b" \0") == value.rstrip(b" \0")


def test_private_elements_behind_the_pixels_stay(tmp_path: Path) -> None:
    behind = implicit(0x7FE10010, b"ACME") + implicit(0x7FE11001, b"after") + implicit(0xFFFCFFFC, bytes(20))
    found = anew(file(tmp_path, behind=behind), tmp_path)
    assert found[0x7FE11001].value in (b"after\0", b"after ")


def test_big_endian_words_are_turned_and_bytes_are_not(tmp_path: Path) -> None:
    body = b"".join(
        element(tag, vr, value if isinstance(value, str) else value[::-1], order=">") for tag, vr, value in PAIRS
    )  # fmt: skip
    path = tmp_path / "big.dcm"
    path.write_bytes(part10(body + element(0x7FE00010, "OW", PIXELS, order=">"), meta=file_meta(BIG)))
    turned = b"".join(PIXELS[at : at + 2][::-1] for at in range(0, 64, 2))
    found = anew(path, tmp_path)
    assert (found.PixelData, found.Rows, found.BitsAllocated) == (turned, 4, 16)
