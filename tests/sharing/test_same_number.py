"""Two hospitals gave one number to two persons: a search by it never lays the exams of the one beside those of the other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.sharing.api import Api, api_over
from tests.sharing.images import image
from tests.world import OIDS, A, B

SHARED, OWN, LINKED, FREE = "1.2.20", "1.2.21", "1.2.22", "1.2.23"


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """A's 1003 is Ada, whom B, once it has accepted her, calls 1004; B's 1003 is Zoe. A's 7 is nobody's number at B."""
    with api_over() as made:
        made.world.send(A, image("1003", SHARED, name="Bianchi^Ada"), image("7", FREE, name="Neri^Ugo"))
        made.world.send(B, image("1003", OWN, name="Verdi^Zoe"), image("1004", LINKED, name="Bianchi^Ada"))
        made.world.settle()
        for number in ("1003", "7"):
            asked = {"patient": {"id": number}, "to": B, "reason": "discharge"}
            assert made.call(A, "POST", "/transfers", body=asked).status == 201
        made.world.now = datetime.now(UTC)
        made.world.settle()
        yield made


def found(api: Api, *query: tuple[str, str]) -> set[str]:
    return {result["0020000D"]["Value"][0] for result in api.call(B, "GET", "/dicomweb/studies", query).json}


@pytest.mark.parametrize("accepted", [False, True])
def test_a_number_of_ones_own_means_that_patient_whoever_else_is_called_so(api: Api, accepted: bool) -> None:
    if accepted:
        waiting = api.call(B, "GET", "/transfers", [("direction", "incoming")]).json["transfers"]
        (transfer,) = (opened["id"] for opened in waiting if opened["patient"]["id"] == "1003")
        path = "/transfers/{transfer}/receiving-patient"
        assert api.call(B, "PUT", path, body={"id": "1004"}, transfer=transfer).status == 200
        api.world.settle()
        assert found(api, ("PatientID", "1004")) == {SHARED, LINKED}
    assert found(api, ("PatientID", "1003")) == {OWN}
    assert SHARED in found(api, ("PatientID", "1003"), ("IssuerOfPatientID", OIDS[A]))
    assert found(api, ("PatientID", "7")) == {FREE}, "a number that is nobody's here finds whoever has it"
