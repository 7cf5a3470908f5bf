"""Images that a sender singles out: key object selections and presentation states, as senders write them."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from chalicelib.dicom import key_images
from chalicelib.domain.instance_facts import KeyImages

KO, GSPS = "1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.5.1.4.1.1.11.1"


def dataset(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def coded(value: str, meaning: str) -> list[Dataset]:
    return [dataset(CodeValue=value, CodingSchemeDesignator="DCM", CodeMeaning=meaning)]


def image(sop: str, **more: Any) -> Dataset:
    return dataset(ValueType="IMAGE", ReferencedSOPSequence=[dataset(ReferencedSOPInstanceUID=sop, **more)])


def selection(*content: Dataset, code: str = "113000", meaning: str = "Of Interest") -> Dataset:
    return dataset(SOPClassUID=KO, ConceptNameCodeSequence=coded(code, meaning), ContentSequence=list(content))


def test_a_key_object_selection_names_images_and_frames_and_why() -> None:
    why = dataset(ValueType="TEXT", ConceptNameCodeSequence=coded("113012", "Key Object Description"), TextValue="nodulo")
    nested = dataset(ValueType="CONTAINER", ContentSequence=[image("1.3")])
    content = (why, image("1.2", ReferencedFrameNumber=[3, 5]), nested, image("1.2", ReferencedFrameNumber=5))
    found = key_images.read(selection(*content))
    assert found == KeyImages("KO", "Of Interest", "nodulo", {"1.2": (3, 5), "1.3": ()})


def test_a_presentation_state_names_the_images_it_is_for() -> None:
    series = dataset(ReferencedImageSequence=[dataset(ReferencedSOPInstanceUID="1.2"), dataset(ReferencedSOPInstanceUID="1.3")])
    state = dataset(SOPClassUID=GSPS, ContentLabel="FRECCE", ContentDescription="lesione", ReferencedSeriesSequence=[series])
    assert key_images.read(state) == KeyImages("PR", "FRECCE", "lesione", {"1.2": (), "1.3": ()})


@pytest.mark.parametrize(
    "document",
    [
        selection(image("1.2"), code="113001", meaning="Rejected for Quality Reasons"),
        selection(),
        selection(dataset(ValueType="IMAGE")),
        dataset(SOPClassUID="1.2.840.10008.5.1.4.1.1.1"),
        dataset(),
    ],
    ids=["a rejection", "empty", "no reference", "an image", "nothing"],
)
def test_what_singles_out_nothing_is_none(document: Dataset) -> None:
    assert key_images.read(document) is None


def test_a_document_that_names_all_images_is_cut_and_a_deep_one_read_to_a_depth() -> None:
    for count in (100, 101, 300):
        many = key_images.read(selection(*(image(f"1.{number}") for number in range(1, count + 1))))
        assert many is not None
        assert len(many.images) == key_images.MAX_IMAGES == 100
    deep = image("1.2")
    for _ in range(30):
        deep = dataset(ValueType="CONTAINER", ContentSequence=[deep])
    assert key_images.read(selection(deep)) is None
