"""Packaging: what Chalice only warns about, or does in silence, must not be deployed."""

import copy
import zipfile
from pathlib import Path
from typing import Any

import pytest

from infra import bundle
from infra import package as packaging
from infra.templates import merge, overrides

_WARNING = """Creating deployment package.

Could not install dependencies:
numpy==2.4.6
pillow==99.0
You will have to build these yourself and vendor them in
the chalice vendor folder.
"""


def test_every_locked_requirement_is_in_the_zip_and_nothing_else_is_ours(packaged: packaging.Package) -> None:
    with zipfile.ZipFile(packaged.zip_file) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    requirements = (packaging.ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert list(packaging.wheels_left_out(packaged.output, requirements, names)) == []
    assert list(packaging.strays(bundle.sources(names))) == []
    assert {"app.py", "chalice/app.py", "boto3/__init__.py", "chalicelib/__init__.py"} <= set(names)


def test_the_zip_has_every_module_of_chalicelib(packaged: packaging.Package) -> None:
    with zipfile.ZipFile(packaged.zip_file) as archive:
        names = set(archive.namelist())
    for module in (packaging.ROOT / "chalicelib").rglob("*.py"):
        assert str(module.relative_to(packaging.ROOT)) in names


def test_the_package_takes_less_than_half_of_what_lambda_allows(packaged: packaging.Package) -> None:
    assert packaged.zipped < 16_000_000
    assert packaged.unzipped < 125_000_000


def test_the_same_sources_give_the_same_zip_for_every_stage(
    packaged: packaging.Package, packaged_for_production: packaging.Package
) -> None:
    with zipfile.ZipFile(packaged.zip_file) as one, zipfile.ZipFile(packaged_for_production.zip_file) as other:
        assert [entry.filename for entry in one.infolist() if entry.CRC != other.getinfo(entry.filename).CRC] == []
    assert packaged.zip_file.read_bytes() == packaged_for_production.zip_file.read_bytes()


def test_stages_differ_in_how_much_they_log_and_in_nothing_else(
    packaged: packaging.Package, packaged_for_production: packaging.Package
) -> None:
    def without_stage(template: dict[str, Any]) -> dict[str, Any]:
        bare = copy.deepcopy(template)
        for resource in bare["Resources"].values():
            resource.get("Properties", {}).pop("Tags", None)
            variables = resource.get("Properties", {}).get("Environment", {}).get("Variables", {})
            variables.pop("POWERTOOLS_LOG_LEVEL", None)
        return bare

    assert without_stage(packaged.template) == without_stage(packaged_for_production.template)


def test_a_wheel_that_chalice_left_out_is_a_fault() -> None:
    faults = list(packaging.wheels_left_out(_WARNING, "", []))
    assert faults == ["left out by Chalice: numpy==2.4.6, pillow==99.0"]


@pytest.mark.parametrize(
    ("requirement", "entry", "missing"),
    [
        ("boto3==1.44.8", "boto3-1.44.8.dist-info/METADATA", False),
        ("boto3==1.44.8", "boto3-1.44.7.dist-info/METADATA", True),
        ("typing-extensions==4.16.0", "typing_extensions-4.16.0.dist-info/METADATA", False),
        ("pydicom==3.0.2  # headers", "boto3/__init__.py", True),
        ("colorama==0.4.6 ; sys_platform == 'win32'", "boto3/__init__.py", False),
        ("# a comment", "boto3/__init__.py", False),
    ],
)
def test_a_requirement_that_is_not_in_the_zip_is_a_fault(requirement: str, entry: str, missing: bool) -> None:
    assert bool(list(packaging.wheels_left_out("", requirement, [entry]))) is missing


@pytest.mark.parametrize(
    "name",
    ["moto/__init__.py", "forwarder/send.py", "chalicelib/__pycache__/x.cpython-311.pyc", "tests/a.py"],
)
def test_what_lambda_does_not_need_is_a_fault(name: str) -> None:
    assert list(packaging.strays(["app.py", "chalice/app.py", name])) == [f"does not belong into the zip: {name}"]


def test_a_zip_without_the_app_is_a_fault() -> None:
    assert list(packaging.strays(["chalice/app.py"])) == ["not in the zip: app.py"]


def test_a_package_over_half_of_the_limits_is_a_fault() -> None:
    assert len(list(packaging.oversize(25_000_001, 125_000_001))) == 2
    assert list(packaging.oversize(25_000_000, 125_000_000)) == []


def test_a_template_that_cloudformation_would_not_take_is_a_fault(sam: dict[str, Any]) -> None:
    assert list(packaging.oversize_template(sam)) == []
    larger = {"Resources": {f"R{n}": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "x" * 100}} for n in range(5000)}}
    assert len(list(packaging.oversize_template(larger))) == 1


def test_the_template_is_the_same_without_what_is_in_the_zips(packaged: packaging.Package, sam: dict[str, Any]) -> None:
    assert packaged.template == sam


def test_every_override_meets_what_chalice_made(sam: dict[str, Any]) -> None:
    assert list(packaging.overrides_without_target(sam)) == []
    assert set(overrides()["Resources"]) <= set(sam["Resources"])


def test_an_override_of_a_mistyped_function_is_a_fault(sam: dict[str, Any]) -> None:
    mistyped = merge({"Resources": {"IndexInstance": {"Properties": {"Timeout": 3}}}}, sam)
    assert list(packaging.overrides_without_target(mistyped)) == [
        "an override names a resource that app.py does not make: IndexInstance"
    ]


def test_an_override_of_a_mistyped_event_source_is_a_fault(sam: dict[str, Any]) -> None:
    event = {"SqsEventSource": {"Properties": {"FunctionResponseTypes": ["ReportBatchItemFailures"]}}}
    mistyped = merge({"Resources": {"IndexInstances": {"Properties": {"Events": event}}}}, sam)
    assert list(packaging.overrides_without_target(mistyped)) == [
        "an override names an event source that app.py does not make: IndexInstances.SqsEventSource"
    ]


def test_an_app_without_the_event_handlers_is_not_packaged(sources: Path, tmp_path: Path) -> None:
    (sources / ".chalice").mkdir(parents=True)
    (sources / "app.py").write_text(
        'from chalice import Chalice\n\napp = Chalice(app_name="contenitore")\n\n\n'
        '@app.route("/health")\ndef health():\n    return {}\n'
    )
    (sources / "requirements.txt").write_text("")
    (sources / ".chalice" / "config.json").write_text('{"version": "2.0", "app_name": "contenitore", "stages": {"dev": {}}}')
    with pytest.raises(packaging.PackagingFailed, match="does not make: IndexInstances"):
        packaging.package("dev", tmp_path / "out", sources)


def test_an_app_that_cannot_be_imported_is_not_packaged(sources: Path, tmp_path: Path) -> None:
    (sources / ".chalice").mkdir(parents=True)
    (sources / "app.py").write_text("import nothing_of_this_name\n")
    (sources / "requirements.txt").write_text("")
    (sources / ".chalice" / "config.json").write_text('{"version": "2.0", "app_name": "contenitore", "stages": {"dev": {}}}')
    with pytest.raises(packaging.PackagingFailed, match="nothing_of_this_name"):
        packaging.package("dev", tmp_path / "out", sources)
