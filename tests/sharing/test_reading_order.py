"""One order of images: on the page, in metadata, manifest and ZIP, whatever the instance numbers say."""

from __future__ import annotations

import io
import json
import random
import zipfile
from datetime import UTC, datetime, timedelta

import pydicom
import pytest

from chalicelib.services.retrieval import manifest
from tests.sharing.api import Api
from tests.sharing.images import image
from tests.sharing.test_sloppy_values import replaced
from tests.unit.dicom.building import element
from tests.world import A

STUDY = "1.2.8.1"
MODULE = b"\x28\x00\x02\x00US"


def slice_at(number: str, sop: int, more: bytes) -> bytes:
    content = replaced(image("a1", STUDY, sop), 0x00200013, "IS", str(sop), number.encode())
    at = content.index(b"\x20\x00\x00\x40LT") if b"\x20\x00\x00\x40LT" in content else content.index(MODULE)
    return content[:at] + more + content[at:]


def position(millimetres: str) -> bytes:
    return element(0x00200032, "DS", f"0\\0\\{millimetres}") + element(0x00200037, "DS", "1\\0\\0\\0\\1\\0")


SERIES = {
    "the same number, by position": [("1", position(f"{5 * k - 12},5")) for k in range(7)],
    "no number, by slice location": [("", element(0x00201041, "DS", f"{k * 3}.0 mm")) for k in range(7)],
    "numbers with decimals": [(f"{k + 8}.0", b"") for k in range(7)],
    "numbers against positions": [(str(k), position(str(-k))) for k in range(7)],
    "some without a number come last": [("1", b""), ("2", b""), ("", position("3")), ("", position("4"))],
}


@pytest.mark.parametrize("name", SERIES)
def test_every_door_shows_images_in_one_order(api: Api, name: str) -> None:
    places = list(range(len(SERIES[name])))
    random.Random(name).shuffle(places)
    wanted = [f"{STUDY}.1.{11 + place}" for place in places]
    api.world.send(A, *(slice_at(number, 11 + place, more) for place, (number, more) in zip(places, SERIES[name], strict=True)))
    api.world.settle()
    metadata = api.call(A, "GET", "/dicomweb/studies/{study}/metadata", study=STUDY).json
    assert [result["00080018"]["Value"][0] for result in metadata] == wanted
    listed, cursor = [], None
    while True:
        query = [("limit", "3"), *([("cursor", cursor)] if cursor else [])]
        page = api.call(A, "GET", "/studies/{study}/manifest", query, study=STUDY).json
        listed += [instance["sop_instance_uid"] for instance in page["instances"]]
        cursor = page.get("next")
        if cursor is None:
            break
    assert listed == wanted
    archive = zipfile.ZipFile(io.BytesIO(api.call(
        A, "GET", "/dicomweb/studies/{study}", headers={"Accept": "application/zip"}, study=STUDY).body))  # fmt: skip
    files = sorted(file for file in archive.namelist() if file.startswith("DICOM/"))
    assert [pydicom.dcmread(io.BytesIO(archive.read(file))).SOPInstanceUID for file in files] == wanted
    body = {"study_instance_uids": [STUDY], "practitioner": {"id": "x", "name": "X"}, "purpose": "report"}
    token = api.call(A, "POST", "/links", body=body).json["url"].split("#")[1]
    key = api.call(None, "POST", "/view/session", body={"token": token}).json["key"]
    bearer = {"Authorization": f"Bearer {key}"}
    shown = api.call(None, "GET", "/view/studies/{study}/images", headers=bearer, study=STUDY).json
    assert [instance["sop_instance_uid"] for instance in shown["series"][0]["instances"]] == wanted, json.dumps(shown)[:300]


def test_a_manifest_of_2000_instances_is_in_reading_order_and_its_addresses_live_300_seconds(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert manifest.MOST_ORDERED == 2000
    api.world.send(A, *(image("a1", STUDY, sop) for sop in (1, 2, 10)))
    api.world.settle()

    def listed() -> list[str]:
        answer = api.call(A, "GET", "/studies/{study}/manifest", study=STUDY).json
        lives = datetime.fromisoformat(answer["expires_at"]) - datetime.now(UTC)
        assert timedelta(seconds=290) < lives <= timedelta(seconds=300)
        assert {entry["url"].partition("?")[2] for entry in answer["instances"]} == {"seconds=300"}
        return [entry["sop_instance_uid"].rpartition(".")[2] for entry in answer["instances"]]

    monkeypatch.setattr(manifest, "MOST_ORDERED", 3)
    assert listed() == ["1", "2", "10"]
    monkeypatch.setattr(manifest, "MOST_ORDERED", 2)
    assert listed() == ["1", "10", "2"], "by UID"
