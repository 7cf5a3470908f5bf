"""Who is believed: the proxy at a named address, and nobody else; and what is answered where nobody can be known."""

from __future__ import annotations

import pytest
import requests

from forwarder.web.identity import RefusedError, checked_name
from tests.integration.door.doors import MONDINO, Doors

PAGES = [
    "/transfers",
    "/patients",
    "/queue",
    "/dicomweb/studies",
    "/IHEInvokeImageDisplay?requestType=STUDY&studyUID=1.2",
    "/open?study=1.2",
]
EVERYTHING = {"X-Remote-User": "root", "X-Remote-Roles": "registry,radiology,privacy,admin"}


def test_without_an_identity_configured_there_is_the_queue_and_nothing_else(doors: Doors):
    doors.with_site(MONDINO, '[identity]\nheader = ""\nroles_header = ""\n')
    try:
        page = doors.endpoints(MONDINO)["page"]
        for path in ("/", "/health", "/metrics", "/status.json"):
            assert requests.get(page + path, timeout=60).status_code == 200
        for path in PAGES:
            assert requests.get(page + path, headers=EVERYTHING, timeout=60).status_code == 404, path
    finally:
        doors.put_back(MONDINO)


def test_headers_from_an_address_that_is_not_the_proxys_name_nobody(doors: Doors):
    doors.with_site(MONDINO, '[identity]\ntrusted = ["10.0.0.0/8"]\n')
    try:
        page = doors.endpoints(MONDINO)["page"]
        for more in ({}, {"X-Forwarded-For": "10.0.0.1"}, {"Forwarded": "for=10.0.0.1"}, {"X-Real-IP": "10.0.0.1"}):
            for path in PAGES:
                assert requests.get(page + path, headers=EVERYTHING | more, timeout=60).status_code == 403, path
    finally:
        doors.put_back(MONDINO)


@pytest.mark.parametrize("path", PAGES)
def test_without_a_person_in_the_request_nothing_is_answered(doors: Doors, path: str):
    page = doors.endpoints(MONDINO)["page"]
    for headers in ({}, {"X-Remote-Roles": EVERYTHING["X-Remote-Roles"]}, {"X-Remote-User": ""}, {"X-Forwarded-User": "root"}):
        assert requests.get(page + path, headers=headers, timeout=60).status_code == 401


@pytest.mark.parametrize("name", ["(null)", "-", "%{REMOTE_USER}e", "{http.auth.user.id}", "${user}", "<nil>"])
def test_what_a_proxy_writes_where_it_knows_of_nobody_is_nobody(doors: Doors, name: str):
    page = doors.endpoints(MONDINO)["page"]
    for path in ("/transfers", "/dicomweb/studies"):
        assert requests.get(page + path, headers=EVERYTHING | {"X-Remote-User": name}, timeout=60).status_code == 401


GROUPS = [f"CN=group-{number:04}" for number in range(400)]


@pytest.mark.parametrize(
    ("groups", "status"),
    [
        ([*GROUPS, "registry"], 200),
        (["Registry", *GROUPS], 200),
        (["not-registry", "registry-readers", "not registry", "registry;x", "cn=registry"], 403),
    ],
)
def test_a_role_is_a_whole_name_and_stands_anywhere(doors: Doors, groups: list[str], status: int):
    headers = {"X-Remote-User": "m.rossi", "X-Remote-Roles": ",".join(groups)}
    assert requests.get(doors.endpoints(MONDINO)["page"] + "/transfers", headers=headers, timeout=60).status_code == status


@pytest.mark.parametrize("path", PAGES)
def test_without_a_roles_header_nobody_has_a_role(doors: Doors, path: str):
    page = doors.endpoints(MONDINO)["page"]
    assert requests.get(page + path, headers={"X-Remote-User": "m.rossi"}, timeout=60).status_code == 403


def test_a_name_has_64_characters_of_printable_ascii() -> None:
    assert checked_name("n" * 64) == "n" * 64
    for name in ("n" * 65, "n\u00f2", "n\n", ""):
        with pytest.raises(RefusedError):
            checked_name(name)
