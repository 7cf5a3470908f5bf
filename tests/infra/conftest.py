"""The templates as they are deployed, packaged once a session. Packaging fetches wheels from the index."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import package as packaging

Template = dict[str, Any]


@pytest.fixture(scope="session")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> packaging.Package:
    """What `python -m infra.package` makes for the stage dev."""
    return packaging.package("dev", tmp_path_factory.mktemp("dev"), packaging.ROOT)


@pytest.fixture(scope="session")
def packaged_for_production(tmp_path_factory: pytest.TempPathFactory) -> packaging.Package:
    """The same sources, packaged again for the stage prod."""
    return packaging.package("prod", tmp_path_factory.mktemp("prod"), packaging.ROOT)


@pytest.fixture(scope="session")
def template(packaged: packaging.Package) -> Template:
    """The packaged template, in CloudFormation's long form."""
    return packaged.template


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
