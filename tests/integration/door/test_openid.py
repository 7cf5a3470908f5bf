"""Signing in at the hospital's identity provider: a real one (authlib's server), in a thread of the test."""

from __future__ import annotations

import base64
import html
import json
import re
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from playwright.sync_api import Browser, expect

from tests.browser.chromium import new_context
from tests.integration.door.doors import MONDINO, Doors

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the provider's own, of authlib's older names
CLIENT = "contenitore"
ENGLISH = {"Accept-Language": "en"}


@dataclass
class Provider:
    issuer: str
    page: str
    site: str


@pytest.fixture(scope="module")
def provider(doors: Doors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """Mondino's staff sign in here, and nobody is believed by header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library still uses names that authlib gives up
        from oidc_provider_mock import User, run_server_in_thread

    people = [
        User(sub="dr.neri", claims={"roles": ["radiology", "registry"]}),
        User(sub="anna", claims={"roles": "registry"}),
        User(sub="guest", claims={}),
        User(sub="reader", claims={"roles": "not registry"}),
        User(sub="trainee", claims={"roles": ["not-registry", "registry of births", {"registry": True}, ["registry"]]}),
        User(sub="primario", claims={"roles": [*(f"group-{number}" for number in range(300)), "registry"]}),
        User(sub="n\u00f2", claims={"roles": ["registry"]}),
    ]
    secret = tmp_path_factory.mktemp("oidc") / "secret"
    secret.write_text("s3cret\n")
    with run_server_in_thread(user_claims=people, require_nonce=True) as server:
        issuer = f"http://localhost:{server.server_port}"
        site = (
            f'[identity]\nheader = ""\nroles_header = ""\n[identity.oidc]\nissuer = "{issuer}"\nclient_id = "{CLIENT}"\n'
            f'client_secret_file = "{secret}"\n'
        )
        doors.with_site(MONDINO, site)
        yield Provider(issuer, doors.endpoints(MONDINO)["page"], site)
        doors.put_back(MONDINO)


def signed_in(provider: Provider, person: str, path: str = "/transfers") -> tuple[requests.Session, requests.Response]:
    """A browser after the person signed in for a page, and what it got."""
    browser = requests.Session()
    asked = browser.get(provider.page + path, allow_redirects=False, timeout=60)
    assert asked.status_code == 302 and asked.headers["Location"].startswith(provider.issuer)
    back = browser.post(asked.headers["Location"], data={"sub": person}, allow_redirects=False, timeout=60)
    return browser, browser.get(back.headers["Location"], timeout=60)


def form_token(answer: requests.Response) -> str:
    found = re.search(r'name="token" value="([0-9a-f]+)"', answer.text)
    assert found
    return found[1]


def tokens(provider: Provider, person: str, client: str = CLIENT) -> dict[str, str]:
    """What a viewer gets for a person, by its own flow with the provider."""
    query = {
        "response_type": "code", "client_id": client, "redirect_uri": "https://viewer.example/cb", "scope": "openid",
        "nonce": f"n-{time.time_ns()}", "state": "s",
    }  # fmt: skip
    asked = requests.Request("GET", provider.issuer + "/oauth2/authorize", params=query).prepare().url
    back = requests.post(str(asked), data={"sub": person}, allow_redirects=False, timeout=60)
    code = parse_qs(urlsplit(back.headers["Location"]).query)["code"][0]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": query["redirect_uri"]}
    answer = requests.post(provider.issuer + "/oauth2/token", data=form, auth=(client, "s3cret"), timeout=60)
    found: dict[str, str] = answer.json()
    return found


def studies(provider: Provider, token: str) -> requests.Response:
    return requests.get(provider.page + "/dicomweb/studies?limit=1", headers={"Authorization": f"Bearer {token}"}, timeout=60)


class TestPeople:
    def test_whoever_is_not_signed_in_goes_to_the_provider_and_back_to_the_page(self, provider: Provider):
        browser, answer = signed_in(provider, "anna")
        assert (answer.status_code, answer.url) == (200, provider.page + "/transfers")
        assert "anna" in answer.text
        assert browser.get(provider.page + "/transfers", allow_redirects=False, timeout=60).status_code == 200

    def test_the_flow_is_code_with_pkce_and_a_nonce(self, provider: Provider):
        asked = requests.get(provider.page + "/transfers", allow_redirects=False, timeout=60)
        query = parse_qs(urlsplit(asked.headers["Location"]).query)
        assert (query["response_type"], query["code_challenge_method"]) == (["code"], ["S256"])
        assert query["nonce"] and query["state"] and query["code_challenge"]
        assert query["redirect_uri"] == [provider.page + "/signed-in"]

    def test_the_cookie_is_for_this_door_alone_and_changes_with_signing_in(self, provider: Provider):
        asked = requests.get(provider.page + "/transfers", allow_redirects=False, timeout=60)
        assert "HttpOnly" in asked.headers["Set-Cookie"] and "SameSite=lax" in asked.headers["Set-Cookie"]
        browser, _ = signed_in(provider, "anna")
        assert browser.cookies["contenitore_session"] != asked.cookies["contenitore_session"]

    def test_an_answer_of_the_provider_counts_once_and_only_in_the_browser_that_asked(self, provider: Provider):
        browser = requests.Session()
        asked = browser.get(provider.page + "/transfers", allow_redirects=False, timeout=60)
        back = browser.post(asked.headers["Location"], data={"sub": "anna"}, allow_redirects=False, timeout=60)
        assert requests.get(back.headers["Location"], timeout=60).status_code == 403, "another browser"
        assert browser.get(back.headers["Location"], timeout=60).status_code == 200
        assert browser.get(back.headers["Location"], timeout=60).status_code == 403, "again"

    @pytest.mark.parametrize("person", ["guest", "reader", "trainee"])
    def test_who_has_no_role_is_told(self, provider: Provider, person: str):
        browser, answer = signed_in(provider, person)
        assert answer.status_code == 403
        assert person in answer.text, "as whom"
        gone = browser.post(provider.page + "/sign-out", data={"token": form_token(answer)}, timeout=60)
        assert gone.url == provider.page + "/signed-out"

    def test_a_role_counts_wherever_among_many_groups_it_stands(self, provider: Provider):
        assert signed_in(provider, "primario")[1].status_code == 200

    def test_a_name_that_no_audit_can_hold_is_refused(self, provider: Provider):
        _, answer = signed_in(provider, "n\u00f2")
        assert answer.status_code == 403

    def test_a_header_names_nobody_where_none_is_trusted(self, provider: Provider):
        headers = {"X-Remote-User": "root", "X-Remote-Roles": "registry,radiology"}
        assert requests.get(provider.page + "/transfers", headers=headers, allow_redirects=False, timeout=60).status_code == 302
        assert requests.get(provider.page + "/dicomweb/studies", headers=headers, timeout=60).status_code == 401

    def test_whoever_signs_out_is_known_no_longer_here_nor_at_the_provider(self, provider: Provider):
        browser, answer = signed_in(provider, "anna")
        before = browser.cookies["contenitore_session"]
        gone = browser.post(provider.page + "/sign-out", data={"token": form_token(answer)}, timeout=60)
        assert (gone.status_code, gone.url) == (200, provider.page + "/signed-out"), "no redirect leads from a form elsewhere"
        assert browser.cookies["contenitore_session"] != before
        leads = urlsplit(gone.headers["Refresh"].removeprefix("0; url="))
        asked = parse_qs(leads.query)
        assert f"{leads.scheme}://{leads.netloc}{leads.path}" == provider.issuer + "/oauth2/end_session"
        assert asked["post_logout_redirect_uri"] == [provider.page + "/signed-out"] and asked["client_id"] == [CLIENT]
        claims = asked["id_token_hint"][0].split(".")[1]
        assert json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sub"] == "anna"
        forged = browser.get(provider.page + "/signed-out?state=x", headers=ENGLISH, timeout=60)
        assert "may still be signed in" in forged.text and "Refresh" not in forged.headers
        told = browser.get(leads.geturl(), timeout=60)
        confirmed = re.search(r'name="redirect_uri" value="([^"]+)"', told.text)
        assert confirmed
        back = browser.get(html.unescape(confirmed[1]), headers=ENGLISH, timeout=60)
        assert "You are signed out here and at the hospital's identity provider." in back.text
        assert browser.get(provider.page + "/transfers", allow_redirects=False, timeout=60).status_code == 302

    def test_a_browser_goes_to_the_provider_and_going_back_shows_nothing(self, provider: Provider, browser: Browser):
        with new_context(browser, locale="en-GB") as context:
            page = context.new_page()
            page.goto(provider.page + "/transfers")
            page.fill("input[name=sub]", "anna")
            page.press("input[name=sub]", "Enter")
            page.get_by_role("button", name="Sign out").click()
            page.get_by_role("button", name="End session").click()
            expect(page.locator("main")).to_contain_text("signed out here and at the hospital's identity provider")
            for _ in range(4):
                page.go_back()
                assert page.get_by_role("button", name="Sign out").count() == 0

    def test_tabs_that_a_browser_opens_at_once_are_all_signed_in(self, provider: Provider):
        browser = requests.Session()
        paths = ["/transfers", "/patients", "/waiting"]
        asked = [browser.get(provider.page + path, allow_redirects=False, timeout=60) for path in paths]
        for path, tab in zip(paths, asked, strict=True):
            back = browser.post(tab.headers["Location"], data={"sub": "anna"}, allow_redirects=False, timeout=60)
            shown = browser.get(back.headers["Location"], timeout=60)
            assert (shown.status_code, shown.url) == (200, provider.page + path)
        assert browser.get(back.headers["Location"], timeout=60).status_code == 403, "once"

    def test_behind_https_the_cookies_are_of_this_host_alone(self, provider: Provider, doors: Doors):
        doors.with_site(MONDINO, provider.site + '[web]\npublic_url = "https://door.example"\n')
        try:
            page = doors.endpoints(MONDINO)["page"]
            asked = requests.get(page + "/transfers", allow_redirects=False, timeout=60)
            cookie = asked.headers["Set-Cookie"]
            assert cookie.startswith("__Host-contenitore_session=") and "Secure" in cookie and "Domain" not in cookie
            back = requests.post(asked.headers["Location"], data={"sub": "anna"}, allow_redirects=False, timeout=60)
            back = page + back.headers["Location"].removeprefix("https://door.example")
            held = cookie.partition(";")[0]
            planted = requests.get(back, headers={"Cookie": held.removeprefix("__Host-")}, timeout=60)
            assert planted.status_code == 403
            signed = requests.get(back, headers={"Cookie": held}, allow_redirects=False, timeout=60)
            held = signed.headers["Set-Cookie"].partition(";")[0]
            assert requests.get(page + "/transfers", headers={"Cookie": held}, timeout=60).status_code == 200
        finally:
            doors.with_site(MONDINO, provider.site)

    def test_who_signs_in_next_in_that_browser_is_asked_for_the_password_until_somebody_did(self, provider: Provider):
        browser, answer = signed_in(provider, "anna")
        assert "prompt" not in parse_qs(urlsplit(answer.history[0].url).query)
        browser.post(provider.page + "/sign-out", data={"token": form_token(answer)}, timeout=60)
        for _ in range(2):
            asked = browser.get(provider.page + "/transfers", allow_redirects=False, timeout=60)
            assert parse_qs(urlsplit(asked.headers["Location"]).query)["prompt"] == ["login"]
        back = browser.post(asked.headers["Location"], data={"sub": "dr.neri"}, allow_redirects=False, timeout=60)
        assert "dr.neri" in browser.get(back.headers["Location"], timeout=60).text
        assert "contenitore_again" not in browser.cookies
        assert browser.get(provider.page + "/signed-out", timeout=60).url == provider.page + "/", "who is signed in is not out"

    def test_a_form_that_comes_after_the_session_says_so(self, provider: Provider):
        answer = requests.post(provider.page + "/transfers", data={"token": "x"}, headers=ENGLISH, timeout=60)
        assert answer.status_code == 401 and "Your session has ended. Nothing was done" in answer.text

    @pytest.mark.parametrize("query", ["", "?code=x", "?state=x&code=y", "?error=access_denied"])
    def test_nobody_is_signed_in_by_an_answer_that_was_not_asked_for(self, provider: Provider, query: str):
        assert requests.get(provider.page + "/signed-in" + query, timeout=60).status_code == 403

    def test_the_queue_is_everybodys(self, provider: Provider):
        assert requests.get(provider.page + "/", timeout=60).status_code == 200


class TestViewers:
    def test_a_token_of_the_person_opens_dicomweb_as_the_person(self, provider: Provider):
        found = tokens(provider, "dr.neri")
        assert studies(provider, found["id_token"]).status_code == 200

    @pytest.mark.parametrize("client", [CLIENT, "another"])
    def test_a_token_that_does_not_say_for_which_client_it_is_opens_nothing(self, provider: Provider, client: str):
        assert studies(provider, tokens(provider, "dr.neri", client)["access_token"]).status_code == 401

    def test_where_the_hospital_says_so_it_is_shown_to_the_provider(self, provider: Provider, doors: Doors):
        doors.with_site(MONDINO, provider.site + "opaque_tokens = true\n")
        try:
            there = Provider(provider.issuer, doors.endpoints(MONDINO)["page"], provider.site)
            assert studies(there, tokens(there, "dr.neri")["access_token"]).status_code == 200
            assert studies(there, tokens(there, "guest")["access_token"]).status_code == 403
        finally:
            doors.with_site(MONDINO, provider.site)

    def test_so_does_the_session_of_a_browser(self, provider: Provider):
        browser, _ = signed_in(provider, "dr.neri")
        assert browser.get(provider.page + "/dicomweb/studies?limit=1", timeout=60).status_code == 200

    @pytest.mark.parametrize("person", ["anna", "guest"])
    def test_without_the_role_it_opens_nothing(self, provider: Provider, person: str):
        assert studies(provider, tokens(provider, person)["id_token"]).status_code == 403

    def test_a_token_of_another_client_is_refused(self, provider: Provider):
        answer = studies(provider, tokens(provider, "dr.neri", "another")["id_token"])
        assert (answer.status_code, answer.json()["type"]) == (401, "urn:contenitore:problem:token-of-another-client")

    @pytest.mark.parametrize("token", ["", "x", "a.b.c", "x" * 20_000, "\u00e8"])
    def test_no_token_is_no_person(self, provider: Provider, token: str):
        answer = studies(provider, token.encode().decode("latin-1"))
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")

    def test_what_somebody_else_signed_is_refused(self, provider: Provider):
        now = int(time.time())
        claims = {"iss": provider.issuer, "aud": CLIENT, "sub": "dr.neri", "exp": now + 300, "iat": now, "roles": ["radiology"]}
        keys = requests.get(provider.issuer + "/jwks", timeout=60).json()["keys"]
        public = json.dumps(keys[0]).encode()
        kid = keys[0].get("kid")
        unsigned = b".".join(
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "none"}, claims)
        ).decode()
        forged = [
            jwt.encode({"alg": "RS256", "kid": kid}, claims, RSAKey.generate_key(2048)),
            jwt.encode({"alg": "HS256", "kid": kid}, claims, OctKey.import_key(public), algorithms=["HS256"]),
            unsigned + ".",
        ]
        assert [studies(provider, token).status_code for token in forged] == [401, 401, 401]

    def test_an_expired_one_and_one_of_another_provider_too(self, provider: Provider):
        header, payload, signature = tokens(provider, "dr.neri")["id_token"].split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        for change in ({"exp": claims["exp"] - 90_000}, {"iss": "https://evil.example"}, {"roles": ["admin"]}):
            body = base64.urlsafe_b64encode(json.dumps(claims | change).encode()).rstrip(b"=").decode()
            assert studies(provider, f"{header}.{body}.{signature}").status_code == 401


def test_no_token_and_no_cookie_stands_in_the_log(doors: Doors, provider: Provider):
    found = tokens(provider, "dr.neri")
    studies(provider, found["id_token"])
    studies(provider, found["id_token"] + "x")
    log = (Path(doors.city.state) / "logs" / f"forwarder-{MONDINO}.log").read_text()
    assert found["id_token"][:40] not in log and "s3cret" not in log
