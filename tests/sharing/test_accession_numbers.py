"""Accession numbers belong to an issuer: two hospitals' 4711 are two orders, and each goes out with whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.sharing.api import Api, api_over
from tests.sharing.images import image
from tests.world import OIDS, A, B, C

OWN, SHARED, NAMED, PLAIN, REPORTED = "1.2.10", "1.2.11", "1.2.12", "1.2.13", "1.2.14"
ISSUER = "00080051"


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """B has its own 4711, and sees A's of another patient, and one whose images name their issuer."""
    with api_over() as made:
        world = made.world
        world.send(B, image("9", OWN, accession="4711", name="Verdi^Zoe"))
        world.send(A, image("1", SHARED, accession="4711"))
        world.send(A, image("1", NAMED, accession="4711", accession_issuer="RIS-1"))
        world.send(A, image("1", PLAIN))
        world.send(A, image("1", REPORTED, accession="9", accession_issuer="RIS-1"))
        world.settle()
        asked = {"patient": {"id": "1"}, "to": B, "reason": "discharge"}
        assert made.call(A, "POST", "/transfers", body=asked).status == 201
        world.now = datetime.now(UTC)
        world.settle()
        yield made


def found(api: Api, who: str, *query: tuple[str, str], level: str = "studies") -> set[str]:
    answer = api.call(who, "GET", f"/dicomweb/{level}", query)
    assert answer.status == 200, answer.body
    return {result["0020000D"]["Value"][0] for result in answer.json}


@pytest.mark.parametrize("level", ["studies", "series", "instances"])
@pytest.mark.parametrize("value", ["4711", "47*", "47?1"])
@pytest.mark.parametrize("key", ["AccessionNumber", "00080050"])
def test_a_number_alone_is_the_callers_own(api: Api, key: str, value: str, level: str) -> None:
    query = (key, value)
    assert found(api, B, query, level=level) == {OWN}
    assert found(api, A, query, level=level) == {SHARED, NAMED}
    assert found(api, C, query, level=level) == set()


def test_a_number_alone_is_the_callers_own_whatever_else_is_asked(api: Api) -> None:
    number = ("AccessionNumber", "4711")
    assert found(api, B, number, ("PatientID", "1")) == set()
    assert found(api, B, number, ("StudyInstanceUID", SHARED)) == set()
    assert found(api, B, number, ("PatientName", "Bianchi*")) == set()
    assert found(api, B, number, ("owner", A)) == set()
    assert api.call(B, "GET", "/dicomweb/studies/{study}/series", [number], study=SHARED).json == []
    assert len(api.call(B, "GET", "/dicomweb/studies/{study}/series", study=SHARED).json) == 1


@pytest.mark.parametrize(
    "path",
    [
        "IssuerOfAccessionNumberSequence.UniversalEntityID",
        "00080051.00400032",
        "IssuerOfAccessionNumberSequence.LocalNamespaceEntityID",
        "00080051.00400031",
    ],
)
def test_with_an_issuer_it_is_that_owners(api: Api, path: str) -> None:
    by_oid = path.endswith(("ID", "32")) and not path.endswith("NamespaceEntityID")
    for who, owner, studies in ((B, A, {SHARED, NAMED}), (B, B, {OWN}), (A, A, {SHARED, NAMED}), (A, B, set()), (C, A, set())):
        issuer = OIDS[owner] if by_oid else owner
        assert found(api, who, ("AccessionNumber", "4711"), (path, issuer)) == studies
    assert found(api, B, ("AccessionNumber", "4712"), (path, OIDS[A] if by_oid else A)) == set()


def test_the_issuer_that_the_images_name_is_one_too(api: Api) -> None:
    assert found(api, B, ("AccessionNumber", "4711"), (f"{ISSUER}.00400031", "RIS-1")) == {NAMED}
    assert found(api, B, ("AccessionNumber", "4711"), (f"{ISSUER}.00400031", "RIS-2")) == set()


def issuer(owner: str) -> dict[str, Any]:
    return {
        "vr": "SQ",
        "Value": [
            {
                "00400031": {"vr": "UT", "Value": [owner]},
                "00400032": {"vr": "UT", "Value": [OIDS[owner]]},
                "00400033": {"vr": "CS", "Value": ["ISO"]},
            }
        ],
    }


@pytest.mark.parametrize("who", [A, B])
def test_the_issuer_is_answered_and_filled_where_the_images_have_none(api: Api, who: str) -> None:
    named = {"vr": "SQ", "Value": [{"00400031": {"vr": "UT", "Value": ["RIS-1"]}}]}
    for study, expected in ((SHARED, issuer(A)), (NAMED, named), (PLAIN, None)):
        (row,) = api.call(who, "GET", "/dicomweb/studies", [("StudyInstanceUID", study)]).json
        assert row.get(ISSUER) == expected
        parameters = {"study": study, "series": f"{study}.1", "instance": f"{study}.1.1"}
        for route in ("", "/series/{series}", "/series/{series}/instances/{instance}"):
            used = {name: value for name, value in parameters.items() if name == "study" or name in route}
            answer = api.call(who, "GET", f"/dicomweb/studies/{{study}}{route}/metadata", **used)
            assert answer.status == 200
            (metadata,) = answer.json
            assert metadata.get(ISSUER) == expected
            assert list(metadata) == sorted(metadata)


def test_the_number_of_a_report_goes_with_that_of_its_study(api: Api) -> None:
    text = {"Content-Type": "text/plain; charset=utf-8"}
    made = api.call(A, "POST", "/studies/{study}/reports", body=b"nothing found", headers=text, study=REPORTED)
    assert made.status == 201, made.body
    api.world.settle()
    series = made.json["series_instance_uid"]
    (metadata,) = api.call(A, "GET", "/dicomweb/studies/{study}/series/{series}/metadata", study=REPORTED, series=series).json
    assert metadata[ISSUER]["Value"] == [{"00400031": {"vr": "UT", "Value": ["RIS-1"]}}]
