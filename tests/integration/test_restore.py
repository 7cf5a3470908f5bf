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
    """Put the table's items of that moment in the place of those of now. The bucket, and who is who, stay."""
    with closing(sqlite3.connect(state / "city.sqlite", isolation_level=None)) as database:
        database.execute("ATTACH DATABASE ? AS 'then'", (str(backup),))
        names = [
            row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'items:%'")
        ]
        assert names, "the emulator keeps its tables otherwise"
        for name in names:
            database.execute(f'DELETE FROM main."{name}"')
            database.execute(f'INSERT INTO main."{name}" SELECT * FROM "then"."{name}"')


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
        with closing(sqlite3.connect(city.state / "city.sqlite")) as now, closing(sqlite3.connect(tmp_path / "then")) as then:
            now.backup(then)
        to = datetime.now(UTC)
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
        assert (code, "a rehearsal" in said) == (0, True), said
