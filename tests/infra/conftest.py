"""The templates as they are deployed: made once a session, and as CloudFormation's transform leaves them.

Only `packaged` needs the package index, for wheels; the template is the same without.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra import package as packaging
from infra import runtime, transform
from tests.infra import arm, machines

Template = dict[str, Any]


@dataclass(frozen=True)
class Interpreter:
    """How the runtime's interpreter is called, and the folder of this machine that it takes for its root."""

    command: list[str]
    root: Path


@pytest.fixture(scope="session")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interpreter | None]:
    """The interpreter of the runtime: this machine's, or Debian's in a folder; None where neither is to be had."""
    command = runtime.interpreter(runtime.DEFAULT)
    if command is not None or arm.missing():
        yield Interpreter(command, Path("/")) if command is not None else None
        return
    root = tmp_path_factory.mktemp("interpreter") / "root"
    reason = arm.debian(root, runtime.DEFAULT)
    yield None if reason else Interpreter(["chroot", str(root), f"/usr/bin/{runtime.DEFAULT}"], root)
    machines.remove(root)


@pytest.fixture(scope="session")
def packaged(tmp_path_factory: pytest.TempPathFactory, interpreter: Interpreter | None) -> packaging.Package:
    """What `python -m infra.package` makes for the stage dev."""
    python = interpreter.command if interpreter else None
    return packaging.package("dev", tmp_path_factory.mktemp("dev"), packaging.ROOT, runtime.DEFAULT, python)


@pytest.fixture(scope="session")
def packaged_for_production(tmp_path_factory: pytest.TempPathFactory, interpreter: Interpreter | None) -> packaging.Package:
    """The same sources, packaged again for the stage prod."""
    python = interpreter.command if interpreter else None
    return packaging.package("prod", tmp_path_factory.mktemp("prod"), packaging.ROOT, runtime.DEFAULT, python)


@pytest.fixture(scope="session")
def sam() -> Template:
    """The packaged template, as it is handed to CloudFormation, in its long form."""
    return packaging.sam_template("dev")


@pytest.fixture(scope="session")
def template(sam: Template) -> Template:
    """What CloudFormation makes of the packaged template, and then makes resources of."""
    return transform.transformed(sam)


@pytest.fixture(scope="session")
def resources(template: Template) -> Callable[[str], Iterator[tuple[str, Template]]]:
    """Names and properties of all resources of a type."""

    def of_type(kind: str) -> Iterator[tuple[str, Template]]:
        found = [(n, r["Properties"]) for n, r in template["Resources"].items() if r["Type"] == kind]
        assert found, f"there is no {kind}"
        yield from found

    return of_type


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder to which a test may write its own app.py."""
    return tmp_path / "sources"
