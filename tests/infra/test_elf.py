"""Native code in the packages against the C library, the C++ library and the interpreter of the runtimes that load it."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from infra import elf, runtime
from infra import package as packaging


@pytest.fixture(scope="session")
def decoders(packaged: packaging.Package) -> Path:
    """The zip of the function that decodes pixels."""
    return packaged.zip_file.parent / "pixels.zip"


def _functions(packaged: packaging.Package) -> list[dict[str, Any]]:
    return [
        resource["Properties"]
        for resource in packaged.template["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    ]


def test_both_packages_load_in_the_runtimes_that_the_template_names(packaged: packaging.Package) -> None:
    runtimes = {(function["CodeUri"], function["Runtime"]) for function in _functions(packaged)}
    assert runtimes == {("./deployment.zip", runtime.DEFAULT), ("./pixels.zip", runtime.DEFAULT)}
    assert list(packaging.unloadable(packaged.template, packaged.zip_file.parent)) == []


def test_every_function_runs_on_the_processor_that_its_package_is_built_for(packaged: packaging.Package) -> None:
    assert {tuple(function["Architectures"]) for function in _functions(packaged)} == {("arm64",)}


def test_the_package_of_the_archive_is_plain_python(packaged: packaging.Package) -> None:
    assert elf.natives(packaged.zip_file) == []


def test_the_decoders_are_native_code_whose_needs_are_read(decoders: Path) -> None:
    found = elf.natives(decoders)
    assert len(found) > 30
    assert {binary.machine for binary in found} == {"EM_AARCH64"}
    assert {"GLIBC", "GLIBCXX", "CXXABI", "GCC"} <= {prefix for binary in found for prefix, _ in binary.symbols}
    assert all("libc.so.6" in binary.libraries for binary in found if binary.name.endswith("_jpeg8.abi3.so"))


def test_decoders_for_a_newer_c_library_than_the_runtimes_are_a_fault(decoders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = dataclasses.replace(elf.RUNTIMES["python3.13"], newest={"GLIBC": (2, 17), "GLIBCXX": (3, 4, 20)})
    monkeypatch.setitem(elf.RUNTIMES, "python3.13", older)
    faults = list(elf.unloadable(decoders, "python3.13"))
    assert any("GLIBC_2.27, newer than Amazon Linux 2023 (python3.13) has" in fault for fault in faults)
    assert any("GLIBCXX_3.4.21, newer than" in fault for fault in faults)


def test_decoders_for_another_interpreter_are_a_fault(decoders: Path) -> None:
    faults = list(elf.unloadable(decoders, "python3.14"))
    assert any("_multiarray_umath" in fault and fault.endswith("is not for python3.14") for fault in faults)


def test_a_library_that_is_nowhere_is_a_fault(decoders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = dataclasses.replace(elf.RUNTIMES["python3.13"], libraries=frozenset({"libc.so.6", "ld-linux-aarch64.so.1"}))
    monkeypatch.setitem(elf.RUNTIMES, "python3.13", bare)
    faults = list(elf.unloadable(decoders, "python3.13"))
    assert any("needs libstdc++.so.6, which neither the zip nor Amazon Linux 2023 has" in fault for fault in faults)


def test_native_code_of_this_machine_in_a_package_is_a_fault(packaged: packaging.Package, tmp_path: Path) -> None:
    local = importlib.util.find_spec("imagecodecs._shared")
    assert local is not None and local.origin is not None
    machine = elf.natives(_zip_of(Path(local.origin), tmp_path / "local.zip"))[0].machine
    if machine == "EM_AARCH64":
        pytest.skip("this machine is of the same kind as the runtime")
    function = {"Type": "AWS::Serverless::Function", "Properties": {"CodeUri": "./local.zip", "Runtime": "python3.11"}}
    faults = list(packaging.unloadable({"Resources": {"Function": function}}, tmp_path))
    assert any(fault.endswith(f"is for {machine}, not for arm64") for fault in faults)


def _zip_of(file: Path, target: Path) -> Path:
    copied = target.parent / file.name
    shutil.copy(file, copied)
    with zipfile.ZipFile(target, "w") as archive:
        archive.write(copied, f"imagecodecs/{file.name}")
    return target
