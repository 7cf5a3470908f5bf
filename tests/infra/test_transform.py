"""What is checked is what CloudFormation's transform makes of the template: each way to break it is seen before a deployment."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra import package as packaging

Template = dict[str, Any]


def _resource(template: Template, name: str) -> Template:
    properties: Template = template["Resources"][name]["Properties"]
    return properties


def _misspelt_event_property(template: Template) -> None:
    source = _resource(template, "IndexInstances")["Events"]["IndexInstancesSqsEventSource"]["Properties"]
    source["FunctionResponseType"] = source.pop("FunctionResponseTypes")


def _misspelt_event_type(template: Template) -> None:
    _resource(template, "IndexInstances")["Events"]["IndexInstancesSqsEventSource"]["Type"] = "SQSQueue"


def _event_without_its_source(template: Template) -> None:
    del _resource(template, "ProjectFacts")["Events"]["ProjectFactsDynamodbEventSource"]["Properties"]["Stream"]


def _reference_to_nothing(template: Template) -> None:
    _resource(template, "APIHandler")["Environment"]["Variables"]["VIEWER_BASE_URL"] = {"Ref": "Tabel"}


def _attribute_of_nothing(template: Template) -> None:
    _resource(template, "APIHandler")["LoggingConfig"]["LogGroup"] = {"Fn::GetAtt": ["ApiHandlerLog", "Arn"]}


def _substitution_of_nothing(template: Template) -> None:
    _resource(template, "APIHandler")["Environment"]["Variables"]["BUCKET_NAME"] = {"Fn::Sub": "${ImageBucket}"}


def _attribute_that_is_none(template: Template) -> None:
    _resource(template, "APIHandler")["Environment"]["Variables"]["TABLE_NAME"] = {"Fn::GetAtt": ["Table", "Nam"]}


def _cycle(template: Template) -> None:
    """The queue's policy names the bucket itself, and the bucket waits for that policy."""
    statement = _resource(template, "InstancesQueuePolicy")["PolicyDocument"]["Statement"][0]
    statement["Condition"]["ArnEquals"]["aws:SourceArn"] = {"Fn::GetAtt": ["ImagesBucket", "Arn"]}


def _cycle_through_what_the_transform_adds(template: Template) -> None:
    """A function is told the API's address, and the API the function's name."""
    _resource(template, "APIHandler")["Environment"]["Variables"]["API"] = {"Ref": "RestAPI"}


def _answer_of_the_gateway_beside_the_definition(template: Template) -> None:
    properties = {"RestApiId": {"Ref": "RestAPI"}, "ResponseType": "DEFAULT_4XX"}
    template["Resources"]["Beside"] = {"Type": "AWS::ApiGateway::GatewayResponse", "Properties": properties}


def _unknown_property_of_a_function(template: Template) -> None:
    _resource(template, "APIHandler")["MemorySiz"] = 1024


def _unknown_property_of_a_resource(template: Template) -> None:
    _resource(template, "Table")["BillingMod"] = "PAY_PER_REQUEST"


def _value_that_no_service_takes(template: Template) -> None:
    _resource(template, "APIHandler")["Runtime"] = "python3.99"


def _condition_that_is_none(template: Template) -> None:
    template["Resources"]["ApiDomain"]["Condition"] = "HasDomian"


REFUSED_BY_THE_TRANSFORM: list[Callable[[Template], None]] = [
    _misspelt_event_property, _misspelt_event_type, _event_without_its_source, _unknown_property_of_a_function,
]  # fmt: skip
REFUSED_AFTER_IT: dict[Callable[[Template], None], str] = {
    _reference_to_nothing: "E1020: 'Tabel'",
    _attribute_of_nothing: "E1010: 'ApiHandlerLog'",
    _substitution_of_nothing: "E1019: 'ImageBucket'",
    _attribute_that_is_none: "E1010: 'Nam'",
    _cycle: "E3004: Circular Dependencies for resource ImagesBucket",
    _cycle_through_what_the_transform_adds: "E3004: Circular Dependencies for resource RestAPI",
    _answer_of_the_gateway_beside_the_definition: "W3660: ",
    _unknown_property_of_a_resource: "E3002: Additional properties are not allowed ('BillingMod'",
    _value_that_no_service_takes: "E3030: 'python3.99'",
    _condition_that_is_none: "E3015: 'HasDomian'",
}
"""And what cfn-lint says of each."""


def test_the_packaged_template_is_clean_after_the_transform(sam: Template) -> None:
    assert list(packaging.template_faults(sam)) == []


@pytest.mark.parametrize("breaks", REFUSED_BY_THE_TRANSFORM, ids=lambda change: change.__name__.strip("_"))
def test_what_the_transform_would_refuse_is_a_fault(sam: Template, breaks: Callable[[Template], None]) -> None:
    broken = copy.deepcopy(sam)
    breaks(broken)
    faults = list(packaging.template_faults(broken))
    assert faults, "nothing is said of it"
    assert all(fault.startswith("transform: ") for fault in faults)


def test_each_thing_that_cloudformation_would_refuse_is_a_fault(sam: Template) -> None:
    """All at once: cfn-lint takes seconds for the template."""
    broken = copy.deepcopy(sam)
    for breaks in REFUSED_AFTER_IT:
        breaks(broken)
    faults = list(packaging.template_faults(broken))
    assert [what for what in REFUSED_AFTER_IT.values() if not any(fault.startswith(f"cfn-lint {what}") for fault in faults)] == []


def test_nothing_of_the_macro_is_left(template: Template) -> None:
    assert "Transform" not in template
    assert not [name for name, resource in template["Resources"].items() if resource["Type"].startswith("AWS::Serverless")]


def test_every_resource_of_our_own_is_as_we_wrote_it(sam: Template, template: Template) -> None:
    """The transform adds to what is SAM's, and leaves the rest alone."""
    for name, resource in sam["Resources"].items():
        if not resource["Type"].startswith("AWS::Serverless"):
            made = template["Resources"][name]
            assert made["Type"] == resource["Type"]
            assert set(made["Properties"]) == set(resource["Properties"]), name


def test_a_broken_template_fails_make_check_and_make_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A policy file that names nothing, in a copy of the sources."""
    root = tmp_path / "sources"
    (root / ".chalice").mkdir(parents=True)
    for name in ("app.py", "requirements.txt", ".chalice/config.json"):
        shutil.copy2(packaging.ROOT / name, root / name)
    for name in ("chalicelib", ".chalice/policies"):
        shutil.copytree(packaging.ROOT / name, root / name)
    policy = root / ".chalice" / "policies" / "expiry.json"
    policy.write_text(policy.read_text().replace('"ExpiryLog"', '"ExpireLog"'))
    assert packaging.main(["--check", "--root", str(root)]) == 1
    assert "ExpireLog" in capsys.readouterr().err
    assert packaging.main(["--check"]) == 0
