"""The table restored to an earlier moment, the bucket as it is: docs/deploy.md, *Restore*, as far as the emulated cloud reaches.

Point-in-time recovery is stood in for by the file of that moment; the steps around it are those of the manual.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, redirect_stdout
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

from infra import audit, operate
from local.processes import free_port
from tests.harness import RunningCity, running_city, wait_until
from tests.integration.hospital import send, ticked, visible
from tests.world import image

KEPT, LATER, PATIENT = "1.2.881", "1.2.882", "RESTORE-1"


def run(main: Any, city: RunningCity, *arguments: str) -> tuple[int, str]:
    said = StringIO()
    with redirect_stdout(said):
        code = main([*arguments, "--endpoints", str(city.state / "endpoints.json")])
    return code, said.getvalue()


def reconciled(city: RunningCity) -> Any:
    said = StringIO()
    with redirect_stdout(said):
        operate.main(["--endpoints", str(city.state / "endpoints.json"), "reconcile", "--older-than", "0", "--mend", "--json"])
    return json.loads(said.getvalue())


def restore(state: Path, backup: Path) -> None:
    """Put the table's items of that moment in the place of those of now, in a table that is made now. The bucket, and who is
    who, stay."""
    with closing(sqlite3.connect(state / "city.sqlite", isolation_level=None)) as database:
        database.execute("ATTACH DATABASE ? AS 'then'", (str(backup),))
        names = [
            row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'items:%'")
        ]
        assert names, "the emulator keeps its tables otherwise"
        for name in names:
            database.execute(f'DELETE FROM main."{name}"')
            database.execute(f'INSERT INTO main."{name}" SELECT * FROM "then"."{name}"')
        made = json.dumps(datetime.now(UTC).replace(tzinfo=None).isoformat())
        moved = database.execute("UPDATE settings SET value = ? WHERE name LIKE 'created:%'", (made,)).rowcount
        assert moved == len(names), "the emulator keeps elsewhere when a table was made"


def snapshot(city: RunningCity, file: Path) -> datetime:
    """Keep the table as it is now; the moment."""
    with closing(sqlite3.connect(city.state / "city.sqlite")) as now, closing(sqlite3.connect(file)) as then:
        now.backup(then)
    return datetime.now(UTC)


def items_of(city: RunningCity) -> list[Any]:
    pages = city.aws("dynamodb").get_paginator("scan").paginate(TableName=city.outputs()["TableName"])
    return [item for page in pages for item in page["Items"]]


def put_beside(city: RunningCity, items: list[Any]) -> str:
    """The table of before under another name, as its backup gives it."""
    client, name = city.aws("dynamodb"), "before"
    described = client.describe_table(TableName=city.outputs()["TableName"])["Table"]
    client.create_table(TableName=name, **{part: described[part] for part in ("KeySchema",)}, BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")])  # fmt: skip
    for item in items:
        client.put_item(TableName=name, Item=item)
    return name


def objects_of(city: RunningCity, owner: str) -> list[str]:
    listed = city.aws("s3").list_object_versions(Bucket=city.outputs()["BucketName"], Prefix=f"instances/{owner}/")
    return sorted(version["Key"] for version in listed.get("Versions", []))


def answers(city: RunningCity, *studies: str) -> list[Any]:
    client = city.client("san-matteo")
    return [client.get(f"/dicomweb/studies/{study}/metadata").json() for study in studies]


def test_after_a_restore_everything_that_was_acknowledged_is_there_and_the_audit_says_what_was_lost(tmp_path: Path) -> None:
    port = free_port(3)  # answers have addresses
    with running_city(tmp_path / "state", port=port) as city:
        owner, other = city.client("san-matteo"), city.client("maugeri")
        send(owner, *[image(study=KEPT, sop=str(number), patient=PATIENT) for number in range(2)])
        visible(owner, KEPT, 2)
        transfer = {"patient": {"id": PATIENT}, "to": "maugeri", "reason": "follow-up"}
        assert owner.post("/transfers", json=transfer).status_code == 201
        visible(other, KEPT, 2)
        ticked(city, "anchor_audit")
        to = snapshot(city, tmp_path / "then")
        send(owner, image(study=KEPT, sop="7", patient=PATIENT), image(study=LATER, patient="RESTORE-2"))
        visible(owner, KEPT, 3)
        visible(owner, LATER)
        assert owner.get(f"/studies/{LATER}/manifest").status_code == 200
        before = answers(city, KEPT, LATER)
        ticked(city, "anchor_audit")
    restore(city.state, tmp_path / "then")

    with running_city(tmp_path / "state", port=port) as city:
        owner, other = city.client("san-matteo"), city.client("maugeri")
        assert run(audit.main, city, "verify")[0] == 1, "what the anchors saw is gone"
        moment = ["--to", to.isoformat(), "--reason", "a rehearsal", "--profile", "administrator"]
        assert run(audit.main, city, "restored", *moment)[0] == 0
        wait_until(lambda: reconciled(city)["differ"] == 0)
        visible(owner, KEPT, 3)
        visible(owner, LATER)
        visible(other, KEPT, 3)
        wait_until(lambda: answers(city, KEPT, LATER) == before)
        assert owner.get(f"/studies/{LATER}/manifest").status_code == 200
        ticked(city, "anchor_audit")
        code, said = run(audit.main, city, "verify")
        assert (code, "a rehearsal" in said) == (4, True), said


def test_what_was_forbidden_or_taken_back_after_the_moment_restored_to_is_so_after_the_restore(tmp_path: Path) -> None:
    port = free_port(3)
    with running_city(tmp_path / "state", port=port) as city:
        owner, other = city.client("san-matteo"), city.client("maugeri")
        send(owner, image(study=KEPT, patient=PATIENT), image(study=LATER, patient="RESTORE-2"))
        visible(owner, KEPT)
        visible(owner, LATER)
        transfer = {"patient": {"id": PATIENT}, "to": "maugeri", "reason": "follow-up"}
        assert owner.post("/transfers", json=transfer).status_code == 201
        visible(other, KEPT)
        shown = owner.post("/patients/RESTORE-2/erasures", json={}).json()
        order = {"reason": "the patient asks", "after_days": 0, "confirm": shown["confirm"]}
        made = owner.post("/patients/RESTORE-2/erasures", json=order).json()
        to = snapshot(city, tmp_path / "then")
        assert owner.delete(f"/patients/RESTORE-2/erasures/{made['id']}").status_code == 200
        assert owner.post(f"/patients/{PATIENT}/objections", json={}).status_code == 201
        assert other.get(f"/studies/{KEPT}/manifest").status_code == 404
        there, items = objects_of(city, "san-matteo"), items_of(city)
        assert len(there) == 2
    restore(city.state, tmp_path / "then")

    with running_city(tmp_path / "state", port=port) as city:
        owner, other = city.client("san-matteo"), city.client("maugeri")
        ran = ticked(city, "erase_due")
        assert (ran["orders"], ran["waiting"]) == (0, 1), "whatever the operator forgot to stop"
        assert objects_of(city, "san-matteo") == there
        moment = ["--to", to.isoformat(), "--reason", "a rehearsal", "--profile", "administrator"]
        assert run(audit.main, city, "restored", *moment)[0] == 0
        carried = carry_over(city, put_beside(city, items))
        assert carried["carried_over"] == {"san-matteo": {"erasures taken back": 1, "objections": 1}}
        assert carry_over(city, "before")["carried_over"] == {}
        wait_until(lambda: reconciled(city)["differ"] == 0)
        assert other.get(f"/studies/{KEPT}/manifest").status_code == 404
        assert other.get(f"/dicomweb/studies?StudyInstanceUID={KEPT}").json() == []
        visible(owner, KEPT)
        ran = ticked(city, "erase_due")
        assert (ran["waiting"], objects_of(city, "san-matteo")) == (0, there)
        assert owner.delete(f"/patients/RESTORE-2/erasures/{made['id']}").status_code == 404, "it is taken back"


def carry_over(city: RunningCity, table: str) -> Any:
    """What ends or hides, from the table of before."""
    said = StringIO()
    with redirect_stdout(said):
        where = ["--endpoints", str(city.state / "endpoints.json"), "--profile", "administrator"]
        assert operate.main([*where, "carry-over", "--from", table, "--json"]) == 0
    return json.loads(said.getvalue())
