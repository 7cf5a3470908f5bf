"""The DICOM JSON Model as clients send it: checked once, then trusted (PS3.18 Annex F)."""

from __future__ import annotations

import binascii
import json
import re

from chalicelib.domain.dicom_json import Attributes, Element
from chalicelib.domain.errors import BadRequest

MAX_DEPTH = 32
MAX_ATTRIBUTES = 400_000

Model = Attributes
"""One data set: tag (8 hexadecimal digits, upper case) → `{"vr": …, "Value" | "BulkDataURI" | "InlineBinary": …}`."""

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
VRS = frozenset(
    "AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()  # noqa: SIM905
)
_CONTENTS = ("Value", "BulkDataURI", "InlineBinary")
_WHOLE = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
_GROUPS = frozenset({"Alphabetic", "Ideographic", "Phonetic"})


def parse_json(body: bytes | memoryview) -> list[Model]:
    """The data sets of a body in `application/dicom+json`: an array of objects, or one object (F.2.1).

    Raises BadRequest for what is no DICOM JSON Model; the text names tags, and never values.
    """
    try:
        content = json.loads(bytes(body), parse_constant=_no_constant)
    except RecursionError:
        raise BadRequest("The JSON is nested too deeply.") from None
    except (ValueError, UnicodeDecodeError):
        raise BadRequest("The body is not JSON in UTF-8.") from None
    found = content if isinstance(content, list) else [content]
    budget = [MAX_ATTRIBUTES]
    return [_data_set(data_set, 0, budget) for data_set in found]


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _data_set(content: object, depth: int, budget: list[int]) -> Model:
    if not isinstance(content, dict):
        raise BadRequest("A data set in DICOM JSON must be an object.")
    if depth > MAX_DEPTH:
        raise BadRequest(f"Sequences are nested more than {MAX_DEPTH} deep.")
    result: Model = {}
    for tag, element in content.items():
        budget[0] -= 1
        if budget[0] < 0:
            raise BadRequest(f"There are more than {MAX_ATTRIBUTES} attributes.")
        if not _TAG.fullmatch(tag):
            raise BadRequest("An attribute's name must be a tag of eight hexadecimal digits.")
        if not tag.endswith("0000"):  # group lengths have no place in the model (F.2.2)
            result[tag.upper()] = _element(tag.upper(), element, depth, budget)
    return dict(sorted(result.items()))


def _element(tag: str, element: object, depth: int, budget: list[int]) -> Element:
    vr = element.get("vr") if isinstance(element, dict) else None
    if not isinstance(element, dict) or not isinstance(vr, str) or vr not in VRS:
        raise BadRequest(f"The attribute {tag} has no vr of DICOM.")
    contents = [name for name in _CONTENTS if name in element]
    if len(contents) > 1:
        raise BadRequest(f"The attribute {tag} has more than one of Value, BulkDataURI and InlineBinary.")
    if not contents:
        return {"vr": vr}
    content = element[contents[0]]
    if contents[0] != "Value":
        if not isinstance(content, str):
            raise BadRequest(f"{contents[0]} of the attribute {tag} must be text.")
        if contents[0] == "InlineBinary" and not is_base64(content):
            raise BadRequest(f"InlineBinary of the attribute {tag} is not base64.")
        return {"vr": vr, contents[0]: content}
    if not isinstance(content, list):
        raise BadRequest(f"Value of the attribute {tag} must be an array.")
    if vr == "SQ":
        return {"vr": vr, "Value": [_data_set(item, depth + 1, budget) for item in content]}
    for value in content:
        if not _is_value(vr, value):
            raise BadRequest(f"The attribute {tag} has a value that its VR does not allow.")
    return {"vr": vr, "Value": content}


def is_base64(text: str) -> bool:
    """Whether `text` is base64 as RFC 4648 4 writes it (F.2.7)."""
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return False
    return True


def _is_value(vr: str, value: object) -> bool:
    if value is None or isinstance(value, bool):
        return value is None
    if vr == "PN":
        return isinstance(value, str) or (
            isinstance(value, dict) and value.keys() <= _GROUPS and all(isinstance(text, str) for text in value.values())
        )
    if vr == "AT":
        return isinstance(value, str) and (not value or _TAG.fullmatch(value) is not None)
    if vr in _WHOLE and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, str | int | float)


def first_text(model: Model, tag: str) -> str:
    """The first value of an attribute as text; empty where there is none."""
    element = model.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    first = values[0] if isinstance(values, list) and values else None
    return str(first).strip() if isinstance(first, str | int | float) else ""


def items(model: Model, tag: str) -> list[Model]:
    """The items of a sequence; none where there is no such sequence."""
    element = model.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return [item for item in values if isinstance(item, dict)] if isinstance(values, list) else []
