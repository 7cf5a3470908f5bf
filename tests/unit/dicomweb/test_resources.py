"""Addresses, entity tags and the description of the service (PS3.18 10.4.1.1, 8.4, 8.9, Annexes G and H)."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest

from chalicelib.dicomweb import capabilities, resources
from chalicelib.dicomweb.caching import NO_STORE, PRIVATE, cached, entity_tag, not_modified
from chalicelib.dicomweb.resources import parse_frame_list
from chalicelib.domain.errors import BadRequest, NotFound

SERVICE = "https://archive.example/prod/dicomweb"


def test_addresses_are_below_the_service_and_name_the_owner_last() -> None:
    assert resources.entity_url(SERVICE, "1.2") == f"{SERVICE}/studies/1.2"
    instance = resources.entity_url(SERVICE, "1.2", "1.3", "1.4", "maugeri")
    assert instance == f"{SERVICE}/studies/1.2/series/1.3/instances/1.4?owner=maugeri"


def test_frames_are_listed_in_the_order_asked() -> None:
    assert parse_frame_list("3,1, 2", 3) == (3, 1, 2)
    assert parse_frame_list("1") == (1,)


@pytest.mark.parametrize("text", ["", "0", "1,", "a", "-1", "1.5", "01", ",".join(["1"] * 2001)])
def test_what_is_no_list_of_frames_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_frame_list(text, 3)


def test_a_frame_that_the_instance_does_not_have_is_not_there() -> None:
    with pytest.raises(NotFound):
        parse_frame_list("3,4", 3)


def test_an_entity_tag_changes_with_each_of_its_parts() -> None:
    assert entity_tag("a", 1) == entity_tag("a", 1)
    assert len({entity_tag("a", 1), entity_tag("a", 2), entity_tag("a1"), entity_tag("a", "1", "")}) == 4


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ("", False),
        ("*", True),
        ('W/"abc"', True),
        ('"abc"', True),
        ('"x", W/"abc" , "y"', True),
        ('"x,abc"', False),
        ('"abcd"', False),
        ("abc", False),
        ('"abc' + "x" * 9000, False),
    ],
)
def test_a_caller_that_has_it_already_is_told_so(header: str | None, expected: bool) -> None:
    assert not_modified(header, 'W/"abc"') is expected


def test_no_answer_may_reach_another_caller_through_a_cache() -> None:
    assert PRIVATE["Cache-Control"] == "private, no-cache"
    assert "Authorization" in PRIVATE["Vary"]
    assert cached('W/"x"')["ETag"] == 'W/"x"'
    assert NO_STORE == {"Cache-Control": "no-store"}


def test_the_description_names_every_resource_of_table_h_1() -> None:
    found = set(capabilities.routes())
    assert len(found) == len(list(capabilities.routes()))
    for method, path in (
        ("GET", "/studies"),
        ("POST", "/studies"),
        ("POST", "/studies/{study}"),
        ("GET", "/studies/{study}/series/{series}/instances/{instance}/frames/{frames}"),
        ("GET", "/studies/{study}/series/{series}/instances/{instance}/frames/{frames}/rendered"),
        ("GET", "/studies/{study}/instances"),
        ("GET", "/series"),
        ("GET", "/instances"),
        ("POST", "/commitment-requests/{transaction}"),
        ("GET", "/commitment-requests/{transaction}"),
    ):
        assert (method, path) in found
    for entity in (
        "/studies/{study}",
        "/studies/{study}/series/{series}",
        "/studies/{study}/series/{series}/instances/{instance}",
    ):
        for end in ("", "/metadata", "/rendered", "/thumbnail", "/bulkdata", "/pixeldata"):
            assert ("GET", entity + end) in found


def as_annex_g(element: ElementTree.Element) -> dict[str, Any]:
    """An XML element in the JSON form of Annex G."""
    found: dict[str, Any] = {f"@{name}": value for name, value in element.attrib.items()}
    for child in element:
        name = child.tag.rpartition("}")[2]
        if name in ("resources", "request"):
            found[name] = as_annex_g(child)
        else:
            found.setdefault(name, []).append(as_annex_g(child))
    return found


def test_xml_and_json_describe_the_same() -> None:
    described = json.loads(capabilities.to_json(SERVICE))
    root = ElementTree.fromstring(capabilities.to_xml(SERVICE))
    assert root.tag == "{http://wadl.dev.java.net/2009/02}application"
    described["application"].pop("@xmlns")
    assert {"application": as_annex_g(root)} == described
    assert described["application"]["resources"]["@base"] == SERVICE


def test_the_search_for_studies_is_described_with_both_names_of_its_keys() -> None:
    studies = json.loads(capabilities.to_json(SERVICE))["application"]["resources"]["resource"][0]
    search = next(method for method in studies["method"] if method["@id"] == "searchForStudies")
    names = {param["@name"] for param in search["request"]["param"] if param["@style"] == "query"}
    assert {"PatientID", "00100020", "StudyDate", "limit", "offset", "includefield", "fuzzymatching"} <= names
    assert "Modality" not in names
