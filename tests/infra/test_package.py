"""Packaging: what Chalice only warns about, or does in silence, must not be deployed."""

import copy
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from infra import bundle, runtime, transform
from infra import package as packaging
from infra.templates import merge, overrides


def test_every_locked_requirement_is_in_the_zip_and_nothing_else_is_ours(packaged: packaging.Package) -> None:
    with zipfile.ZipFile(packaged.zip_file) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    requirements = (packaging.ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert list(packaging.wheels_left_out(requirements, names)) == []
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
    with zipfile.ZipFile(packaged.zip_file) as staged, zipfile.ZipFile(packaged_for_production.zip_file) as production:
        assert [entry.filename for entry in staged.infolist() if entry.CRC != production.getinfo(entry.filename).CRC] == []
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


@pytest.mark.parametrize(
    ("requirement", "entry", "missing"),
    [
        ("boto3==1.44.8", "boto3-1.44.8.dist-info/METADATA", False),
        ("boto3==1.44.8", "boto3-1.44.7.dist-info/METADATA", True),
        ("typing-extensions==4.16.0", "typing_extensions-4.16.0.dist-info/METADATA", False),
        ("pydicom==3.0.2  # headers", "boto3/__init__.py", True),
        ("colorama==0.4.6 ; sys_platform == 'win32'", "boto3/__init__.py", False),
        ("tomli==2.4.0 ; python_version < '3.11'", "boto3/__init__.py", False),
        ("tomli==2.4.0 ; python_version > '3.11'", "boto3/__init__.py", True),
        ("# a comment", "boto3/__init__.py", False),
    ],
)
def test_a_requirement_that_is_not_in_the_zip_is_a_fault(requirement: str, entry: str, missing: bool) -> None:
    assert bool(list(packaging.wheels_left_out(requirement, [entry]))) is missing


@pytest.mark.parametrize(
    "name",
    ["moto/__init__.py", "forwarder/upload/send.py", "chalicelib/__pycache__/x.cpython-311.pyc", "tests/a.py"],
)
def test_what_lambda_does_not_need_is_a_fault(name: str) -> None:
    assert list(packaging.strays(["app.py", "chalice/app.py", name])) == [f"does not belong into the zip: {name}"]


def test_a_zip_without_the_app_is_a_fault() -> None:
    assert list(packaging.strays(["chalice/app.py"])) == ["not in the zip: app.py"]


def test_a_package_over_half_of_the_limits_is_a_fault() -> None:
    assert len(list(packaging.oversize(25_000_001, 125_000_001))) == 2
    assert list(packaging.oversize(25_000_000, 125_000_000)) == []


def test_a_template_over_half_of_what_cloudformation_takes_is_a_fault(sam: dict[str, Any]) -> None:
    assert list(packaging.oversize_template(sam)) == []
    larger = {"Resources": {f"R{n}": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "x" * 100}} for n in range(5000)}}
    assert len(list(packaging.oversize_template(larger))) == 1


def test_what_is_deployed_is_what_was_measured(sam: dict[str, Any], tmp_path: Path) -> None:
    """The line of docs/deploy.md that takes the spaces out of what the AWS CLI writes, as it stands there."""
    (line,) = re.findall(r"^    python3 -m json\.tool .*$", (packaging.ROOT / "docs" / "deploy.md").read_text(), re.MULTILINE)
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "uploaded.json").write_text(json.dumps(sam, indent=4))
    subprocess.run([sys.executable, *line.split()[1:]], cwd=tmp_path, check=True, timeout=240)
    made = (tmp_path / "build" / "packaged.json").read_text()
    assert (made.strip(), json.loads(made)) == (packaging.compact(sam), sam)


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


def test_a_wheel_that_is_not_to_be_had_for_the_runtime_is_a_fault(sources: Path, tmp_path: Path) -> None:
    shutil.copytree(packaging.ROOT / ".chalice", sources / ".chalice")
    shutil.copytree(packaging.ROOT / "chalicelib", sources / "chalicelib")
    shutil.copy2(packaging.ROOT / "app.py", sources / "app.py")
    (sources / "requirements.txt").write_text("numpy==1.26.4\n")  # the last one without a wheel for Python 3.13
    with pytest.raises(packaging.PackagingFailed, match=r"a wheel for python3\.13 on arm64 is not to be had"):
        packaging.package("dev", tmp_path / "out", sources, "python3.13")


def test_everything_runs_on_the_runtime_that_is_asked_for_and_on_no_other(template: dict[str, Any]) -> None:
    def runtimes(made: dict[str, Any]) -> set[str]:
        return {
            resource["Properties"]["Runtime"]
            for resource in made["Resources"].values()
            if resource["Type"] == "AWS::Lambda::Function"
        }

    assert runtimes(template) == {runtime.DEFAULT}
    assert runtimes(transform.transformed(packaging.sam_template("dev", name="python3.12"))) == {"python3.12"}


def test_the_runtime_is_one_that_lambda_supports_for_years() -> None:
    """cfn-lint knows when AWS ends a runtime; a year before, another one is due."""
    (package,) = importlib.util.find_spec("cfnlint").submodule_search_locations or ()  # type: ignore[union-attr]
    path = Path(package) / "data" / "AdditionalSpecs" / "LmbdRuntimeLifecycle.json"
    ends = json.loads(path.read_text(encoding="utf-8"))[runtime.DEFAULT]["deprecated"]
    assert ends > "2028"


def test_an_interpreter_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("/nowhere/python", "/bin/false", f"{sys.executable} -S"):
        monkeypatch.setenv(runtime.COMMAND, command)
        with pytest.raises(runtime.WrongInterpreter):
            runtime.interpreter("python3.99")
    monkeypatch.delenv(runtime.COMMAND)
    assert runtime.interpreter("python3.99") is None
    here = f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert runtime.interpreter(here) == [sys.executable]
