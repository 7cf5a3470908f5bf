"""Every route × every relation, generated from the app's own routes: a route that is no kind of the table fails.

A study of San Matteo is shared with Maugeri by a transfer. Whoever is no party is answered as if there were nothing.
"""

import hashlib
import json
from pathlib import Path

import pytest
import requests
from pydicom import dcmread
from pydicom.data import get_testdata_file

from tests.harness import RunningCity, running_city, wait_until

STUDY_PARTS = ("{study}",)
OWNERS = ("/readings", "/versions", "/withdrawals")
"""What is told of a study to its owner alone."""
PUBLIC = ("/health", "/view")
OPERATORS = {("PUT", "/institutions/{institution}"), ("DELETE", "/institutions/{institution}")} | {
    (method, "/institutions/{institution}/erasure") for method in ("GET", "PUT", "DELETE")
}
OWN_OR_NOBODY = ("{transfer}", "{link}", "{emergency}", "{objection}", "{consent}", "{patient}", "/uploads/{sha256}")
OPEN_TO_MEMBERS = {
    "/audit", "/changes", "/emergency-access", "/forwarder", "/institutions", "/links", "/procedure-names", "/retention",
    "/transfers",
    "/uploads", "/uploads/status",
    "/dicomweb", "/dicomweb/studies", "/dicomweb/series", "/dicomweb/instances", "/dicomweb/wado",
    "/dicomweb/commitment-requests/{transaction}",
}  # fmt: skip
"""Routes that name nothing of anybody: they answer what the caller may see, which may be nothing."""


def _routes() -> list[tuple[str, str, bool]]:
    import app

    return sorted(
        (method, path, route.authorizer is None) for path, methods in app.app.routes.items() for method, route in methods.items()
    )


def _kind(method: str, path: str) -> str:
    if path.startswith(PUBLIC):
        return "public"
    if (method, path) in OPERATORS:
        return "operator"
    if (method, path) == ("POST", "/institutions/{institution}/confirm"):
        return "itself"
    if any(part in path for part in STUDY_PARTS):
        return "study"
    if any(part in path for part in OWN_OR_NOBODY):
        return "named"
    assert path in OPEN_TO_MEMBERS, f"{method} {path} has no row in the matrix: say whom it answers"
    return "open"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):
    with running_city(tmp_path_factory.mktemp("matrix")) as city:
        body = Path(get_testdata_file("CT_small.dcm")).read_bytes()
        image = dcmread(get_testdata_file("CT_small.dcm"), stop_before_pixels=True)
        owner = city.client("san-matteo")
        sha = hashlib.sha256(body).hexdigest()
        offer = owner.post("/uploads", json={"instances": [{"sha256": sha, "size": len(body)}]}).json()["instances"][0]
        requests.put(offer["upload"]["url"], data=body, headers=offer["upload"]["headers"], timeout=60)
        wait_until(lambda: owner.get(f"/dicomweb/studies?StudyInstanceUID={image.StudyInstanceUID}").json())
        transfer = owner.post("/transfers", json={"patient": {"id": image.PatientID}, "to": "maugeri", "reason": "matrix"}).json()
        receiver = city.client("maugeri")
        wait_until(lambda: receiver.get(f"/dicomweb/studies?StudyInstanceUID={image.StudyInstanceUID}").json())
        names = {
            "study": image.StudyInstanceUID, "series": image.SeriesInstanceUID, "instance": image.SOPInstanceUID,
            "sop": image.SOPInstanceUID, "frames": "1", "bulkdata": "7FE00010", "transfer": transfer["id"],
            "patient": image.PatientID, "institution": "san-matteo", "link": "0" * 24, "objection": "0" * 24,
            "consent": "0" * 24, "withdrawal": "0" * 24, "sha256": "0" * 64, "emergency": "0" * 32, "transaction": "1.2.3.4",
            "reader": "x", "erasure": "0" * 24,
        }  # fmt: skip
        yield city, names


QUERIES = {"/patients/{patient}/priors": "?description=TC%20TORACE"}
"""What a route needs to be asked."""


def _ask(city: RunningCity, who: str | None, method: str, path: str, names: dict[str, str]) -> requests.Response:
    client = city.client(who)
    body = None if method in {"GET", "HEAD", "DELETE", "OPTIONS"} else json.dumps({"reason": "no reason at all"})
    headers = {"Content-Type": "application/json"} if body else {}
    asked = path.format(**names) + QUERIES.get(path, "")
    return client.request(method, asked, data=body, headers=headers, allow_redirects=False)


@pytest.mark.parametrize(("method", "path", "public"), _routes())
def test_who_signs_nothing_gets_nothing(shared, method: str, path: str, public: bool):
    city, names = shared
    kind = _kind(method, path)
    assert public == (kind == "public")
    if not public:
        answer = _ask(city, None, method, path, names)
        assert answer.status_code == 403
        assert method == "HEAD" or set(answer.json()) == {"message"}


READS = [(m, p) for m, p, public in _routes() if m == "GET" and not public]


@pytest.mark.parametrize(("method", "path"), [row for row in READS if _kind(*row) == "study"])
def test_a_study_is_read_by_its_owner_and_the_receiver_and_by_nobody_else(shared, method: str, path: str):
    city, names = shared
    for party in ("san-matteo", "maugeri"):
        status = _ask(city, party, method, path, names).status_code
        assert status in {200, 307, 406, 404, 400}
        if not any(word in path for word in ("reports/{sop}", "pixeldata", "bulkdata", "thumbnail", "rendered")):
            read = party == "san-matteo" or not path.endswith(OWNERS)
            assert status in ({200, 307, 406} if read else {404}), (party, status)
    stranger = _ask(city, "mondino", method, path, names)
    absent = _ask(city, "mondino", method, path, {**names, "study": "1.2.3.4.5"})
    assert stranger.status_code == absent.status_code == 404
    assert {**stranger.json(), "request_id": ""} == {**absent.json(), "request_id": ""}
    assert _ask(city, "operator", method, path, names).status_code == 403


@pytest.mark.parametrize(("method", "path"), [row for row in READS if _kind(*row) == "named"])
def test_what_is_named_is_answered_to_its_parties_and_is_nothing_to_others(shared, method: str, path: str):
    city, names = shared
    stranger = _ask(city, "mondino", method, path, names)
    assert stranger.status_code == 404 or (stranger.status_code == 200 and "san-matteo" not in stranger.text)
    assert _ask(city, "operator", method, path, names).status_code == 403


@pytest.mark.parametrize(("method", "path"), [(m, p) for m, p, public in _routes() if not public and m not in {"GET", "HEAD"}])
def test_a_stranger_changes_nothing_of_others(shared, method: str, path: str):
    city, names = shared
    if _kind(method, path) == "open":
        return
    answer = _ask(city, "mondino", method, path, names)
    expected = {403} if _kind(method, path) in {"operator", "itself"} else {400, 404, 409, 415}
    assert answer.status_code in expected
    assert city.client("maugeri").get(f"/studies/{names['study']}/manifest").status_code == 200


def test_nobody_is_answered_who_is_not_registered(shared):
    city, names = shared
    iam, sts = city.aws("iam"), city.aws("sts")
    statement = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    try:
        iam.create_role(RoleName="nobody", AssumeRolePolicyDocument=trust)
        made = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/nobody", RoleSessionName="nobody")["Credentials"]
    except Exception as error:  # the emulated cloud may keep the operator from making roles, as AWS would
        pytest.skip(f"no unregistered role can be had here: {type(error).__name__}")
    from botocore.credentials import Credentials

    client = city.client(None, Credentials(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"]))
    answer = client.get(f"/studies/{names['study']}/manifest")
    assert answer.status_code == 403
    assert answer.json().get("type", "").endswith("unknown-institution") or "Message" in answer.json()


def test_a_transfer_is_of_an_own_patient_never_of_another_institutions_number(shared):
    city, _ = shared
    members = city.client("operator").get("/institutions").json()["institutions"]
    foreign = next(member["patient_id_issuer"] for member in members if member["id"] == "maugeri")
    for issuer in (foreign, f"{foreign}/other numbering"):
        body = {"patient": {"id": "MG-1", "issuer": issuer}, "to": "maugeri", "reason": "curiosity"}
        answer = city.client("san-matteo").post("/transfers", json=body)
        assert (answer.status_code, answer.json()["parameter"]) == (400, "patient.issuer")
