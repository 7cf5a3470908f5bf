"""What is erased is gone: bytes, facts, views; and what the law wants stays. Nothing else deletes."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from typing import Any

import pytest

from infra import audit, operate
from tests.harness import Client, RunningCity, wait_until
from tests.integration.hospital import send, ticked, visible
from tests.world import image

LEAVER, OID = "partente", "2.16.840.1.113883.2.9.77.1"


@dataclass(frozen=True)
class Departure:
    """A hospital that leaves, with studies, transfers both ways, a patient without images, junk and an upload nobody indexed."""

    city: RunningCity
    leaver: Client
    contents: tuple[bytes, ...]


@pytest.fixture(scope="module")
def departure(city: RunningCity) -> Iterator[Departure]:
    statement = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    invoke = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}
    iam = city.aws("iam")
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    role = iam.create_role(RoleName=LEAVER, AssumeRolePolicyDocument=json.dumps(policy))["Role"]["Arn"]
    iam.put_role_policy(
        RoleName=LEAVER, PolicyName="calls", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [invoke]})
    )
    made = city.client("operator").put(
        f"/institutions/{LEAVER}", json={"name": "Partente", "role_arn": role, "patient_id_issuer": OID}
    )
    assert made.status_code == 201, made.text
    session = city.aws("sts").assume_role(RoleArn=role, RoleSessionName=LEAVER)["Credentials"]
    from botocore.credentials import Credentials

    leaver = city.client(None, Credentials(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"]))
    other = city.client("mondino")
    contents = [image(study="1.2.951", series=str(n), sop=str(n), patient="LEAVES-1", name="Partenti^Ada") for n in range(3)]
    contents += [image(study="1.2.952", patient="LEAVES-2"), image(study="1.2.953", patient="LEAVES-1")[:400], b"no image"]
    states = {status["state"] for status in send(leaver, *contents)}
    assert states == {"indexed", "rejected"}
    send(other, image(study="1.2.954", patient="STAYS-1"))
    visible(leaver, "1.2.951", 3)
    visible(other, "1.2.954")
    assert leaver.put("/patients/LEAVES-3", json={"name": "Mai^Vista"}).status_code == 200
    for sender, patient, to in ((leaver, "LEAVES-1", "mondino"), (other, "STAYS-1", LEAVER)):
        opened = sender.post("/transfers", json={"patient": {"id": patient}, "to": to, "reason": "follow-up"})
        assert opened.status_code == 201, opened.text
    visible(other, "1.2.951", 3)
    visible(leaver, "1.2.954")
    assert leaver.get("/studies/1.2.951/manifest").status_code == 200
    yield Departure(city, leaver, tuple(contents))


def items_of(city: RunningCity, *words: str) -> list[tuple[str, str]]:
    """The keys of all items that say any of these words, but for the audit trail and the registry."""
    table, found = city.aws("dynamodb"), []
    for page in table.get_paginator("scan").paginate(TableName=city.outputs()["TableName"]):
        for item in page["Items"]:
            key = item["pk"]["S"], item["sk"]["S"]
            if not key[0].startswith(("F#AUDIT#", "V#AUDIT", "F#REGISTRY")) and any(word in json.dumps(item) for word in words):
                found.append(key)
    return found


def objects_of(city: RunningCity, institution: str) -> list[str]:
    """The keys of all versions that the bucket has of an institution."""
    listed = city.aws("s3").get_paginator("list_object_versions").paginate(Bucket=city.outputs()["BucketName"])
    every = [version["Key"] for page in listed for version in (*page.get("Versions", []), *page.get("DeleteMarkers", []))]
    return [key for key in every if f"/{institution}/" in key]


def erase(city: RunningCity, session: str, *arguments: str, institution: str = LEAVER, lines: bool = False) -> tuple[int, Any]:
    """`python -m infra.operate erase` as another person of the operator's role: how it stands; with `lines`, what is printed."""
    state, told = city.state / f"as-{session}", StringIO()
    state.mkdir(exist_ok=True)
    made = city.session_credentials("operator", session)
    credentials = state / "credentials"
    credentials.write_text(
        f"[operator]\naws_access_key_id = {made.access_key}\naws_secret_access_key = {made.secret_key}\n"
        f"aws_session_token = {made.token}\n"
    )
    endpoints = state / "endpoints.json"
    endpoints.write_text(json.dumps(city.endpoints | {"aws_shared_credentials_file": str(credentials)}))
    with redirect_stdout(told):
        code = operate.main(["--endpoints", str(endpoints), "erase", institution, *arguments, *([] if lines else ["--json"])])
    if lines:
        return code, told.getvalue()
    return code, json.loads(told.getvalue())["erasure"] if told.getvalue() else None


def test_a_hospital_leaves_by_two_operators_and_nothing_of_it_remains_but_what_the_law_wants(departure: Departure) -> None:
    city = departure.city
    assert erase(city, "rossi")[0] == 2  # it is a member
    assert city.client("operator").delete(f"/institutions/{LEAVER}").status_code == 200
    assert erase(city, "rossi", "--status") == (1, None)
    code, asked = erase(city, "rossi", "--after-days", "0")
    assert (code, asked["state"], asked["asked_by"]) == (1, "asked", "rossi")
    assert erase(city, "rossi", "--confirm", asked["confirm"])[0] == 2  # whoever asked cannot confirm
    pretender = city.client(None, city.session_credentials("operator", "rossi")).as_person("bianchi")
    for meant in (True, asked["confirm"]):
        refused = pretender.put(f"/institutions/{LEAVER}/erasure", json={"confirm": meant})
        assert refused.status_code == 409, "a header makes nobody another person"
    assert objects_of(city, LEAVER)
    assert erase(city, "bianchi") == (1, asked), "who is not told what to confirm is shown it"
    assert erase(city, "bianchi", "--confirm", asked["confirm"])[1]["state"] == "confirmed"

    def is_gone() -> Any:
        code, stands = erase(city, "bianchi")
        return stands if code == 0 else None

    gone = wait_until(is_gone)
    hashes = sorted(hashlib.sha256(content).hexdigest() for content in departure.contents)
    chain = "0" * 64
    for sha in hashes:
        chain = hashlib.sha256(bytes.fromhex(chain) + bytes.fromhex(sha)).hexdigest()
    assert (gone["erased"]["objects"], gone["erased"]["studies"], gone["erased"]["digest"]) == (len(hashes), 2, chain)
    assert gone["erased"]["bytes"] == sum(map(len, departure.contents))

    assert objects_of(city, LEAVER) == []
    with suppress(AssertionError):
        wait_until(lambda: not _left(city, hashes))
    assert _left(city, hashes) == []
    other = city.client("mondino")
    assert other.get("/dicomweb/studies?StudyInstanceUID=1.2.951").json() == []
    assert other.get("/studies/1.2.951/manifest").status_code == 404
    assert other.get("/studies/1.2.954/manifest").status_code == 200, "what is another's stays"
    with redirect_stdout(StringIO()):
        assert audit.main(["verify", "--endpoints", str(city.state / "endpoints.json")]) in (0, 3)
    mine = _records_of(city, LEAVER)
    assert {"erasure-ordered", "erasure", "access", "patient-stated"} <= {record["kind"] for record in mine}
    assert any(record["kind"] == "erasure" and chain[:32] in record.get("text", "") for record in mine)
    again = city.client("operator").put(f"/institutions/another-{LEAVER}", json={
        "name": "Another", "role_arn": "arn:aws:iam::222222222222:role/another", "patient_id_issuer": OID,
    })  # fmt: skip
    assert again.status_code in (201, 409)


def test_the_second_operator_confirms_what_was_shown_and_nothing_that_took_its_place(city: RunningCity) -> None:
    operator, url = city.client("operator"), "/institutions/gone/erasure"
    known = {"name": "Gone", "role_arn": "arn:aws:iam::222222222222:role/gone", "patient_id_issuer": f"{OID}.7"}
    assert operator.put("/institutions/gone", json=known).status_code == 201
    assert operator.delete("/institutions/gone").status_code == 200
    rossi, bianchi = (city.client(None, city.session_credentials("operator", name)) for name in ("rossi", "bianchi"))
    assert rossi.put(url, json={"reason": "it left", "after_days": 30}).status_code == 200
    seen = bianchi.get(url).json()
    assert rossi.delete(url).status_code == 200
    stands = rossi.put(url, json={"reason": "it left", "after_days": 2}).json()
    refused = bianchi.put(url, json={"confirm": seen["confirm"]})
    assert (refused.status_code, refused.json()["stands"]) == (409, stands)
    assert bianchi.put(url, json={"confirm": True}).status_code == 409
    assert bianchi.put(url, json={"confirm": stands["confirm"], "after_days": 30}).status_code == 400
    assert bianchi.get(url).json() == stands
    assert erase(city, "bianchi", "--after-days", "30", institution="gone")[0] == 2, "who asks confirms nothing"
    assert erase(city, "bianchi", "--confirm", seen["confirm"], institution="gone")[0] == 2
    told = erase(city, "bianchi", institution="gone", lines=True)[1]
    assert all(text in told for text in ("rossi", stands["asked_at"], "it left", "2 days", f"--confirm {stands['confirm']}"))
    with pytest.raises(SystemExit):
        erase(city, "bianchi", "--confirm", stands["confirm"], "--after-days", "30", institution="gone")
    code, confirmed = erase(city, "bianchi", "--confirm", stands["confirm"], institution="gone")
    assert (code, confirmed["state"], confirmed["confirmed_by"]) == (1, "confirmed", "bianchi")
    assert erase(city, "rossi", "--confirm", stands["confirm"], institution="gone")[0] == 2
    assert erase(city, "rossi", "--cancel", institution="gone")[1]["state"] == "cancelled"
    assert erase(city, "rossi", institution="gone")[1]["state"] == "asked"
    assert erase(city, "rossi", institution="gone")[0] == 2, "who asked is not another operator"
    code, confirmed = erase(city, "bianchi", institution="gone")
    assert (confirmed["state"], confirmed["after_days"]) == ("confirmed", 30), "there is time to take it back"
    assert erase(city, "rossi", "--cancel", institution="gone")[1]["state"] == "cancelled"


def _records_of(city: RunningCity, owner: str) -> list[dict[str, Any]]:
    """What the audit trail says of an owner's patients and studies."""
    pages = city.aws("dynamodb").get_paginator("query").paginate(
        TableName=city.outputs()["TableName"], IndexName="gsi3", KeyConditionExpression="gsi3pk = :pk",
        ExpressionAttributeValues={":pk": {"S": f"AUDIT#{owner}"}},
    )  # fmt: skip
    return [json.loads(item["data"]["S"]) for page in pages for item in page["Items"]]


def _left(city: RunningCity, hashes: list[str]) -> list[tuple[str, str]]:
    """What is there of it, but the proof; what others' feeds told, by the ids of transfers and studies and no patient's; and what
    goes by its time, an offer within hours and the hash of what was no DICOM within a week."""
    patients = ("LEAVES-", OID, "Partenti", *hashes)
    left, named = items_of(city, *patients, LEAVER, "1.2.951", "1.2.952"), items_of(city, *patients)
    told = {key for key in left if key[0].startswith("F#FEED#") and key[0] != f"F#FEED#{LEAVER}" and key not in named}
    return [key for key in left if key not in told and not key[0].startswith((f"F#ERASURE#{LEAVER}", "F#OFFERED#", "F#REMOVAL#"))]


def test_a_patients_erasure_is_shown_confirmed_hidden_at_once_and_takes_nobody_elses(city: RunningCity) -> None:
    owner, other = city.client("maugeri"), city.client("san-matteo")
    mixed = [image(study="1.2.963", series="1", patient=patient) for patient in ("GOES-1",)]
    mixed.append(image(study="1.2.963", series="2", sop="2", patient="KEEPS-1"))
    contents = [image(study="1.2.961", series="1", sop=str(n), patient="GOES-1", name="Via^Sempre") for n in range(2)]
    neighbour = image(study="1.2.962", patient="KEEPS-1")
    assert {status["state"] for status in send(owner, *contents, *mixed, neighbour)} == {
        "indexed"
    }  # one batch, one metadata object
    for study, instances in (("1.2.961", 2), ("1.2.962", 1), ("1.2.963", 2)):
        visible(owner, study, instances)
    before = owner.get("/dicomweb/studies/1.2.962/metadata").json()
    shown = owner.post("/patients/GOES-1/erasures", json={}).json()
    assert (shown["study_instance_uids"], shown["left_out"], shown["instances"]) == (["1.2.961"], ["1.2.963"], 2)
    assert owner.get("/studies/1.2.961/manifest").status_code == 200, "nothing was asked for yet"
    order = {"reason": "the patient asks", "after_days": 0, "confirm": shown["confirm"]}
    assert other.post("/patients/GOES-1/erasures", json={}).status_code == 404
    assert owner.post("/patients/GOES-1/erasures", json=order | {"confirm": "0" * 32}).status_code == 409
    made = owner.post("/patients/GOES-1/erasures", json=order)
    assert made.status_code == 201, made.text
    assert owner.get("/studies/1.2.961/manifest").status_code == 404
    hashes = [hashlib.sha256(content).hexdigest() for content in contents]

    def is_erased() -> bool:
        ticked(city, "erase_due")
        return not {*hashes} & {key.rpartition("/")[2] for key in objects_of(city, "maugeri")}

    wait_until(is_erased)
    wait_until(lambda: not [key for key in items_of(city, "1.2.961", "Via^Sempre", *hashes) if key[0] != "F#FEED#maugeri"])
    assert "Via" not in _metadata_of(city, "maugeri"), "the batch's metadata had lines of others, which stay"
    assert owner.get("/dicomweb/studies/1.2.962/metadata").json() == before
    visible(owner, "1.2.963", 2)
    answer = owner.get("/audit?limit=1000").json()["entry"]
    kinds = {subtype["code"] for entry in answer for subtype in entry["resource"].get("subtype", [])}
    assert {"erasure-ordered", "erasure"} <= kinds


def _metadata_of(city: RunningCity, institution: str) -> str:
    """All metadata that the bucket keeps of an institution, old versions too."""
    s3, bucket, found = city.aws("s3"), city.outputs()["BucketName"], []
    for version in s3.list_object_versions(Bucket=bucket, Prefix=f"metadata/parts/{institution}/").get("Versions", []):
        body = s3.get_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])["Body"].read()
        found.append(gzip.decompress(body).decode())
    return "\n".join(found)


def test_a_rule_is_tried_before_it_is_carried_out_and_takes_what_is_due_and_no_more(city: RunningCity) -> None:
    owner = city.client("san-matteo")
    old = [("1.2.971", "20010101", "CT", "19500101"), ("1.2.972", "20010101", "MG", "19500101"),
           ("1.2.973", "20010101", "CT", "20000101"), ("1.2.974", "20240101", "CT", "19500101"),
           ("1.2.975", "20010101", "CT", "19500101")]  # fmt: skip
    contents = [_exam(study, date, modality, birth) for study, date, modality, birth in old]
    assert {status["state"] for status in send(owner, *contents)} == {"indexed"}
    for study, *_ in old:
        visible(owner, study)
    rule = {"years": 20, "by_modality": {"MG": 40}, "minors_until_age": 40, "held": ["1.2.975"]}
    assert owner.put("/retention", json=rule | {"execute": True}).status_code == 409
    assert owner.put("/retention", json=rule).status_code == 200

    def passed(execute: bool) -> Any:
        ticked(city, "erase_due")
        said = owner.get("/retention").json()
        return said if said["tried"] and said["last_pass"]["execute"] is execute else None

    tried = wait_until(lambda: passed(False))
    assert tried["last_pass"]["named"] == ["1.2.971"]
    visible(owner, "1.2.971")
    assert owner.put("/retention", json=rule | {"years": 19, "execute": True}).status_code == 409, "another rule was tried"
    assert owner.put("/retention", json=rule | {"execute": True}).status_code == 200
    done = wait_until(lambda: passed(True))
    assert (done["last_pass"]["named"], done["last_pass"]["found"]["objects"]) == (["1.2.971"], 1)
    assert owner.get("/dicomweb/studies?StudyInstanceUID=1.2.971").json() == []
    assert f"instances/san-matteo/{hashlib.sha256(contents[0]).hexdigest()}" not in objects_of(city, "san-matteo")
    for study, *_ in old[1:]:
        visible(owner, study)
    assert owner.put("/retention", data="null").status_code == 200


def _exam(study: str, date: str, modality: str, birth: str) -> bytes:
    return image(study=study, patient=f"RULE-{study}", date=date, modality=modality, birth_date=birth)
