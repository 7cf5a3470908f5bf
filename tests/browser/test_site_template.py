"""The site in AWS has the headers that the local city serves, and that the browser tests ran with."""

from __future__ import annotations

import json
from typing import Any

from infra.templates import load
from tests.harness import ROOT

HEADERS = json.loads((ROOT / "viewer" / "headers.json").read_text())
TEMPLATE: dict[str, Any] = load(ROOT / "infra" / "viewer.yaml")


def _policy(name: str) -> str:
    properties = TEMPLATE["Resources"][name]["Properties"]["ResponseHeadersPolicyConfig"]
    found = properties["SecurityHeadersConfig"]["ContentSecurityPolicy"]["ContentSecurityPolicy"]
    text = found if isinstance(found, str) else found["Fn::Sub"]
    return str(text).replace("${ApiOrigin}", "{api}").replace("${ImagesOrigin}", "{s3}")


def test_the_policies_are_the_same_here_and_in_aws() -> None:
    for name, kind in (("PageHeaders", "page"), ("OhifHeaders", "ohif"), ("DecoderHeaders", "decoder")):
        assert _policy(name) == HEADERS[kind]["Content-Security-Policy"]


def test_no_page_may_evaluate_text_and_ours_may_not_run_inline_scripts() -> None:
    for kind in ("page", "ohif"):
        policy = HEADERS[kind]["Content-Security-Policy"]
        assert "'unsafe-eval'" not in policy
        assert "script-src 'self'" in policy
        assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]


def test_the_decoder_which_may_can_reach_nobody() -> None:
    assert HEADERS["decoder"]["Content-Security-Policy"].endswith("connect-src 'self'")


def test_every_response_keeps_the_address_to_itself() -> None:
    for name in ("PageHeaders", "OhifHeaders", "DecoderHeaders"):
        config = TEMPLATE["Resources"][name]["Properties"]["ResponseHeadersPolicyConfig"]
        assert config["SecurityHeadersConfig"]["ReferrerPolicy"]["ReferrerPolicy"] == HEADERS["all"]["Referrer-Policy"]
        custom = {item["Header"]: item["Value"] for item in config["CustomHeadersConfig"]["Items"]}
        assert custom.items() <= HEADERS["all"].items()


def test_nobody_else_may_frame_the_site_in_old_browsers_either() -> None:
    for name, kind in (("PageHeaders", "page"), ("OhifHeaders", "ohif")):
        config = TEMPLATE["Resources"][name]["Properties"]["ResponseHeadersPolicyConfig"]["SecurityHeadersConfig"]
        assert config["FrameOptions"]["FrameOption"] == HEADERS[kind]["X-Frame-Options"]
