"""Storage Commitment: requests in both structures, and answers in the same one (PS3.18 13, Annex J)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.dicomweb.commitment import (
    NO_SUCH_INSTANCE,
    REASONS,
    CommitmentRequest,
    Reference,
    commitment_response,
    parse_commitment_request,
)
from chalicelib.dicomweb.json_model import Model, parse_json
from chalicelib.dicomweb.multipart import write
from chalicelib.dicomweb.native_xml import to_xml
from chalicelib.domain.errors import BadRequest, NotFound, UnsupportedMediaType
from chalicelib.services.ingest import commitment
from tests.world import A, World

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
JSON = "application/dicom+json"


def ui(value: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [value]}


def sq(*found: Model) -> dict[str, Any]:
    return {"vr": "SQ", "Value": list(found)}


FLAT: Model = {"00081199": sq({"00081150": ui(CT), "00081155": ui("1.1")}, {"00081150": ui(MR), "00081155": ui("1.2")})}
NESTED: Model = {
    "00081110": sq(
        {
            "0020000D": ui("2.1"),
            "00081115": sq(
                {
                    "0020000E": ui("3.1"),
                    "00081112": sq(
                        {
                            "00081150": ui(CT),
                            "0008114A": sq({"00081155": ui("1.1")}, {"00081155": ui("1.2")}),
                        }
                    ),
                },
                {
                    "0020000E": ui("3.2"),
                    "00081112": sq({"00081150": ui(MR), "0008114A": sq({"00081155": ui("1.3")})}),
                },
            ),
        }
    )
}


def parsed(model: object, content_type: str = JSON) -> CommitmentRequest:
    return parse_commitment_request(content_type, json.dumps(model).encode())


def test_a_list_of_instances_is_read() -> None:
    assert parsed(FLAT) == CommitmentRequest((Reference(CT, "1.1"), Reference(MR, "1.2")), by_study=False)
    assert parsed([FLAT]) == parsed(FLAT)


def test_instances_by_study_series_and_class_are_read() -> None:
    assert parsed(NESTED) == CommitmentRequest(
        (Reference(CT, "1.1", "2.1", "3.1"), Reference(CT, "1.2", "2.1", "3.1"), Reference(MR, "1.3", "2.1", "3.2")),
        by_study=True,
    )


@pytest.mark.parametrize("model", [FLAT, NESTED])
def test_json_xml_and_multipart_say_the_same(model: Model) -> None:
    as_xml = to_xml(model)
    expected = parsed(model)
    assert parse_commitment_request("application/dicom+xml", as_xml) == expected
    for part_type, content in (("application/dicom+xml", as_xml), (JSON, json.dumps([model]).encode())):
        body = b"".join(write([([("Content-Type", part_type)], content)], "b"))
        assert parse_commitment_request(f'multipart/related; type="{part_type}"; boundary=b', body) == expected
        bare = b"".join(write([((), content)], "b"))
        assert parse_commitment_request(f"multipart/related; type={part_type}; boundary=b", bare) == expected


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/dicom", "multipart/form-data; boundary=b"])
def test_other_types_are_not_supported(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMediaType):
        parse_commitment_request(content_type, json.dumps(FLAT).encode())


@pytest.mark.parametrize(
    "model",
    [
        {},
        [],
        [FLAT, FLAT],
        FLAT | NESTED,
        {"00081199": {"vr": "SQ"}},
        {"00081199": sq({"00081155": ui("1.1")})},
        {"00081199": sq({"00081150": ui(CT)})},
        {"00081199": sq({"00081150": ui(CT), "00081155": ui("../../etc")})},
        {"00081110": sq({"0020000D": ui("2.1")})},
        {"00081110": sq({"0020000D": ui("2.1"), "00081115": sq({"0020000E": ui("3.1")})})},
        {"00081199": sq(*({"00081150": ui(CT), "00081155": ui(f"1.{n}")} for n in range(5001)))},
    ],
)
def test_what_is_no_request_module_is_refused(model: object) -> None:
    with pytest.raises(BadRequest):
        parsed(model)


def test_5000_instances_are_committed_at_once() -> None:
    most = {"00081199": sq(*({"00081150": ui(CT), "00081155": ui(f"1.{n}")} for n in range(5000)))}
    assert len(parsed(most).references) == 5000


def test_an_instance_named_twice_is_one() -> None:
    twice = {"00081199": sq(*[{"00081150": ui(CT), "00081155": ui("1.1")}] * 2)}
    assert parsed(twice).references == (Reference(CT, "1.1"),)


def test_the_answer_to_a_list_is_two_lists() -> None:
    answer = commitment_response(parsed(FLAT), lambda r: None if r.sop_instance_uid == "1.1" else NO_SUCH_INSTANCE)
    assert answer == {
        "00081198": sq({"00081150": ui(MR), "00081155": ui("1.2"), "00081197": {"vr": "US", "Value": [274]}}),
        "00081199": sq({"00081150": ui(CT), "00081155": ui("1.1")}),
    }
    assert set(commitment_response(parsed(FLAT), lambda _: None)) == {"00081199"}
    assert set(commitment_response(parsed(FLAT), lambda _: NO_SUCH_INSTANCE)) == {"00081198"}


def test_the_answer_to_a_tree_is_two_trees() -> None:
    assert commitment_response(parsed(NESTED), lambda _: None) == NESTED
    answer = commitment_response(parsed(NESTED), lambda r: 0x0119 if r.sop_class_uid == MR else None)
    assert set(answer) == {"00081110", "0008119B"}
    failed = answer["0008119B"]["Value"][0]
    assert failed["0020000D"] == ui("2.1")
    series = failed["00081115"]["Value"][0]
    assert series["0020000E"] == ui("3.2")
    assert series["00081112"]["Value"][0]["0008114A"]["Value"] == [
        {"00081155": ui("1.3"), "00081197": {"vr": "US", "Value": [0x0119]}}
    ]


UID = st.integers(1, 4).map(lambda n: f"1.{n}")


@given(st.lists(st.tuples(UID, UID, UID, UID), min_size=1, max_size=8, unique=True), st.booleans(), st.data())
def test_every_instance_is_answered_once_in_valid_json(
    tree: list[tuple[str, str, str, str]], by_study: bool, data: st.DataObject
) -> None:
    references = tuple(dict.fromkeys(Reference(c, i, s if by_study else None, e if by_study else None) for c, i, s, e in tree))
    reasons = {r: data.draw(st.one_of(st.none(), st.sampled_from(sorted(REASONS)))) for r in references}
    answer = commitment_response(CommitmentRequest(references, by_study), reasons.__getitem__)
    text = json.dumps(answer)
    assert parse_json(text.encode()) == [answer]
    assert text.count('"00081155"') == len(references)
    assert text.count('"00081197"') == sum(reason is not None for reason in reasons.values())


def test_an_answer_is_kept_for_30_days() -> None:
    archive, asked = World(), parsed(FLAT)
    commitment.commit(archive.table, A, "1.2.3", asked, archive.now, archive.act, archive.tell)
    last = archive.now + timedelta(days=30) - timedelta(seconds=1)
    assert commitment.result(archive.table, A, "1.2.3", last, archive.tell)
    with pytest.raises(NotFound):
        commitment.result(archive.table, A, "1.2.3", last + timedelta(seconds=1), archive.tell)
