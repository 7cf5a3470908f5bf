"""The CloudFormation templates of this folder, as plain dicts in CloudFormation's long form."""

import json
from pathlib import Path
from typing import Any

import yaml

from infra import dashboard

Template = dict[str, Any]

FOLDER = Path(__file__).parent
CITY = FOLDER / "city.yaml"
FUNCTIONS = FOLDER / "functions.yaml"
PIXELS = FOLDER / "pixels.yaml"
WATCH = FOLDER / "watch.yaml"
BUDGET = FOLDER / "budget.yaml"
PIXELS_POLICY = FOLDER.parent / ".chalice" / "policies" / "pixels.json"
ACCOUNT = FOLDER / "account.yaml"
INSTITUTION = FOLDER / "institution.yaml"

CITY_STACK = "contenitore"
"""The name of the city's stack where nobody says another."""


class _Loader(yaml.CSafeLoader):
    """YAML with CloudFormation's short forms: ``!Ref X`` is read as ``{"Ref": "X"}``. By libyaml: ten times as fast."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)


def load(path: Path) -> Template:
    """A template file, its short forms written out. Raises OSError, yaml.YAMLError."""
    with path.open(encoding="utf-8") as file:
        template: Template = yaml.load(file, Loader=_Loader)  # noqa: S506 (a subclass of CSafeLoader)
    return template


def merge(over: Any, under: Any) -> Any:
    """``over`` laid upon ``under``: dicts key by key, all else replaced, as Chalice's own merge does."""
    if isinstance(over, dict) and isinstance(under, dict):
        return under | {key: merge(value, under.get(key)) for key, value in over.items()}
    return over


def overrides() -> Template:
    """What is merged over Chalice's template: the city, what functions.yaml adds to functions and API, what shows it to its
    operator, and the function that decodes pixels, which is none of Chalice's.

    The city's parameter ``RestAPI`` is left out: in the packaged template that name is the API itself.
    """
    template: Template = merge(load(WATCH), merge(load(PIXELS), merge(load(FUNCTIONS), load(CITY))))
    policy = {"PolicyName": "RenderPixelsPolicy", "PolicyDocument": json.loads(PIXELS_POLICY.read_text(encoding="utf-8"))}
    template["Resources"]["RenderPixelsRole"]["Properties"]["Policies"] = [policy]
    template["Resources"]["Dashboard"]["Properties"]["DashboardBody"] = dashboard.body()
    del template["Parameters"]["RestAPI"]
    return template
