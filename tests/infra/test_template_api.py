"""The packaged template's API: who gets in, by which address, and what the gateway writes down."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

from chalicelib.api import routes
from infra import throttles, transform

Template = dict[str, Any]


def _stage(template: Template) -> Template:
    """The one stage of the one API."""
    (stage,) = [
        resource["Properties"] for resource in template["Resources"].values() if resource["Type"] == "AWS::ApiGateway::Stage"
    ]
    return dict(stage)


def _routes(template: Template) -> Iterator[tuple[str, str, Template]]:
    """(method, path, operation) of each route."""
    for path, operations in template["Resources"]["RestAPI"]["Properties"]["Body"]["paths"].items():
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
    body = template["Resources"]["RestAPI"]["Properties"]["Body"]
    definition = body["securityDefinitions"][scheme]
    assert definition["x-amazon-apigateway-authtype"] == "awsSigv4"
    assert (definition["in"], definition["name"]) == ("header", "Authorization")


def test_health_is_public(template: Template) -> None:
    assert ("GET", "/health") in {(method, path) for method, path, _ in _routes(template)}


def test_bodies_that_are_not_text_arrive_as_they_were_sent(template: Template) -> None:
    binary = template["Resources"]["RestAPI"]["Properties"]["Body"]["x-amazon-apigateway-binary-media-types"]
    needed = {"multipart/related", "application/dicom", "application/octet-stream"}
    assert "*/*" in binary or needed <= set(binary)


def test_the_api_is_regional_under_the_stage_that_the_policies_name(template: Template) -> None:
    assert template["Resources"]["RestAPI"]["Properties"]["EndpointConfiguration"] == {"Types": ["REGIONAL"]}
    named = set(re.findall(r"\$\{RestAPI\}/([a-z]+)/", json.dumps(template["Resources"]["OperatorPolicy"])))
    assert named == {_stage(template)["StageName"]} == {"api"}


def test_a_custom_domain_is_optional_and_has_no_stage_in_its_addresses(template: Template) -> None:
    for name in ("ApiDomain", "ApiDomainMapping"):
        assert template["Resources"][name]["Condition"] == "HasDomain"
    assert "BasePath" not in template["Resources"]["ApiDomainMapping"]["Properties"]
    assert template["Outputs"]["ApiUrl"]["Value"] == {
        "Fn::If": [
            "HasDomain",
            {"Fn::Sub": "https://${DomainName}"},
            {"Fn::Sub": "https://${RestAPI}.execute-api.${AWS::Region}.${AWS::URLSuffix}/${RestAPIapiStage}"},
        ]
    }


def test_no_log_or_trace_of_the_gateway_can_hold_a_patient_number(template: Template) -> None:
    """Paths and queries have patient numbers in them; error texts and callers can name people."""
    stage = _stage(template)
    assert stage["TracingEnabled"] is False
    variables = set(re.findall(r"\$context\.([A-Za-z.]+)", stage["AccessLogSetting"]["Format"]))
    assert variables == {
        "requestId",
        "requestTime",
        "identity.sourceIp",
        "httpMethod",
        "resourcePath",
        "status",
        "responseLength",
        "responseLatency",
        "integrationLatency",
        "error.responseType",
    }
    json.loads(stage["AccessLogSetting"]["Format"])
    for settings in stage["MethodSettings"]:
        assert settings["LoggingLevel"] == "OFF"
        assert settings["DataTraceEnabled"] is False


def test_what_the_gateway_answers_by_itself_is_part_of_the_api_that_every_deployment_has(template: Template) -> None:
    """A resource of its own would race with the first deployment, and the next import of the definition would drop it."""
    assert not [
        name for name, resource in template["Resources"].items() if resource["Type"] == "AWS::ApiGateway::GatewayResponse"
    ]
    answers = template["Resources"]["RestAPI"]["Properties"]["Body"]["x-amazon-apigateway-gateway-responses"]
    for kind in ("DEFAULT_4XX", "DEFAULT_5XX", "REQUEST_TOO_LARGE", "THROTTLED", "WAF_FILTERED"):
        assert answers[kind]["responseParameters"]["gatewayresponse.header.Access-Control-Allow-Origin"] == "'*'", kind
    too_large = answers["REQUEST_TOO_LARGE"]
    assert too_large["statusCode"] == "413"
    assert "POST /uploads" in json.loads(too_large["responseTemplates"]["application/json"])["detail"]
    for kind in ("THROTTLED", "WAF_FILTERED"):
        assert answers[kind]["statusCode"] == "429"
        assert "gatewayresponse.header.Retry-After" in answers[kind]["responseParameters"]
        assert json.loads(answers[kind]["responseTemplates"]["application/json"])["status"] == 429


def test_another_answer_of_the_gateway_is_another_deployment(sam: Template, template: Template) -> None:
    changed = copy.deepcopy(sam)
    body = changed["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]
    body["x-amazon-apigateway-gateway-responses"]["THROTTLED"]["statusCode"] = "503"
    assert _deployments(transform.transformed(changed)) != _deployments(template)


def _deployments(template: Template) -> set[str]:
    return {name for name, resource in template["Resources"].items() if resource["Type"] == "AWS::ApiGateway::Deployment"}


def test_the_gateways_own_preflights_answer_though_every_media_type_is_binary(template: Template) -> None:
    """Without it a mock integration of an API that takes `*/*` for binary answers 500."""
    mocks = [
        operation["x-amazon-apigateway-integration"]
        for _, _, operation in _routes(template)
        if operation["x-amazon-apigateway-integration"]["type"] == "mock"
    ]
    assert mocks
    assert all(mock["contentHandling"] == "CONVERT_TO_TEXT" for mock in mocks)


def test_each_route_without_a_signature_has_a_limit_of_its_own_below_that_of_all(sam: Template, template: Template) -> None:
    general, *own = _stage(template)["MethodSettings"]
    assert (general["HttpMethod"], general["ResourcePath"]) == ("*", "/*")
    assert [
        (setting["HttpMethod"], setting["ResourcePath"].replace("~1", "/")[1:]) for setting in own
    ] == throttles.public_routes(sam)
    assert ("GET", "/health") in throttles.public_routes(sam)
    assert {path for _, path in throttles.public_routes(sam)} == {
        path for rows in routes.ROUTES.values() for _, path, *marks in rows if routes.PUBLIC in marks
    }
    for setting in own:
        assert 0 < setting["ThrottlingRateLimit"] < general["ThrottlingRateLimit"], setting
        assert setting["ThrottlingBurstLimit"] <= general["ThrottlingBurstLimit"], setting
        assert (setting["DataTraceEnabled"], setting["LoggingLevel"]) == (False, "OFF"), setting


def test_the_firewall_is_optional_counts_what_needs_no_signature_and_keeps_no_sample_of_it(template: Template) -> None:
    assert int(template["Parameters"]["AnonymousRequestsPerAddress"]["Default"]) == 0
    for name in ("Firewall", "FirewallOfTheApi"):
        assert template["Resources"][name]["Condition"] == "HasFirewall"
    firewall = template["Resources"]["Firewall"]["Properties"]
    (rule,) = firewall["Rules"]
    counted = re.compile(rule["Statement"]["RateBasedStatement"]["ScopeDownStatement"]["RegexMatchStatement"]["RegexString"])
    for method, path, operation in _routes(template):
        public = not operation.get("security") and operation["x-amazon-apigateway-integration"]["type"] != "mock"
        if method != "OPTIONS":
            assert bool(counted.search(path)) is bool(counted.search(f"/api{path}")) is public, path
    for seen in (firewall["VisibilityConfig"], rule["VisibilityConfig"]):
        assert seen["SampledRequestsEnabled"] is False
