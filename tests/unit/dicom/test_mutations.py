"""Random damage to real headers: a head or a rejection, nothing else, soon."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from xml.etree import ElementTree

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.dicom.frames import FrameError, locate_frames
from chalicelib.dicom.header import read_head
from chalicelib.dicom.limits import KIB, Limits
from chalicelib.dicom.metadata import bulk_name, full_metadata
from chalicelib.dicom.summary import ATTRIBUTES_LIMIT, summarise
from chalicelib.dicomweb.native_xml import to_xml as native_xml
from chalicelib.domain.instance_facts import InstanceFact
from chalicelib.domain.rejections import REASONS, Rejected
from tests.unit.dicom.building import part10, reader, real_files

NAMES = (
    "test_files/CT_small.dcm",
    "test_files/MR_small_bigendian.dcm",
    "test_files/MR_small_implicit.dcm",
    "test_files/test-SR.dcm",
    "test_files/liver_1frame.dcm",
    "test_files/image_dfl.dcm",
    "test_files/reportsi.dcm",
    "test_files/examples_ybr_color.dcm",
    "test_files/rtstruct.dcm",
    "charset_files/chrH32.dcm",
    "charset_files/chrX1.dcm",
)
HEADERS = {name: real_files()[name].read_bytes()[: 40 * KIB] for name in NAMES}

# Small limits are met by small damage.
LIMITS = Limits(first_range=1 * KIB, largest_range=8 * KIB, value=4 * KIB, elements=5_000, depth=8)

EXAMPLES = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def judge(data: bytes) -> None:
    started = time.process_time()
    try:
        head = read_head(reader(data), len(data), LIMITS)
        summary = summarise(head)
    except Rejected as rejected:
        assert rejected.reason in REASONS
    else:
        text = json.dumps(summary.attributes, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        assert len(text.encode()) <= ATTRIBUTES_LIMIT
        fact = InstanceFact.of(summary)
        assert InstanceFact.from_item(json.loads(json.dumps(fact.to_item(), allow_nan=False))) == fact
        metadata = full_metadata(head, bulk_name)
        json.dumps(metadata, allow_nan=False)
        ElementTree.fromstring(native_xml(metadata))
        with suppress(FrameError):
            locate_frames(head, reader(data), LIMITS)
    assert time.process_time() - started < 5


@EXAMPLES
@given(
    name=st.sampled_from(NAMES),
    changes=st.lists(st.tuples(st.integers(0, 40 * KIB), st.binary(min_size=1, max_size=6)), min_size=1, max_size=8),
)
def test_overwritten_bytes(name: str, changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(HEADERS[name])
    for position, content in changes:
        position %= len(data)
        data[position : position + len(content)] = content
    judge(bytes(data))


@EXAMPLES
@given(
    name=st.sampled_from(NAMES),
    start=st.integers(0, 40 * KIB),
    length=st.integers(0, 2 * KIB),
    content=st.binary(max_size=200),
)
def test_spliced_bytes(name: str, start: int, length: int, content: bytes) -> None:
    data = HEADERS[name]
    start %= len(data)
    judge(data[:start] + content + data[start + length :])


@EXAMPLES
@given(first=st.sampled_from(NAMES), second=st.sampled_from(NAMES), at=st.integers(0, 4000), to=st.integers(0, 4000))
def test_two_files_grown_together(first: str, second: str, at: int, to: int) -> None:
    judge(HEADERS[first][:at] + HEADERS[second][to:])


@EXAMPLES
@given(body=st.binary(max_size=500), syntax=st.sampled_from(["1.2.840.10008.1.2", "1.2.840.10008.1.2.2", ""]))
def test_noise_after_a_file_meta(body: bytes, syntax: str) -> None:
    judge(part10(body, syntax))
