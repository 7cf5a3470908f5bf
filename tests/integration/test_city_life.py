"""A city as it is lived in: hostile files, hospitals that come and go, other addresses, a restart."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import requests

from tests.harness import Client, RunningCity, SignedBy, running_city, wait_until
from tests.integration.hospital import new_uid, problem, send, visible
from tests.unit.dicom import building
from tests.world import image


def hostile() -> dict[str, list[bytes]]:
    """Files that must be refused, by the reason."""
    identity, part10, element = building.identity(), building.part10, building.element
    deep = b""
    for _ in range(250):
        deep = element(0x0040A730, "SQ", b"", building.UNDEFINED) + building.item(deep, building.UNDEFINED)
        deep += building.ITEM_END + building.SEQUENCE_END
    flat = b""
    for _ in range(300):
        flat = element(0x0040A730, "SQ", building.item(flat))
    bomb = part10(identity + element(0x00420011, "OB", bytes(100 * 1024**2)), building.DEFLATED)
    return {
        "too-deep": [part10(identity + deep), part10(identity + flat)],
        "deflate-too-large": [bomb],
        "truncated": [part10(identity + element(0x7FE00010, "OW", bytes(10), 1000)), image(sop=new_uid())[:-30]],
        "ambiguous-identifier": [
            part10(identity + building.identity(patient="P2")),
            part10(building.identity(study=f"{new_uid()}\\1.2")),
        ],
        "invalid-uid": [part10(building.identity(study="../../etc/x")), part10(building.identity(sop="1." + "2" * 64))],
        "meta-mismatch": [part10(building.identity(sop=new_uid()), meta=building.file_meta(sop=new_uid()))],
        "executable-preamble": [part10(identity, preamble=b"MZ\x90\x00"), part10(identity, preamble=b"\x7fELF\x02")],
        "not-dicom": [b"%PDF-1.4" + bytes(500), b"\x00" * 600],
    }


def test_every_hostile_file_is_rejected_for_its_reason_while_its_neighbours_are_indexed(city: RunningCity) -> None:
    study = new_uid()
    bad = [(reason, content) for reason, contents in hostile().items() for content in contents]
    good = [image(study=study, sop=str(number), patient="HOSTILE-1") for number in range(6)]
    mixed = [*good[:2], *(content for _, content in bad), *good[2:]]
    started = time.monotonic()
    states = send(city.client("san-matteo"), *mixed)
    assert time.monotonic() - started < 30
    assert [status["state"] for status in states[:2] + states[-4:]] == ["indexed"] * 6
    assert [(status["state"], status["reason"]) for status in states[2:-4]] == [("rejected", reason) for reason, _ in bad]
    assert visible(city.client("san-matteo"), study, 6)
    offers = [{"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for _, content in bad]
    again = city.client("san-matteo").post("/uploads", json={"instances": offers}).json()["instances"]
    assert [verdict["reason"] for verdict in again] == [reason for reason, _ in bad]


def test_a_fourth_hospital_works_at_once_and_one_that_left_is_refused_at_once(city: RunningCity) -> None:
    operator = city.client("operator")
    body = {"name": "Don Gnocchi", "role_arn": "arn:aws:iam::222222222222:role/fourth", "patient_id_issuer": "2.16.99.4"}
    assert operator.put("/institutions/fourth", json=body).status_code == 201
    fourth = city.client("fourth")
    study = new_uid()
    assert send(fourth, image(study=study, patient="F1"))[0]["state"] == "indexed"
    assert visible(fourth, study)
    opened = fourth.post("/transfers", json={"patient": {"id": "F1"}, "to": "mondino", "reason": "rehabilitation"})
    assert opened.status_code == 201, opened.text
    assert visible(city.client("mondino"), study)
    assert operator.delete("/institutions/fourth").status_code == 200
    refused = fourth.get("/institutions")
    assert (refused.status_code, problem(refused)["type"]) == (403, "urn:contenitore:problem:unknown-institution")
    assert city.client("mondino").get(f"/studies/{study}/manifest").status_code == 200
    back = operator.put("/institutions/fourth", json=body)
    assert back.status_code == 201
    assert fourth.get(f"/studies/{study}/manifest").status_code == 200


def test_only_the_operator_keeps_the_registry(city: RunningCity) -> None:
    body = {"name": "X", "role_arn": "arn:aws:iam::222222222222:role/x", "patient_id_issuer": "2.16.99.5"}
    assert city.client("maugeri").put("/institutions/maugeri", json=body).status_code == 403
    assert city.client("maugeri").delete("/institutions/mondino").status_code == 403
    assert city.client("mondino").get("/institutions").status_code == 200


def test_a_registration_says_what_its_issuer_is_called_and_what_becomes_of_corrections(city: RunningCity) -> None:
    operator = city.client("operator")
    body = {"name": "Casa di cura", "role_arn": "arn:aws:iam::222222222222:role/named", "patient_id_issuer": "2.16.99.41"}
    made = operator.put("/institutions/named", json=body | {"issuer_names": ["ADT1"], "corrections": "conflict"})
    assert made.status_code == 201
    again = operator.put("/institutions/named", json={"name": "Casa di cura Beato Matteo"})
    assert (again.status_code, again.json()["issuer_names"], again.json()["corrections"]) == (200, ["ADT1"], "conflict")
    listed = {institution["id"]: institution for institution in operator.get("/institutions").json()["institutions"]}
    assert listed["named"] == again.json()
    assert listed["maugeri"]["corrections"] == "accept"
    refused = operator.put("/institutions/unheard-of", json={"issuer_names": ["ADT1"]})
    assert (refused.status_code, problem(refused)["type"]) == (400, "urn:contenitore:problem:bad-request")
    assert operator.delete("/institutions/named").status_code == 200


def addresses(hospital: Client, study: str) -> list[str]:
    """Every address of the API that answers hold."""
    found = visible(hospital, study)
    opened = hospital.post("/transfers", json={"patient": {"id": "ADDRESS"}, "to": "mondino", "reason": "rehabilitation"})
    assert opened.status_code == 201, opened.text
    instances = hospital.get(f"/dicomweb/studies/{study}/instances").json()
    return [found["00081190"]["Value"][0], instances[0]["00081190"]["Value"][0], opened.headers["Location"]]


def test_addresses_name_the_host_by_which_the_archive_was_reached(city: RunningCity) -> None:
    study = new_uid()
    other = city.api.replace("127.0.0.1", "localhost")
    hospital = Client(other, SignedBy(city.credentials("san-matteo"), city.endpoints["region"]))
    send(hospital, image(study=study, patient="ADDRESS"))
    for address in addresses(hospital, study):
        assert address.startswith(f"{other}/"), address
        assert hospital.get(address).status_code == 200


def test_addresses_keep_the_stage_path_and_a_restart_keeps_everything(tmp_path: Path) -> None:
    study = new_uid()
    content = image(study=study, patient="ADDRESS")
    with running_city(tmp_path, "--base-path", "/api") as city:
        assert city.api.endswith("/api")
        hospital = city.client("san-matteo")
        send(hospital, content)
        for address in addresses(hospital, study):
            assert address.startswith(f"{city.api}/"), address
            assert hospital.get(address).status_code == 200
        assert visible(city.client("mondino"), study)
        transfer = hospital.get("/transfers?direction=outgoing").json()["transfers"][0]
        credentials = city.credentials("mondino")
        assert city.stop() == 0
    with running_city(tmp_path) as city:
        assert not city.api.endswith("/api")
        stranger = city.client("mondino")
        assert visible(stranger, study)
        (instance,) = stranger.get(f"/studies/{study}/manifest").json()["instances"]
        assert (
            hashlib.sha256(requests.get(instance["url"], timeout=60).content).hexdigest() == hashlib.sha256(content).hexdigest()
        )
        assert city.client("san-matteo").get(f"/transfers/{transfer['id']}").json() == transfer
        assert send(city.client("san-matteo"), content)[0]["state"] == "indexed"
        assert city.client(None, credentials).get("/institutions").status_code == 200
        assert city.client("san-matteo").delete(f"/transfers/{transfer['id']}").status_code == 200
        assert stranger.get(f"/studies/{study}/manifest").status_code == 404
        wait_until(lambda: stranger.get(f"/dicomweb/studies?StudyInstanceUID={study}").json() == [])
