"""Damage done with the emulated cloud's own tools is found by `reconcile`, mended by `--mend`, and nothing else has changed."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from forwarder.alerts import advise, texts
from infra import forwarders, operate
from tests.harness import ROOT, Client, RunningCity, running_city, wait_until
from tests.integration.hospital import send, visible
from tests.world import image

STUDY, OTHER, CORRECTED = "1.2.700", "1.2.701", "1.2.703"


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCity]:
    with running_city(tmp_path_factory.mktemp("operate")) as running:
        yield running


RECONCILE = ("reconcile", "--older-than", "0", "--institution", "san-matteo")


@dataclass(frozen=True)
class World:
    """San Matteo's study of three slices, which Maugeri sees by a transfer, another one, and one that was corrected."""

    city: RunningCity
    owner: Client
    receiver: Client
    hashes: tuple[str, ...]

    def answers(self) -> Any:
        """What both hospitals are told of the study, but for addresses that change with each answer."""
        told: list[Any] = []
        for client in (self.owner, self.receiver):
            for path in (f"/dicomweb/studies?StudyInstanceUID={STUDY}", f"/dicomweb/studies/{STUDY}/metadata",
                         f"/dicomweb/studies/{STUDY}/series"):  # fmt: skip
                told.append(client.get(path).json())
            manifest = client.get(f"/studies/{STUDY}/manifest").json()
            told.append([{k: v for k, v in instance.items() if k != "url"} for instance in manifest["instances"]])
        told.append(self.owner.get(f"/dicomweb/studies/{CORRECTED}/metadata").json())
        told.append(self.owner.get(f"/studies/{CORRECTED}/versions").json())
        return told

    def operate(self, *arguments: str, expected: int | None = None) -> dict[str, Any]:
        told = io.StringIO()
        with redirect_stdout(told):
            code = operate.main(["--endpoints", str(self.city.state / "endpoints.json"), *arguments, "--json"])
        assert expected is None or code == expected, told.getvalue()
        answer: dict[str, Any] = json.loads(told.getvalue())
        return answer

    @property
    def table(self) -> Any:
        return self.city.aws("dynamodb")

    def key(self, pk: str, sk: str) -> dict[str, Any]:
        return {"TableName": self.city.outputs()["TableName"], "Key": {"pk": {"S": pk}, "sk": {"S": sk}}}

    def item(self, pk: str, sk: str) -> dict[str, Any]:
        found: dict[str, Any] = self.table.get_item(**self.key(pk, sk))["Item"]
        return found

    def remove(self, pk: str, sk: str) -> None:
        assert "Attributes" in self.table.delete_item(**self.key(pk, sk), ReturnValues="ALL_OLD"), (pk, sk)


@pytest.fixture(scope="module")
def world(city: RunningCity) -> World:
    owner, receiver = city.client("san-matteo"), city.client("maugeri")
    contents = [image(study=STUDY, series=str(1 + number // 2), sop=str(number), patient="OPS-1") for number in range(3)]
    sent = send(owner, *contents, image(study=OTHER, patient="OPS-2"))
    assert {status["state"] for status in sent} == {"indexed"}
    visible(owner, STUDY, 3)
    opened = owner.post("/transfers", json={"patient": {"id": "OPS-1"}, "to": "maugeri", "reason": "follow-up"})
    assert opened.status_code == 201
    visible(receiver, STUDY, 3)
    for name in ("Bianchi^Ada", "Bianco^Ada"):
        assert [status["state"] for status in send(owner, image(study=CORRECTED, patient="OPS-3", name=name))] == ["indexed"]
    wait_until(lambda: World(city, owner, receiver, ()).operate("reconcile", "--older-than", "0")["differ"] == 0)
    return World(city, owner, receiver, tuple(hashlib.sha256(content).hexdigest() for content in contents))


def lose_a_fact(world: World) -> None:
    world.remove(f"F#STUDY#san-matteo#{STUDY}", f"I#{STUDY}.1#{STUDY}.1.1")


def lose_a_verdict(world: World) -> None:
    world.remove(f"F#OBJECT#san-matteo#{world.hashes[0]}", ".")


def lose_all_of_an_object(world: World) -> None:
    """As if the bucket had never told of it."""
    lose_a_verdict(world)
    world.remove(f"F#STUDY#san-matteo#{STUDY}", f"I#{STUDY}.1#{STUDY}.1.0")
    world.remove(f"F#SOP#san-matteo#{STUDY}.1.0", ".")


def set_a_letter_aside(world: World) -> None:
    """As if the indexer had given up on an object."""
    lose_all_of_an_object(world)
    key = f"instances/san-matteo/{world.hashes[0]}"
    body = {"Records": [{"s3": {"object": {"key": key, "size": 1}}}]}
    queue = world.city.outputs()["InstancesDeadLetterQueueUrl"]
    world.city.aws("sqs").send_message(QueueUrl=queue, MessageBody=json.dumps(body))


def lose_an_identity(world: World) -> None:
    world.remove(f"F#SOP#san-matteo#{STUDY}.1.1", ".")


def lose_the_metadata(world: World) -> None:
    fact = json.loads(world.item(f"F#STUDY#san-matteo#{STUDY}", f"I#{STUDY}.2#{STUDY}.2.2")["data"]["S"])
    world.city.aws("s3").delete_object(Bucket=world.city.outputs()["BucketName"], Key=fact["part"])


def lose_a_later_version(world: World) -> None:
    world.remove(f"F#STUDY#san-matteo#{CORRECTED}", f"I#{CORRECTED}.1#{CORRECTED}.1.1#000001")


def lose_the_first_of_two_versions(world: World) -> None:
    world.remove(f"F#STUDY#san-matteo#{CORRECTED}", f"I#{CORRECTED}.1#{CORRECTED}.1.1")


def lose_which_version_counts(world: World) -> None:
    world.remove(f"F#SOP#san-matteo#{CORRECTED}.1.1", "CURRENT")


def lose_what_was_told(world: World) -> None:
    world.remove(f"F#FEED#{STUDY}", "san-matteo")


def lose_the_view(world: World) -> None:
    world.remove(f"V#STUDY#{STUDY}", "san-matteo")


def lose_a_row(world: World) -> None:
    world.remove(f"V#SEE#maugeri#{STUDY}", "san-matteo")


def lose_the_tally(world: World) -> None:
    world.remove(f"V#TALLY#san-matteo#{STUDY}", ".")


def lose_a_series(world: World) -> None:
    world.remove(f"V#SERIES#san-matteo#{STUDY}", f"{STUDY}.2")


def lose_whose_study_it_is(world: World) -> None:
    pages = world.table.get_paginator("scan").paginate(TableName=world.city.outputs()["TableName"])
    filed = [item for page in pages for item in page["Items"] if item["pk"]["S"].startswith("F#PATIENT#")]
    (fact,) = [item for item in filed if item["sk"]["S"] == f"UID#san-matteo#{STUDY}"]
    world.remove(fact["pk"]["S"], fact["sk"]["S"])


def change_the_view(world: World) -> None:
    item = world.item(f"V#STUDY#{STUDY}", "san-matteo")
    data = json.loads(item["data"]["S"])
    data["instances"] = 300
    world.table.put_item(TableName=world.city.outputs()["TableName"], Item={**item, "data": {"S": json.dumps(data)}})


def show_it_to_who_may_not_see_it(world: World) -> None:
    item = world.item(f"V#SEE#maugeri#{STUDY}", "san-matteo")
    stray = {**item, "pk": {"S": f"V#SEE#mondino#{STUDY}"}}
    world.table.put_item(TableName=world.city.outputs()["TableName"], Item=stray)


DAMAGES = {
    lose_a_fact: "indexed-without-fact",
    lose_a_verdict: "object-without-verdict",
    lose_all_of_an_object: "object-without-verdict",
    set_a_letter_aside: "letter-set-aside",
    lose_an_identity: "instance-without-identity",
    lose_the_metadata: "metadata-missing",
    lose_a_later_version: "indexed-without-fact",
    lose_the_first_of_two_versions: "indexed-without-fact",
    lose_which_version_counts: "version-without-pointer",
    lose_what_was_told: "study-not-told",
    lose_the_view: "study-without-view",
    lose_a_row: "view-differs",
    lose_the_tally: "view-differs",
    lose_a_series: "view-differs",
    lose_whose_study_it_is: "instance-not-filed",
    change_the_view: "view-differs",
    show_it_to_who_may_not_see_it: "view-differs",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_found_named_and_mended(world: World, damage: Any) -> None:
    before = world.answers()
    damage(world)
    found = world.operate(*RECONCILE, expected=1)["findings"]
    assert DAMAGES[damage] in {finding["kind"] for finding in found}
    assert {finding["study_instance_uid"] for finding in found if "study_instance_uid" in finding} <= {STUDY, OTHER, CORRECTED}
    assert not any(finding["mended"] for finding in found)
    mended = world.operate(*RECONCILE, "--mend", expected=0)
    assert mended["differ"] == mended["mended"] > 0
    wait_until(lambda: world.answers() == before)
    assert world.city.client("mondino").get(f"/dicomweb/studies?StudyInstanceUID={STUDY}").json() == []


def test_bytes_that_are_gone_are_named_and_nothing_pretends_to_mend_them(world: World) -> None:
    """Nobody may delete an instance, an administrator neither: so a fact is made of which there never were any."""
    partition, name = f"F#STUDY#san-matteo#{STUDY}", f"I#{STUDY}.2#{STUDY}.2.9"
    item = world.item(partition, f"I#{STUDY}.2#{STUDY}.2.2")
    data = json.loads(item["data"]["S"]) | {"sha256": "0" * 64}
    stray = {**item, "sk": {"S": name}, "data": {"S": json.dumps(data)}}
    world.table.put_item(TableName=world.city.outputs()["TableName"], Item=stray)
    visible(world.owner, STUDY, 4)
    (finding,) = world.operate("reconcile", "--older-than", "0", "--mend", expected=1)["findings"]
    assert (finding["kind"], finding["study_instance_uid"]) == ("fact-without-object", STUDY)
    assert (finding["sop_instance_uid"], finding["sha256"], finding["mended"]) == (f"{STUDY}.2.9", "0" * 64, False)
    world.remove(partition, name)
    visible(world.owner, STUDY, 3)
    world.operate("reconcile", "--older-than", "0", expected=0)


def test_what_an_administrator_deleted_in_the_bucket_is_brought_back_as_the_manual_says(world: World) -> None:
    """docs/deploy.md, *Restore*: deleting leaves a delete marker, and deleting that brings the object back. Of an instance not
    even a marker is left by anybody: the bucket's policy, which the emulated cloud has from the template alone, is in the way."""
    s3, bucket, before = world.city.aws("s3"), world.city.outputs()["BucketName"], world.answers()
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=bucket, Key=f"instances/san-matteo/{world.hashes[0]}")
    lose_the_metadata(world)
    found = world.operate(*RECONCILE, expected=1)["findings"]
    assert {finding["kind"] for finding in found} == {"metadata-missing"}
    (marker,) = [version for version in s3.list_object_versions(Bucket=bucket).get("DeleteMarkers", []) if version["IsLatest"]]
    s3.delete_object(Bucket=bucket, Key=marker["Key"], VersionId=marker["VersionId"])
    world.operate(*RECONCILE, expected=0)
    assert world.answers() == before


def test_a_gap_in_the_audit_and_a_feed_without_a_study_are_named_and_nothing_pretends_to_mend_them(world: World) -> None:
    table, name = world.table, world.city.outputs()["TableName"]
    pages = table.get_paginator("scan").paginate(TableName=name)
    records = [item for page in pages for item in page["Items"] if item["pk"]["S"].startswith("F#AUDIT#san-matteo#")]
    record = max((item for item in records if item["sk"]["S"].isdigit()), key=lambda item: item["sk"]["S"])
    world.remove(record["pk"]["S"], record["sk"]["S"])
    entry = {"kind": "study-arrived", "at": "2026-01-01T00:00:00.000Z", "owner": "san-matteo", "study_instance_uid": "1.2.709"}
    stray = {"pk": {"S": "F#FEED#maugeri"}, "sk": {"S": f"E#{1:020d}"}, "data": {"S": json.dumps(entry)}}
    table.put_item(TableName=name, Item=stray)
    found = world.operate("reconcile", "--older-than", "0", "--mend", expected=1)["findings"]
    named = {finding["kind"]: finding for finding in found}
    assert set(named) == {"audit-gap", "feed-without-study"}
    assert not any(finding["mended"] for finding in found)
    assert f"F#AUDIT#{named['audit-gap']['shard']}" == record["pk"]["S"]
    assert named["feed-without-study"]["study_instance_uid"] == "1.2.709"
    table.put_item(TableName=name, Item=record)
    world.remove("F#FEED#maugeri", f"E#{1:020d}")
    world.operate("reconcile", "--older-than", "0", expected=0)


def test_what_is_young_is_left_to_the_indexer(world: World) -> None:
    lose_a_verdict(world)
    assert world.operate("reconcile")["findings"] == []
    world.operate("reconcile", "--older-than", "0", "--mend", expected=0)


@contextmanager
def two_hospitals_sending(world: World, root: str) -> Iterator[None]:
    """While it lasts; everything that was sent is there afterwards."""
    stop = threading.Event()
    sent: dict[str, list[str]] = {"san-matteo": [], "mondino": []}

    def keep_sending(hospital: str, number: int) -> None:
        client = world.city.client(hospital)
        while len(sent[hospital]) < 2 or not stop.wait(0.5):
            study = f"{root}{number}.{len(sent[hospital])}"
            assert [status["state"] for status in send(client, image(study=study, patient=f"BUSY-{hospital}"))] == ["indexed"]
            sent[hospital].append(study)

    with ThreadPoolExecutor(2) as pool:
        senders = [pool.submit(keep_sending, hospital, number) for number, hospital in enumerate(sent)]
        try:
            yield
        finally:
            stop.set()
            for sender in senders:
                sender.result(60)
    for hospital, studies in sent.items():
        for study in studies:
            visible(world.city.client(hospital), study)


def test_all_views_are_made_anew_beside_the_old_ones_and_nobody_reads_a_gap(world: World) -> None:
    """Views that were right stay so at every moment; wrong ones are wrong, and then right; missing ones are there again."""
    before, table, name = world.answers(), world.table, world.city.outputs()["TableName"]
    for partition in (f"V#STUDY#{OTHER}", f"V#SEE#san-matteo#{OTHER}"):
        item = world.item(partition, "san-matteo")
        data = json.loads(item["data"]["S"])
        if "00201208" in data["attributes"]:
            data["attributes"]["00201208"]["Value"] = [300]
        table.put_item(TableName=name, Item={**item, "data": {"S": json.dumps(data | {"instances": 300})}})
    stop, same, counts = threading.Event(), list[bool](), list[int]()

    def keep_reading() -> None:
        while True:
            last = stop.is_set()
            same.append(world.answers() == before)
            (found,) = world.city.client("san-matteo").get(f"/dicomweb/studies?StudyInstanceUID={OTHER}").json()
            counts.append(found["00201208"]["Value"][0])
            if last:
                return

    with two_hospitals_sending(world, "1.2.781"), ThreadPoolExecutor(1) as pool:
        reader = pool.submit(keep_reading)
        try:
            wait_until(lambda: counts)
            assert world.operate("rebuild", expected=0)["studies"] >= 3
            world.operate("rebuild", expected=0)
        finally:
            stop.set()
        reader.result(60)
    assert set(same) == {True}
    assert (counts[0], counts[-1], sorted(counts, reverse=True)) == (300, 1, counts), "wrong, and from one moment on right"
    for lose in (lose_the_view, lose_a_row):
        lose(world)
    world.operate("rebuild", expected=0)
    assert world.answers() == before


def test_a_letter_is_shown_with_its_cause_and_tried_again(world: World) -> None:
    lose_all_of_an_object(world)
    key = f"instances/san-matteo/{world.hashes[0]}"
    size = world.city.aws("s3").head_object(Bucket=world.city.outputs()["BucketName"], Key=key)["ContentLength"]
    body = {"Records": [{"s3": {"object": {"key": key, "size": size}}}]}
    queue = world.city.outputs()["InstancesDeadLetterQueueUrl"]
    world.city.aws("sqs").send_message(QueueUrl=queue, MessageBody=json.dumps(body))
    shown = world.operate("letters", "--redrive", expected=0)
    assert [letter["cause"] for letter in shown["letters"]] == [f"{world.hashes[0]}: it can be read now"]
    visible(world.owner, STUDY, 3)
    wait_until(
        lambda: (
            world.owner.post("/uploads/status", json={"sha256": [world.hashes[0]]}).json()["instances"][0]["state"] == "indexed"
        )
    )
    assert world.operate("letters", expected=0)["letters"] == []


def test_a_part_of_the_stream_that_was_given_up_stays_until_a_person_handed_it_on(world: World) -> None:
    """What its facts were to tell is told by the projector alone, and the letter is all that is known of them."""
    queue = world.city.outputs()["ProjectorDeadLetterQueueUrl"]
    told = {"requestContext": {"condition": "RetryAttemptsExhausted"},
            "DDBStreamBatchInfo": {"batchSize": 3, "approximateArrivalOfFirstRecord": "2026-11-30T10:00:00Z"}}  # fmt: skip
    sqs = world.city.aws("sqs")
    sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(told))
    shown = world.operate("letters", "--redrive", expected=1)
    assert [letter["cause"] for letter in shown["letters"]] == ["RetryAttemptsExhausted: 3 facts since 2026-11-30T10:00:00Z"]
    assert shown["redriven"] == 0
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    left = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    assert sum(int(left[name]) for name in names) == 1
    sqs.purge_queue(QueueUrl=queue)


def test_a_job_that_is_not_known_and_a_city_that_is_not_there_are_told_in_words(world: World) -> None:
    answer = world.city.aws("lambda").invoke(FunctionName="contenitore-operate", Payload=json.dumps({"job": "erase-all"}))
    assert "There is no such job" in json.loads(answer["Payload"].read())["error"]
    command = [sys.executable, "-m", "infra.operate", "--endpoints", str(world.city.state / "nowhere.json"), "reconcile"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 2
    assert ran.stderr.startswith("operate: ")


@pytest.mark.parametrize("job", ["reconcile", "rebuild"])
def test_of_an_institution_that_there_never_was_it_is_not_said_that_all_is_well(
    world: World, job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoints = str(world.city.state / "endpoints.json")
    assert operate.main(["--endpoints", endpoints, job, "--institution", "san-mateo"]) == 2
    said = capsys.readouterr()
    assert "There is no such institution" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("job", "place"),
    [("reconcile", "objects:san-mateo:"), ("reconcile", "everything:san-matteo:"), ("rebuild", "feeds:san-matteo:"),
     ("rebuild --institution maugeri", "studies:san-matteo:"), ("reconcile", "::")],
)  # fmt: skip
def test_from_a_place_that_there_is_not_it_is_not_said_that_all_is_well(
    world: World, job: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoints = str(world.city.state / "endpoints.json")
    assert operate.main(["--endpoints", endpoints, *job.split(), "--from", place]) == 2
    said = capsys.readouterr()
    assert "There is no such place to go on from" in said.err
    assert "it goes on with" not in said.err
    assert said.out == ""


SIGN = {
    "version": "0.1.0", "contract": "1", "waiting": 3, "oldest_waiting_seconds": 61.5, "line_open": True,
    "disk_free_bytes": 10**12, "clock_offset_seconds": -0.2, "certificate_days": None, "troubles": ["disk-low"],
}  # fmt: skip


def test_a_forwarder_that_says_how_it_is_is_seen_by_the_operator(world: World) -> None:
    before = world.operate("forwarders", expected=0)["forwarders"]
    assert [forwarder["age_seconds"] for forwarder in before if forwarder["institution"] == "mondino"] == [None]
    answer = world.city.client("mondino").put("/forwarder", json=SIGN)
    assert answer.status_code == 200
    assert answer.json() | SIGN == answer.json()
    (seen,) = [
        forwarder for forwarder in world.operate("forwarders", expected=0)["forwarders"] if forwarder["institution"] == "mondino"
    ]
    assert seen | SIGN == seen
    assert (seen["silent"], seen["archive_contract"]) == (False, "1")
    assert 0 <= seen["age_seconds"] < 60


def test_what_is_wrong_at_a_hospital_is_told_in_words_with_what_to_do(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    said = SIGN | {"troubles": ["disk-low", "unknown-institution", "something-new"], "certificate_days": 6}
    assert world.city.client("mondino").put("/forwarder", json=said).status_code == 200
    assert operate.main(["--endpoints", str(world.city.state / "endpoints.json"), "forwarders"]) == 0
    told = capsys.readouterr().out
    for trouble in ("disk-low", "unknown-institution"):
        assert f"    {trouble}: {texts('en')[f'trouble.{trouble}']}\n        at the hospital: {advise(trouble)}\n" in told
    assert f"        here: {forwarders.HERE['unknown-institution']}\n" in told
    assert "something-new: only docs/forwarder.md of its version, 0.1.0, says what this is" in told
    assert "disk 1000.0 GB free  certificate for 6 days" in told
    assert "san-matteo  no sign of life yet\n    Its forwarder was not started yet" in told


@pytest.mark.parametrize(
    "wrong",
    [{"version": "ROSSI^MARIO"}, {"waiting": "3"}, {"waiting": 1e300}, {"troubles": ["Mario Rossi"]}, {"line_open": "yes"},
     {"troubles": ["a"] * 21}, {"name": "Rossi"}, {"contract": 1}],
)  # fmt: skip
def test_a_sign_of_life_has_no_room_for_anything_else(world: World, wrong: dict[str, Any]) -> None:
    answer = world.city.client("mondino").put("/forwarder", json={**SIGN, **wrong})
    assert answer.status_code == 400
    assert next(iter(wrong)) in answer.text


def test_what_a_hospital_used_in_a_month_is_counted_from_what_there_is(world: World) -> None:
    before = {row["institution"]: row for row in world.operate("usage", expected=0)["usage"]}
    content = image(study="1.2.702", patient="OPS-9")
    send(world.city.client("mondino"), content)
    after = {row["institution"]: row for row in world.operate("usage", expected=0)["usage"]}
    for name, added in (("instances", 1), ("bytes", len(content)), ("stored_instances", 1), ("stored_bytes", len(content))):
        assert after["mondino"][name] - before["mondino"][name] == added
        assert after["maugeri"][name] == before["maugeri"][name]
    assert after["mondino"]["requests"] > before["mondino"]["requests"]
    assert after["mondino"]["cost_usd"] > before["mondino"]["cost_usd"]
    of_before = {row["institution"]: row for row in world.operate("usage", "--month", "2020-01", expected=0)["usage"]}
    assert not any(of_before["mondino"][name] for name in ("instances", "bytes", "stored_instances", "requests"))


OF_FACTS = (lose_a_fact, set_a_letter_aside, lose_a_later_version)
OF_THE_REST = (lose_the_metadata, lose_a_row, change_the_view)


def test_everything_at_once_is_mended_while_two_hospitals_send(world: World) -> None:
    """And everything that was sent meanwhile is there afterwards."""
    before = world.answers()
    with two_hospitals_sending(world, "1.2.782"):
        for damage in OF_FACTS:
            damage(world)
        visible(world.owner, STUDY, 1)  # the projector makes views of what is left: those are then damaged too
        for damage in OF_THE_REST:
            damage(world)
        kinds = {finding["kind"] for finding in world.operate(*RECONCILE, expected=1)["findings"]}
        assert kinds >= {
            "object-without-verdict",
            "indexed-without-fact",
            "metadata-missing",
            "view-differs",
            "letter-set-aside",
        }
        wait_until(lambda: world.operate(*RECONCILE, "--mend")["differ"] == 0)
        wait_until(lambda: world.answers() == before)
    wait_until(lambda: world.operate("reconcile", "--older-than", "0")["differ"] == 0)
