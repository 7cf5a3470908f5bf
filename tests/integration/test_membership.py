"""Who is a member, by the public door: nothing that once stood for one hospital stands for another, and nobody changes unseen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.harness import Client, RunningCity, running_city, wait_until
from tests.integration.hospital import new_uid, send
from tests.world import image

OTHER = "arn:aws:iam::222222222222:role/somebody-else"
CONFLICT = "urn:contenitore:problem:conflict"


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCity]:
    with running_city(tmp_path_factory.mktemp("membership"), "--member-accounts", "222222222222") as running:
        yield running


def put(city: RunningCity, institution: str, **body: Any) -> requests.Response:
    return city.client("operator").put(f"/institutions/{institution}", json=body)


def join(city: RunningCity, institution: str, number: int) -> str:
    """A hospital with a role and an OID of its own; its role."""
    role = f"arn:aws:iam::222222222222:role/{institution}"
    made = put(city, institution, name=institution, role_arn=role, patient_id_issuer=f"2.16.99.{number}")
    assert made.status_code == 201, made.text
    return role


def told(client: Client) -> list[dict[str, Any]]:
    return [change for change in client.get("/changes?limit=1000").json()["changes"] if change["kind"] == "membership-changed"]


def changes_told(client: Client) -> list[str]:
    """Of its own membership: that another one left is told to whoever is a member when that is projected."""
    (own,) = [
        institution["id"] for institution in client.get("/institutions").json()["institutions"] if "role_arn" in institution
    ]
    return [change["change"] for change in told(client) if change["institution"] == own]


def hears(client: Client, expected: list[str]) -> None:
    """Wait until its feed has told these changes of its membership, in this order, and no others."""
    wait_until(lambda: len(changes_told(client)) >= len(expected))
    assert changes_told(client) == expected


def audited(client: Client) -> list[str]:
    """What the audit of an institution says of its own membership, newest first."""
    entries = client.get("/audit?limit=1000").json().get("entry", [])
    texts = []
    for entry in entries:
        kinds = {sub["code"] for sub in entry["resource"]["subtype"]}
        texts += [e["description"] for e in entry["resource"]["entity"] if "administration" in kinds and "description" in e]
    return texts


def test_a_new_role_of_a_member_counts_when_the_member_says_so(city: RunningCity) -> None:
    role = join(city, "sesto", 6)
    before = city.credentials("sesto")
    sesto = city.client(None, before)
    wanted = role + "-new"
    asked = put(city, "sesto", role_arn=wanted)
    assert (asked.status_code, asked.json()["role_arn"], asked.json()["proposed_role_arn"]) == (200, role, wanted)
    published = city.aws_requests().get("sns:Publish", 0)
    own = next(institution for institution in sesto.get("/institutions").json()["institutions"] if institution["id"] == "sesto")
    assert (own["proposed_role_arn"], own["takes_effect_at"]) == (wanted, asked.json()["takes_effect_at"])
    (proposed,) = wait_until(lambda: [change for change in told(sesto) if change["institution"] == "sesto"])
    assert published <= city.aws_requests()["sns:Publish"] > 0, "an alert went out before it stood in the feed"
    assert (proposed["change"], proposed["proposed_role_arn"]) == ("role-proposed", wanted)
    assert any(text.startswith("role-proposed") and wanted in text for text in audited(sesto))
    assert put(city, "sesto", role_arn=wanted).json()["takes_effect_at"] == asked.json()["takes_effect_at"], "asked again"
    assert put(city, "sesto", name="Sesto").json()["proposed_role_arn"] == wanted, "what is absent stays"

    assert city.client("operator").post("/institutions/sesto/confirm", json={}).status_code == 403
    assert city.client("maugeri").post("/institutions/sesto/confirm", json={}).status_code == 403
    assert sesto.post("/institutions/sesto/confirm", json={"role_arn": OTHER}).status_code == 409
    for body in ("null", "[]", '"x"', '{"role_arn": 1}', '{"role": "x"}'):
        refused = sesto.post("/institutions/sesto/confirm", data=body, headers={"Content-Type": "application/json"})
        assert refused.status_code == 400, body
    confirmed = sesto.post("/institutions/sesto/confirm", json={"role_arn": wanted})
    assert (confirmed.status_code, confirmed.json()["role_arn"]) == (200, wanted)
    assert "proposed_role_arn" not in confirmed.json()
    assert sesto.get("/institutions").status_code == 403, "the old role is a stranger's"
    renewed = city.client("sesto")
    assert city.credentials("sesto").access_key != before.access_key
    hears(renewed, ["role-proposed", "changed", "role-changed"])
    assert renewed.post("/institutions/sesto/confirm").status_code == 409
    assert city.client("operator").delete("/institutions/sesto").status_code == 200


def test_an_operator_who_thinks_better_of_it_withdraws_the_new_role(city: RunningCity) -> None:
    role = join(city, "settimo", 7)
    assert "proposed_role_arn" in put(city, "settimo", role_arn=role + "-new").json()
    assert "proposed_role_arn" not in put(city, "settimo", role_arn=role).json()
    assert city.client("settimo").post("/institutions/settimo/confirm").status_code == 409
    hears(city.client("settimo"), ["role-proposed", "role-withdrawn"])
    assert city.client("operator").delete("/institutions/settimo").status_code == 200


def test_what_was_one_hospitals_is_never_anothers(city: RunningCity) -> None:
    role = join(city, "ottavo", 8)
    send(city.client("ottavo"), image(study=new_uid(), patient="O-1"))
    taken = put(city, "nono", name="Nono", role_arn=role, patient_id_issuer="2.16.99.9")
    assert (taken.status_code, taken.json()["type"]) == (409, CONFLICT)
    assert put(city, "ottavo", role_arn=role + "-new").status_code == 200
    assert put(city, "nono", name="Nono", role_arn=role + "-new", patient_id_issuer="2.16.99.9").status_code == 409, "it waits"
    ottavo = city.client("ottavo")
    assert ottavo.post("/institutions/ottavo/confirm").status_code == 200
    assert put(city, "nono", name="Nono", role_arn=role, patient_id_issuer="2.16.99.9").status_code == 409, "it once was"
    assert city.client("operator").delete("/institutions/ottavo").status_code == 200

    for body in ({"role_arn": OTHER, "patient_id_issuer": "2.16.99.9"}, {"role_arn": role, "patient_id_issuer": "2.16.99.9"}):
        again = put(city, "ottavo", name="Another house", **body)
        assert (again.status_code, again.json()["type"]) == (409, CONFLICT), "its id"
    for role_arn in (role, role + "-new"):
        assert put(city, "nono", name="Nono", role_arn=role_arn, patient_id_issuer="2.16.99.9").status_code == 409, "its roles"
    assert put(city, "nono", name="Nono", role_arn=OTHER, patient_id_issuer="2.16.99.8").status_code == 409, "its OID"

    back = put(city, "ottavo", name="Ottavo", role_arn=OTHER, patient_id_issuer="2.16.99.8")
    assert (back.status_code, back.json()["role_arn"], back.json()["proposed_role_arn"]) == (201, role + "-new", OTHER), (
        "who comes back under another role waits as well: else leaving and coming back would be the way around"
    )
    assert city.client("operator").delete("/institutions/ottavo").status_code == 200


def test_an_issuer_changes_until_a_fact_names_it(city: RunningCity) -> None:
    join(city, "decimo", 10)
    assert put(city, "decimo", patient_id_issuer="2.16.99.11").status_code == 200, "a slip of the pen is put right"
    decimo = city.client("decimo")
    send(decimo, image(study=new_uid(), patient="D-1"))
    wait_until(lambda: decimo.get("/dicomweb/studies").json())
    changed = put(city, "decimo", patient_id_issuer="2.16.99.12")
    assert (changed.status_code, changed.json()["type"]) == (409, CONFLICT)
    assert put(city, "decimo", patient_id_issuer="2.16.99.11").status_code == 200
    assert city.client("operator").delete("/institutions/decimo").status_code == 200


@pytest.mark.parametrize(
    "oid",
    [
        f"2.16.840.1.113883.2.9{arc}"
        for arc in (".4.3.2", ".4.3.17", ".4.3.18", ".4.3.7", ".4.3.3", ".2.30.4.1", ".2.90.4.1", ".4.3", ".4", ".2", ".2.30", "")
    ],
)
def test_the_numbers_of_the_state_and_of_the_regions_are_no_hospitals_own(city: RunningCity, oid: str) -> None:
    refused = put(city, "stato", name="Stato", role_arn="arn:aws:iam::222222222222:role/stato", patient_id_issuer=oid)
    assert (refused.status_code, refused.json()["parameter"]) == (400, "patient_id_issuer")
    assert put(city, "mondino", patient_id_issuer=oid).status_code == 400


@pytest.mark.parametrize("path", ["", "somewhere/"])
def test_the_operators_role_is_no_hospitals(city: RunningCity, path: str) -> None:
    """Else whoever the operator's role is given to, once the city has another operator, would be that hospital."""
    role = f"arn:aws:iam::123456789012:role/{path}contenitore-operator"
    assert put(city, "mondino", role_arn=role).status_code == 409
    assert put(city, "gestore", name="Gestore", role_arn=role, patient_id_issuer="2.16.99.77").status_code == 409
    assert "proposed_role_arn" not in city.client("mondino").get("/institutions").text


def test_everybody_is_told_of_one_that_leaves_and_it_of_its_own_changes_only(city: RunningCity) -> None:
    join(city, "undicesimo", 21)
    assert put(city, "undicesimo", ae_titles=["UNDICI"]).status_code == 200
    hears(city.client("undicesimo"), ["changed"])
    mondino = city.client("mondino")
    assert not [change for change in told(mondino) if change["institution"] == "undicesimo"]
    assert city.client("operator").delete("/institutions/undicesimo").status_code == 200
    (gone,) = wait_until(lambda: [change for change in told(mondino) if change["institution"] == "undicesimo"])
    assert gone["change"] == "removed"
    assert "removed" in audited(mondino)
