"""The templates as they are deployed: made once a session, and as CloudFormation's transform leaves them.

Only `packaged` needs the package index, for wheels; the template is the same without.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import package as packaging
from infra import transform

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
