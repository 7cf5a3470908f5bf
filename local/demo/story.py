"""The demo: the main job, done step by step on real images, and told while it happens.

Everything goes through the front doors: the forwarder's own command, signed requests, presigned URLs. A second run finds
what the first one left, and tells who sees what.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import botocore.session
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove
from rich.console import Console
from rich.table import Table

from chalicelib.domain import tags
from local.demo.images import (
    BIRTH_DATE,
    CODICE_FISCALE,
    MAUGERI,
    NAME,
    REPORTS,
    SAN_MATTEO,
    SEX,
    STRANGER,
    Hospital,
    write_follow_up,
    write_priors,
)

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
_PATIENCE = 120.0
FIND, MOVE = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove
Found = TypeVar("Found")


class DemoFailed(Exception):
    """A step did not do what it is there to show."""


@dataclass(frozen=True)
class Hands:
    """A hospital's hands: an ordinary client that signs as its profile."""

    endpoints: dict[str, Any]
    profile: str

    def call(self, method: str, path: str, body: object = None, **headers: str) -> requests.Response:
        """A signed request to the archive."""
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        data = text.encode() if text is not None else None
        fields = ({"Content-Type": "application/json"} if data else {}) | headers
        request = AWSRequest(method, self.endpoints["api"] + path, data=data, headers=fields)
        credentials = botocore.session.Session(profile=self.profile).get_credentials()
        SigV4Auth(credentials, "execute-api", self.endpoints["region"]).add_auth(request)
        return requests.request(method, request.url, data=data, headers=dict(request.headers), timeout=30)

    def get(self, path: str) -> Any:
        """The JSON of a 200. Raises DemoFailed."""
        answer = self.call("GET", path)
        if answer.status_code != 200:
            raise DemoFailed(f"{self.profile}: GET {path.split('?')[0]} answered {answer.status_code}")
        return answer.json()


def run(endpoints: dict[str, Any], state: Path) -> None:
    """Do the job once for a state, and tell what there is, each time."""
    os.environ["AWS_CONFIG_FILE"] = endpoints["aws_config_file"]
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = endpoints["aws_shared_credentials_file"]
    hands = {name: Hands(endpoints, name) for name in (SAN_MATTEO.id, MAUGERI.id, STRANGER)}
    done = state / "demo.json"
    if not done.exists():
        _do_the_job(endpoints, state, hands)
        done.write_text(json.dumps({"patient": SAN_MATTEO.patient_id}))
    _tell_who_sees_what(hands)
    _tell_pacs(endpoints)
    _tell_addresses(endpoints)
    _tell_link(hands[MAUGERI.id])


def _do_the_job(endpoints: dict[str, Any], state: Path, hands: dict[str, Hands]) -> None:
    started = time.monotonic()
    san_matteo, maugeri = hands[SAN_MATTEO.id], hands[MAUGERI.id]
    files = state / "demo"
    today = datetime.now(ZoneInfo("Europe/Rome")).date()
    write_priors(files / SAN_MATTEO.id, today)
    write_follow_up(files / MAUGERI.id, today)

    _step(1, f"San Matteo sends three studies of {_display(NAME)}: a chest film, a head CT, an ultrasound")
    _into_pacs(endpoints, SAN_MATTEO, files / SAN_MATTEO.id)
    _send(endpoints, SAN_MATTEO, files / SAN_MATTEO.id)
    _report(endpoints, san_matteo, SAN_MATTEO)

    opened = _discharge(endpoints, san_matteo)
    _admit(endpoints, maugeri, opened)

    _step(4, "Maugeri finds the studies under its own number, and downloads them by presigned URL")
    found = _wait(lambda: _studies(maugeri, MAUGERI.patient_id), lambda studies: len(studies) == 3)
    _download(maugeri, found, files / SAN_MATTEO.id)

    _await_pacs(endpoints, MAUGERI, 3, "and, without anyone asking, they are")

    _step(5, "Maugeri's PACS sends the follow-up by C-STORE to its forwarder; San Matteo, which discharged her, sees it")
    _into_pacs(endpoints, MAUGERI, files / MAUGERI.id)
    _store(endpoints, MAUGERI, files / MAUGERI.id)
    _report(endpoints, maugeri, MAUGERI)
    followed = _wait(lambda: _studies(san_matteo, SAN_MATTEO.patient_id), lambda studies: len(studies) == 4)
    _download(
        san_matteo, [result for result in followed if "owner=maugeri" in result[tags.RetrieveURL]["Value"][0]], files / MAUGERI.id
    )

    _await_pacs(endpoints, SAN_MATTEO, 4, "and all four exams are")

    _step(6, "Mondino, which is no party, asks for the same studies")
    for study in followed:
        uid = study[tags.StudyInstanceUID]["Value"][0]
        status = hands[STRANGER].call("GET", f"/studies/{uid}/manifest").status_code
        if status != 404:
            raise DemoFailed(f"Mondino was answered {status}")
    console.print("     404, as for what does not exist")
    console.print(f"\n  The whole job took [bold]{time.monotonic() - started:.1f} s[/bold].\n")


def _discharge(endpoints: dict[str, Any], san_matteo: Hands) -> str:
    """San Matteo's registration discharges the patient to Maugeri, which opens the transfer; its id. Raises DemoFailed."""
    forwarder = endpoints.get("forwarders", {}).get(SAN_MATTEO.id)
    if forwarder is None:
        _step(2, "San Matteo opens the transfer of the patient to Maugeri")
        reason = "Riabilitazione dopo polmonite"
        transfer = {"patient": {"id": SAN_MATTEO.patient_id}, "to": MAUGERI.id, "reason": reason}
        san_matteo.call("POST", "/transfers", transfer, **{"Idempotency-Key": "demo"})
    else:
        _step(2, "San Matteo's registration discharges her to Maugeri (HL7 ADT^A03): the transfer opens by itself")
        _by_hl7(forwarder["hl7"], SAN_MATTEO, "ADT^A03^ADT_A03", [_pid(SAN_MATTEO), _pv1("SM-2026-1", {37: MAUGERI.id})])

    def mine() -> list[dict[str, Any]]:
        listed = san_matteo.get("/transfers?direction=outgoing&status=active")["transfers"]
        return [transfer for transfer in listed if transfer["patient"]["id"] == SAN_MATTEO.patient_id]

    (opened,) = _wait(mine, bool)
    console.print(f"     transfer {opened['id'][:8]}… is active until {opened['expires_at'][:10]}: {opened['reason']}")
    return str(opened["id"])


def _admit(endpoints: dict[str, Any], maugeri: Hands, opened: str) -> None:
    """Maugeri admits the patient, which accepts the transfer under its own number. Raises DemoFailed."""
    waiting = [transfer["id"] for transfer in maugeri.get("/transfers?direction=incoming&accepted=false")["transfers"]]
    if opened not in waiting:
        raise DemoFailed("the transfer does not wait at Maugeri")
    forwarder = endpoints.get("forwarders", {}).get(MAUGERI.id)
    if forwarder is None:
        _step(3, "Maugeri, where it waits, accepts the patient under its own number; now San Matteo may see the follow-up")
        number = {"id": MAUGERI.patient_id}
        maugeri.call("PUT", f"/transfers/{opened}/receiving-patient", number, **{"X-On-Behalf-Of": "accettazione"})
    else:
        _step(3, "Maugeri admits her (ADT^A01), same codice fiscale: that accepts; now San Matteo may see the follow-up")
        _by_hl7(forwarder["hl7"], MAUGERI, "ADT^A01^ADT_A01", [_pid(MAUGERI), _pv1("MG-2026-1", {14: SAN_MATTEO.id})])
    accepted = _wait(lambda: maugeri.get(f"/transfers/{opened}"), lambda transfer: "accepted_at" in transfer)
    number = accepted["receiving_patient"]["id"]
    console.print(f"     accepted by Maugeri at {_clock(accepted['accepted_at'])}, as {number}, which nobody typed")


def _pid(hospital: Hospital) -> str:
    """The patient as a registration tells her: the hospital's own number, the codice fiscale, name, birth date, sex."""
    code = f"{CODICE_FISCALE}^^^&2.16.840.1.113883.2.9.4.3.2&ISO^NNITA"
    return f"PID|1||{hospital.patient_id}^^^{hospital.id}^PI~{code}||{NAME}||{BIRTH_DATE}|{SEX}"


def _pv1(visit: str, fields: dict[int, str]) -> str:
    """A visit, with these fields by number."""
    said = {2: "I", 19: visit} | fields
    return "|".join(["PV1", *(said.get(place, "") for place in range(1, max(said) + 1))])


def _send(endpoints: dict[str, Any], hospital: Hospital, folder: Path) -> None:
    """The forwarder's own command, as an administrator would type it."""
    command = [sys.executable, "-m", "forwarder", "send", str(folder), "--profile", hospital.id, "--api", endpoints["api"]]
    code = subprocess.run(command, check=False).returncode
    if code != 0:
        raise DemoFailed(f"sending from {hospital.id} ended with code {code}")


def _store(endpoints: dict[str, Any], hospital: Hospital, folder: Path) -> None:
    """What a PACS does: an association with the hospital's forwarder, and a C-STORE for each file. Raises DemoFailed."""
    forwarder, pacs = (endpoints.get(kind, {}).get(hospital.id) for kind in ("forwarders", "pacs"))
    images = [dcmread(path) for path in sorted(folder.rglob("*.dcm"))]
    if forwarder is None:
        _send(endpoints, hospital, folder)
        return
    if pacs is None:
        _c_store(forwarder, images)
    else:
        _c_move(pacs, {str(image.StudyInstanceUID) for image in images}, forwarder["aet"])
    console.print(f"     {_instances(len(images))}: 0x0000, it is on the forwarder's disk")


def _c_store(node: dict[str, Any], images: list[Dataset]) -> None:
    """C-STORE of each. Raises DemoFailed."""
    with _association(
        node, {(str(image.SOPClassUID), str(image.file_meta.TransferSyntaxUID)) for image in images}
    ) as association:
        if any(association.send_c_store(image).get("Status") != 0x0000 for image in images):
            raise DemoFailed(f"{node['aet']} refused an instance")


def _c_move(node: dict[str, Any], studies: set[str], destination: str) -> None:
    """Have a PACS send these studies. Raises DemoFailed."""
    with _association(node, {(MOVE, ImplicitVRLittleEndian)}) as association:
        wanted = Dataset()
        wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "STUDY", sorted(studies)
        *_, (status, _) = association.send_c_move(wanted, destination, MOVE)
        if status.get("Status") != 0x0000:
            raise DemoFailed(f"{node['aet']} did not send to {destination}")


def _held(pacs: dict[str, Any], number: str) -> dict[str, tuple[str, int]]:
    """What a PACS has under a patient's number: Study Instance UID → (description, instances). Raises DemoFailed."""
    with _association(pacs, {(FIND, ImplicitVRLittleEndian)}) as association:
        wanted = Dataset()
        wanted.QueryRetrieveLevel, wanted.PatientID = "STUDY", number
        wanted.StudyInstanceUID = wanted.StudyDescription = wanted.NumberOfStudyRelatedInstances = ""
        found = [result for status, result in association.send_c_find(wanted, FIND) if status.get("Status") in (0xFF00, 0xFF01)]
    return {
        str(study.StudyInstanceUID): (str(study.StudyDescription), int(study.NumberOfStudyRelatedInstances)) for study in found
    }


@contextmanager
def _association(node: dict[str, Any], contexts: set[tuple[str, str]]) -> Iterator[Any]:
    ae = AE(ae_title="DEMO")
    for context in contexts:
        ae.add_requested_context(*context)
    host, port = node["dicom"].split(":")
    association = ae.associate(host, int(port), ae_title=node["aet"])
    if not association.is_established:
        raise DemoFailed(f"{node['aet']} took no association")
    try:
        yield association
    finally:
        association.release()


def _into_pacs(endpoints: dict[str, Any], hospital: Hospital, folder: Path) -> None:
    """What the modality does: the images go into the hospital's own PACS, where it has one."""
    pacs = endpoints.get("pacs", {}).get(hospital.id)
    if pacs is not None:
        _c_store(pacs, [dcmread(path) for path in sorted(folder.rglob("*.dcm"))])


def _await_pacs(endpoints: dict[str, Any], hospital: Hospital, studies: int, told: str) -> None:
    """Wait until the hospital's PACS has so many studies under the hospital's own number, as many as the archive shows."""
    pacs = endpoints.get("pacs", {}).get(hospital.id)
    if pacs is None:
        return
    who = Hands(endpoints, hospital.id)

    def all_there() -> bool:
        held = _held(pacs, hospital.patient_id)
        of_others = [study for study in _studies(who, hospital.patient_id) if "owner=" in study[tags.RetrieveURL]["Value"][0]]
        brought = (
            held.get(of_other[tags.StudyInstanceUID]["Value"][0], ("", 0))[1]
            >= of_other[tags.NumberOfStudyRelatedInstances]["Value"][0]
            for of_other in of_others
        )
        return len(held) == studies and all(brought)

    _wait(all_there, bool)
    console.print(f"     {told} in the PACS of {hospital.name} under its own number, {hospital.patient_id}")


def _report(endpoints: dict[str, Any], who: Hands, hospital: Hospital) -> None:
    """The hospital's RIS sends the report of its chest film, as soon as the film is there: Maugeri's by HL7, as a RIS does."""
    forwarder = endpoints.get("forwarders", {}).get(hospital.id)
    found = _wait(lambda: [study for study in _studies(who, hospital.patient_id) if _is_own_chest(study)], bool)
    path = f"/studies/{found[0][tags.StudyInstanceUID]['Value'][0]}/reports"
    if forwarder is not None and hospital == MAUGERI:
        _by_hl7(forwarder["hl7"], hospital, "ORU^R01^ORU_R01", _oru(hospital, found[0][tags.AccessionNumber]["Value"][0]))
        _wait(lambda: who.get(path)["reports"], bool)
        console.print("     and the report of the chest film by HL7 (ORU^R01): AA, and it stands beside the images")
        return
    text = {"Content-Type": "text/plain; charset=utf-8"}
    written = found[0][tags.StudyDate]["Value"][0]
    answer = who.call("POST", f"{path}?title=Referto%20RX%20torace&date={written}", REPORTS[hospital.id], **text)
    if answer.status_code not in (200, 201):
        raise DemoFailed(f"sending a report from {hospital.id} answered {answer.status_code}")
    console.print("     and the report of the chest film")


def _oru(hospital: Hospital, accession: str) -> list[str]:
    """A report as a RIS sends it, the study named by its accession number (OBR-18)."""
    now = datetime.now(ZoneInfo("Europe/Rome")).strftime("%Y%m%d%H%M%S")
    return [
        _pid(hospital),
        f"OBR|1|{accession}|{accession}|^Referto RX torace|||{now}|||||||||||{accession}|||||||F",
        *(f"OBX|{n}|TX|^Referto||{line}||||||F" for n, line in enumerate(REPORTS[hospital.id].split("\n"), 1)),
    ]


def _by_hl7(address: str, hospital: Hospital, kind: str, segments: list[str]) -> None:
    """What a RIS or a registration does: a message over MLLP, acknowledged with AA. Raises DemoFailed."""
    now = datetime.now(ZoneInfo("Europe/Rome")).strftime("%Y%m%d%H%M%S")
    header = f"MSH|^~\\&|RIS|{hospital.id}|CONTENITORE||{now}||{kind}|{kind[4:7]}-{now}|P|2.5||||||UNICODE UTF-8"
    message = "\r".join([header, *([f"EVN||{now}"] if kind.startswith("ADT") else []), *segments])
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as ris:
        ris.sendall(b"\x0b" + message.encode() + b"\r\x1c\r")
        answer = ris.makefile("rb").read1()
    if b"\rMSA|AA|" not in answer:
        raise DemoFailed(f"the forwarder of {hospital.id} took no {kind[:7]}")


def _is_own_chest(study: dict[str, Any]) -> bool:
    own = "owner=" not in study[tags.RetrieveURL]["Value"][0]
    return own and "TORACE" in study.get(tags.StudyDescription, {}).get("Value", [""])[0]


def _studies(who: Hands, patient_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = who.get(
        f"/dicomweb/studies?PatientID={urllib.parse.quote(patient_id)}&includefield={tags.StudyDescription}"
    )
    return found


def _wait(look: Callable[[], Found], enough: Callable[[Found], bool]) -> Found:
    deadline = time.monotonic() + _PATIENCE
    while True:
        found = look()
        if enough(found):
            return found
        if time.monotonic() > deadline:
            raise DemoFailed("the studies did not become visible in time")
        time.sleep(0.1)


def _download(who: Hands, studies: list[dict[str, Any]], sent: Path) -> None:
    """Fetch every instance, and hold it against what was sent: byte for byte, or, where the forwarder compressed it
    losslessly on the way, pixel for pixel. Raises DemoFailed."""
    missing = {dcmread(path, stop_before_pixels=True).SOPInstanceUID: path for path in sent.rglob("*.dcm")}
    bits = pixels = size = 0
    for study in studies:
        path: str | None = f"/studies/{study[tags.StudyInstanceUID]['Value'][0]}/manifest"
        base = path
        while path:
            page = who.get(path)
            for instance in page["instances"]:
                body = requests.get(instance["url"], timeout=60).content
                if hashlib.sha256(body).hexdigest() != instance["sha256"]:
                    raise DemoFailed("a downloaded instance is not the one in the manifest")
                original = missing.pop(instance["sop_instance_uid"], None)
                if original is None:
                    continue  # a report
                if body == original.read_bytes():
                    bits += 1
                elif dcmread(BytesIO(body)).pixel_array.tobytes() == dcmread(original).pixel_array.tobytes():
                    pixels += 1
                else:
                    raise DemoFailed("a pixel differs from what was sent")
                size += len(body)
            path = f"{base}?cursor={page['next']}" if page.get("next") else None
    if missing:
        raise DemoFailed(f"{len(missing)} of the files that were sent did not come back")
    if bits:
        console.print(f"     {_instances(bits)}, {size / 1e6:.1f} MB: [green]identical bit for bit[/green]")
    if pixels:
        console.print(
            f"     {_instances(pixels)}, {size / 1e6:.1f} MB: losslessly compressed on the way, "
            "[green]identical pixel for pixel[/green]"
        )


def _instances(count: int) -> str:
    return "1 instance" if count == 1 else f"{count} instances"


def _tell_who_sees_what(hands: dict[str, Hands]) -> None:
    table = Table(title=f"Who sees what of {_display(NAME)} (an invented patient)", title_justify="left")
    for column in ("study", "date", "instances", "sent by", "San Matteo", "Maugeri", "Mondino"):
        table.add_column(column, justify="right" if column == "instances" else "left")
    timeline = hands[SAN_MATTEO.id].get(f"/patients/{SAN_MATTEO.patient_id}/timeline")
    for study in timeline["studies"]:
        answers = [
            hands[name].call("GET", f"/studies/{study['study_instance_uid']}/manifest?limit=1").status_code
            for name in (SAN_MATTEO.id, MAUGERI.id, STRANGER)
        ]
        day = study["study_date"]
        table.add_row(
            f"{'/'.join(study['modalities'])}  {study['description']}",
            f"{day[:4]}-{day[4:6]}-{day[6:]}",
            str(study["instances"]),
            study["owner"],
            *("[green]yes[/green]" if code == 200 else f"[red]{code}[/red]" for code in answers),
        )
    console.print(table)
    for transfer in timeline["transfers"]:
        accepted = transfer.get("accepted_at")
        state = f"accepted {accepted[:10]} at {_clock(accepted)}" if accepted else "waits: the sender sees no follow-up"
        console.print(f"  transfer {transfer['id'][:8]}…  {transfer['from']} → {transfer['to']}: {state}")


def _tell_pacs(endpoints: dict[str, Any]) -> None:
    """What stands in each hospital's PACS under its own number of the patient."""
    if not endpoints.get("pacs"):
        return
    table = Table(title="What is in the two hospitals' own PACS, by C-FIND", title_justify="left")
    for column in ("PACS", "under the number", "study", "instances"):
        table.add_column(column, justify="right" if column == "instances" else "left")
    for hospital in (SAN_MATTEO, MAUGERI):
        pacs = endpoints["pacs"][hospital.id]
        for description, instances in sorted(_held(pacs, hospital.patient_id).values()):
            table.add_row(f"{hospital.name}: {pacs['aet']}", hospital.patient_id, description, str(instances))
    console.print()
    console.print(table)
    for hospital in (SAN_MATTEO, MAUGERI):
        pacs = endpoints["pacs"][hospital.id]
        page = f", its own page {pacs['http']}" if "http" in pacs else ""
        console.print(f"  {pacs['aet']}  {pacs['kind']}, DICOM {pacs['dicom']}{page}")


def _tell_addresses(endpoints: dict[str, Any]) -> None:
    console.print(f"\n  API       {endpoints['api']}        DICOMweb  {endpoints['dicomweb']}")
    console.print(f"  S3        {endpoints['s3']}        page      {endpoints['viewer']}")
    for institution, forwarder in endpoints.get("forwarders", {}).items():
        # A demo identity: whoever opens it is "demo.<hospital>", with every role.
        console.print(f"  Staff of {institution:12} {forwarder['staff']}/transfers   (a demo person with every role)")
    console.print("\n  Be a hospital:")
    console.print(f"    export AWS_CONFIG_FILE={endpoints['aws_config_file']}")
    console.print(f"    export AWS_SHARED_CREDENTIALS_FILE={endpoints['aws_shared_credentials_file']}")
    console.print(f"    .venv/bin/python -m forwarder send FOLDER --profile maugeri --api {endpoints['api']}")
    console.print()


def _tell_link(who: Hands) -> None:
    """What a button in the RIS does: a link for one reading session, with the patient loaded."""
    body = {
        "patient": {"id": MAUGERI.patient_id},
        "practitioner": {"id": "dr-bianchi", "name": "Dott.ssa Anna Bianchi"},
        "purpose": "TREAT",
        "open_within_seconds": 8 * 3600,
    }
    answer = who.call("POST", "/links", body)
    if answer.status_code != 201:
        raise DemoFailed(f"making a link answered {answer.status_code}")
    console.print("  [bold]Open the patient as Maugeri's radiologist, both hospitals side by side:[/bold]")
    console.print(f"    {answer.json()['url']}")
    console.print("\n  Ctrl-C ends the city; what it has stays.\n")


def _step(number: int, text: str) -> None:
    console.print(f"\n  [bold]{number}.[/bold] {text}")


def _clock(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone(ZoneInfo("Europe/Rome")).strftime("%H:%M:%S")


def _display(name: str) -> str:
    family, _, given = name.partition("^")
    return f"{given} {family}".strip().title()
