"""The packaged template's API: who gets in, by which address, and what the gateway writes down."""

import json
import re
from collections.abc import Iterator
from typing import Any

Template = dict[str, Any]


def _routes(template: Template) -> Iterator[tuple[str, str, Template]]:
    """(method, path, operation) of each route."""
    for path, operations in template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


def test_every_route_but_the_public_ones_wants_a_signature(template: Template) -> None:
    """Public: health, what a link's token opens, and preflights, which the gateway answers itself (mock)."""
    for method, path, operation in _routes(template):
        preflight = method == "OPTIONS" and operation["x-amazon-apigateway-integration"]["type"] == "mock"
        public = preflight or (method, path) == ("GET", "/health") or path.startswith("/view/")
        schemes = [name for entry in operation.get("security", []) for name in entry]
        assert bool(schemes) is not public, f"{method} {path}"
        for scheme in schemes:
            _assert_iam(template, scheme)


def _assert_iam(template: Template, scheme: str) -> None:
    body = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]
    definition = body["securityDefinitions"][scheme]
    assert definition["x-amazon-apigateway-authtype"] == "awsSigv4"
    assert (definition["in"], definition["name"]) == ("header", "Authorization")


def test_health_is_public(template: Template) -> None:
    assert ("GET", "/health") in {(method, path) for method, path, _ in _routes(template)}


def test_bodies_that_are_not_text_arrive_as_they_were_sent(template: Template) -> None:
    binary = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]["x-amazon-apigateway-binary-media-types"]
    needed = {"multipart/related", "application/dicom", "application/octet-stream"}
    assert "*/*" in binary or needed <= set(binary)


def test_the_api_is_regional_under_the_stage_that_the_policies_name(template: Template) -> None:
    api = template["Resources"]["RestAPI"]["Properties"]
    assert api["EndpointConfiguration"] == "REGIONAL" or api["EndpointConfiguration"] == {"Type": "REGIONAL"}
    named = set(re.findall(r"\$\{RestAPI\}/([a-z]+)/", json.dumps(template["Resources"]["OperatorPolicy"])))
    assert named == {api["StageName"]} == {"api"}


def test_a_custom_domain_is_optional_and_has_no_stage_in_its_addresses(template: Template) -> None:
    for name in ("ApiDomain", "ApiDomainMapping"):
        assert template["Resources"][name]["Condition"] == "HasDomain"
    assert "BasePath" not in template["Resources"]["ApiDomainMapping"]["Properties"]
    assert template["Outputs"]["ApiUrl"]["Value"] == {
        "Fn::If": [
            "HasDomain",
            {"Fn::Sub": "https://${DomainName}"},
            {"Fn::Sub": "https://${RestAPI}.execute-api.${AWS::Region}.${AWS::URLSuffix}/${RestAPI.Stage}"},
        ]
    }


def test_no_log_or_trace_of_the_gateway_can_hold_a_patient_number(template: Template) -> None:
    """Paths and queries have patient numbers in them; error texts and callers can name people."""
    api = template["Resources"]["RestAPI"]["Properties"]
    assert api["TracingEnabled"] is False
    variables = set(re.findall(r"\$context\.([A-Za-z.]+)", api["AccessLogSetting"]["Format"]))
    assert variables == {
        "requestId",
        "requestTime",
        "httpMethod",
        "resourcePath",
        "status",
        "responseLength",
        "responseLatency",
        "integrationLatency",
        "error.responseType",
    }
    json.loads(api["AccessLogSetting"]["Format"])
    for settings in api["MethodSettings"]:
        assert settings["LoggingLevel"] == "OFF"
        assert settings["DataTraceEnabled"] is False
