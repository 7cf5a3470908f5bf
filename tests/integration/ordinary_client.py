"""What a maker of other software would write from the contract alone: botocore's signer, requests, pydicom for test images.

    python ordinary_client.py DIRECTORY-OF-THE-CITY

It knows nothing of the archive's code. It does the whole job and prints what it saw as JSON.
"""

import hashlib
import io
import json
import pathlib
import sys
import time
from datetime import datetime
from zoneinfo import ZoneInfo

import botocore.session
import pydicom
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from pydicom.data import get_testdata_file

CITY = json.loads((pathlib.Path(sys.argv[1]) / "endpoints.json").read_text())


def call(profile, method, path, body=None, **headers):
    data = json.dumps(body) if body is not None else None
    if data is not None:
        headers["Content-Type"] = "application/json"
    session = botocore.session.Session(profile=profile)
    session.set_config_variable("config_file", CITY["aws_config_file"])
    session.set_config_variable("credentials_file", CITY["aws_shared_credentials_file"])
    request = AWSRequest(method, CITY["api"] + path, data=data, headers=headers)
    SigV4Auth(session.get_credentials(), "execute-api", CITY["region"]).add_auth(request)
    return requests.request(method, request.url, data=data, headers=dict(request.headers), timeout=60, allow_redirects=False)


def made(patient, study, date, number):
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    dataset.PatientID, dataset.StudyInstanceUID, dataset.StudyDate = patient, study, date
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = f"{study}.1", f"{study}.1.{number}"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def send(profile, contents):
    offers = [{"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for content in contents]
    answer = call(profile, "POST", "/uploads", {"instances": offers})
    assert answer.status_code == 200, answer.text
    puts = []
    for content, offer, instance in zip(contents, offers, answer.json()["instances"], strict=True):
        assert instance["sha256"] == offer["sha256"]
        if instance["state"] == "absent":
            upload = instance["upload"]
            puts.append(
                requests.request(upload["method"], upload["url"], data=content, headers=upload["headers"], timeout=60).status_code
            )
    deadline = time.monotonic() + 60
    while True:
        states = call(profile, "POST", "/uploads/status", {"sha256": [offer["sha256"] for offer in offers]}).json()["instances"]
        if all(state["state"] not in ("absent", "stored") for state in states) or time.monotonic() > deadline:
            return puts, [state["state"] for state in states]
        time.sleep(0.05)


def until(look, enough):
    deadline = time.monotonic() + 60
    while True:
        found = look()
        if enough(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def download(profile, study, query=""):
    """Every instance of a study, page by page, as SHA-256 of what was downloaded."""
    found, path = {}, f"/studies/{study}/manifest?limit=2{query}"
    base = path
    while path:
        answer = call(profile, "GET", path)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        for instance in page["instances"]:
            content = requests.get(instance["url"], timeout=60)
            assert content.status_code == 200, content.text
            found[instance["sop_instance_uid"]] = hashlib.sha256(content.content).hexdigest()
            assert found[instance["sop_instance_uid"]] == instance["sha256"]
        path = f"{base}&cursor={page['next']}" if "next" in page else None
    return found


saw = {}
mine, theirs = f"SM-{time.time_ns()}", f"MG-{time.time_ns()}"
prior, follow_up = f"2.25.{time.time_ns()}", f"2.25.{time.time_ns() + 1}"
today = datetime.now(ZoneInfo("Europe/Rome")).strftime("%Y%m%d")  # at the hospitals
images = [made(mine, prior, "20200102", number) for number in range(5)]
new_film = [made(theirs, follow_up, today, 1)]

saw["health"] = requests.get(CITY["api"] + "/health", timeout=60).json()["status"]
saw["unsigned"] = requests.get(CITY["api"] + "/institutions", timeout=60).status_code
saw["puts"], saw["sent"] = send("san-matteo", images)
saw["sent again"] = send("san-matteo", images)
saw["before"] = [call(who, "GET", f"/studies/{prior}/manifest").status_code for who in ("maugeri", "mondino")]

opening = {"patient": {"id": mine}, "to": "maugeri", "reason": "rehabilitation"}
transfer = call("san-matteo", "POST", "/transfers", opening, **{"Idempotency-Key": mine})
saw["opened"] = [transfer.status_code, transfer.json()["status"]]
saw["opened again"] = (
    call("san-matteo", "POST", "/transfers", opening, **{"Idempotency-Key": mine}).json()["id"] == transfer.json()["id"]
)
incoming = call("maugeri", "GET", "/transfers?direction=incoming&status=active").json()["transfers"]
saw["incoming"] = transfer.json()["id"] in [shared["id"] for shared in incoming]

named = call("maugeri", "PUT", f"/transfers/{transfer.json()['id']}/receiving-patient", {"id": theirs})
saw["named"] = named.status_code
studies = until(lambda: call("maugeri", "GET", f"/dicomweb/studies?PatientID={theirs}").json(), lambda found: len(found) == 1)
saw["found"] = [result["0020000D"]["Value"][0] == prior for result in studies]
saw["shown number"] = studies[0]["00100020"]["Value"][0] == theirs
saw["counted"] = studies[0]["00201208"]["Value"][0]
saw["identical"] = sorted(download("maugeri", prior).values()) == sorted(hashlib.sha256(image).hexdigest() for image in images)

saw["follow-up"] = send("maugeri", new_film)[1]
timeline = until(lambda: call("san-matteo", "GET", f"/patients/{mine}/timeline").json(), lambda found: len(found["studies"]) == 2)
saw["timeline"] = [study["owner"] for study in timeline["studies"]]
saw["follow-up identical"] = list(download("san-matteo", follow_up).values()) == [hashlib.sha256(new_film[0]).hexdigest()]
saw["stranger"] = [call("mondino", "GET", f"/studies/{uid}/manifest").status_code for uid in (prior, follow_up)]
saw["strangers search"] = call("mondino", "GET", f"/dicomweb/studies?StudyInstanceUID={prior}").json()

saw["ended"] = call("maugeri", "DELETE", f"/transfers/{transfer.json()['id']}").json()["status"]
saw["ended again"] = call("san-matteo", "DELETE", f"/transfers/{transfer.json()['id']}").json()["status"]
saw["after"] = [
    call("maugeri", "GET", f"/studies/{prior}/manifest").status_code,
    call("san-matteo", "GET", f"/studies/{follow_up}/manifest").status_code,
    call("maugeri", "GET", f"/studies/{follow_up}/manifest").status_code,
]
print(json.dumps(saw))
