"""What is read of strangers' bytes, each reader with what it may raise and the inputs that the search begins with."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Target:
    """`read` must end soon, and raise nothing: what its reader may raise it catches itself."""

    name: str
    read: Callable[[bytes], object]
    tokens: tuple[bytes, ...] = ()
    largest: int = 8192

    def corpus(self) -> list[bytes]:
        """The committed inputs."""
        return [file.read_bytes() for file in sorted((CORPUS / self.name).glob("*"))]


def header(data: bytes) -> None:
    """The archive's reader of heads, as the indexer calls it: in two rounds."""
    from chalicelib.domain.rejections import REASONS
    from chalicelib.services.ingest.summaries import begins_as_dicom, read_summary

    begins_as_dicom(data[:256])
    for whole in (False, True):
        found = read_summary(lambda start, length: data[start : start + length], len(data), whole)
        if isinstance(found, str):
            assert found in REASONS, found
        elif found is not None:
            json.dumps(found.attributes, allow_nan=False)


def forwarders_header(data: bytes) -> None:
    """The forwarder's own look at a file, which gives up quietly."""
    from forwarder.header import read_header

    read_header(data)


def pixels(data: bytes) -> None:
    """The function that decodes: whatever a decoder raises, it answers as undecodable. Found is what hangs, or takes all memory."""
    from pixels import render
    from pixels.instance import OpenInstance

    job = {"op": "render", "media_type": "image/png", "frame": 1, "quality": 90, "box": [0, 0, 32, 32], "size": [32, 32]}
    wanted = render.job(job | {"flip": [False, False]})
    try:
        render.render(OpenInstance(lambda start, length: data[start : start + length], len(data)), wanted)
    except MemoryError:
        raise
    except Exception:  # as the function does, for whatever a decoder raises
        return


def multipart(data: bytes) -> None:
    """A STOW-RS body: the first line is its Content-Type."""
    from chalicelib.dicomweb.stow import parse_store_request
    from chalicelib.domain.errors import ContenitoreError

    kind, _, body = data.partition(b"\n")
    with suppress(ContenitoreError):
        parse_store_request(kind.decode("latin-1"), body)


def commitment(data: bytes) -> None:
    """A request for storage commitment: the first line is its Content-Type."""
    from chalicelib.dicomweb.commitment import parse_commitment_request
    from chalicelib.domain.errors import ContenitoreError

    kind, _, body = data.partition(b"\n")
    with suppress(ContenitoreError):
        parse_commitment_request(kind.decode("latin-1"), body)


def qido(data: bytes) -> None:
    """The parameters of a search, at each level."""
    from chalicelib.dicomweb.qido import matches, parse_query
    from chalicelib.domain.errors import ContenitoreError

    params = parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True)
    stored = {"00100020": {"vr": "LO", "Value": ["1"]}, "00100010": {"vr": "PN", "Value": [{"Alphabetic": "ROSSI^ANNA"}]}}
    for level in ("study", "series", "instance"):
        with suppress(ContenitoreError):
            matches(parse_query(level, params), stored)  # type: ignore[arg-type]


def parameters(data: bytes) -> None:
    """The parameters of pictures and of WADO-URI."""
    from chalicelib.dicomweb.rendered import parse_rendering, parse_thumbnail
    from chalicelib.dicomweb.wado_uri import parse_wado_uri
    from chalicelib.domain.errors import ContenitoreError

    params = parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True)
    for parse in (parse_rendering, parse_thumbnail, parse_wado_uri):
        with suppress(ContenitoreError):
            parse(params)


def media_types(data: bytes) -> None:
    """An Accept header, and a media type."""
    from chalicelib.dicomweb.media_types import negotiate, parse_accept, parse_media_type
    from chalicelib.dicomweb.representations import SEARCH
    from chalicelib.domain.errors import ContenitoreError

    text = data.decode("latin-1")
    with suppress(ContenitoreError):
        parse_media_type(text)
        parse_accept(text)
        negotiate(SEARCH, text)


def cda(data: bytes) -> None:
    """A clinical document, whole and by its beginning, and as the forwarder reads it for a PACS."""
    from chalicelib.dicom.cda import UnreadableDocument, read_cda, read_header
    from forwarder.deliver.documents import CannotBeShownError, _narrative

    for read in (read_cda, read_header):
        with suppress(UnreadableDocument):
            read(data)
    with suppress(CannotBeShownError):
        list(_narrative(data))


def hl7(data: bytes) -> None:
    """A message, as a report and as an event of ADT."""
    from forwarder.config import parse
    from forwarder.hl7.adt.event import read_events, trigger_of
    from forwarder.hl7.message import RefusedMessage, begin, read_header
    from forwarder.hl7.receiver import ORDERS, TAKEN, read_orders
    from forwarder.hl7.report import check_header, kind_of, read_reports

    config = _HL7.get("config") or _HL7.setdefault(
        "config",
        parse(
            '[archive]\napi = "https://a.example"\n[spool]\nfolder = "/nowhere"\n[hl7]\nport = 2575\nallowed_addresses = ["127.0.0.1"]\n'
            'patient_authority = "SM"\n[hl7.adt]\nenabled = true\ndestinations = { "MG" = "maugeri" }\n[hl7.orders]\nenabled = true\n'
        ).hl7,
    )
    with suppress(RefusedMessage):
        head = read_header(begin(data))
        check_header(head, config)  # type: ignore[arg-type]
        if kind_of(head) in ORDERS:
            read_orders(data, head, config, "0" * 64)  # type: ignore[arg-type]
        elif kind_of(head)[0] != "ADT":
            read_reports(data, head, config)  # type: ignore[arg-type]
        elif trigger_of(head) in TAKEN:
            read_events(data, head, config, "0" * 64)  # type: ignore[arg-type]


_HL7: dict[str, object] = {}


def rtf(data: bytes) -> None:
    """A report's RTF: plain text comes of it, without a character that no line of text can bear, or it is refused."""
    from forwarder.hl7.rtf import UnreadableRtf, read

    with suppress(UnreadableRtf):
        read(data.decode("latin-1")).encode("utf-8")


def toml(data: bytes) -> None:
    """The forwarder's configuration: anything wrong is a ConfigError that names it."""
    from forwarder.config import parse
    from forwarder.errors import ConfigError

    with suppress(ConfigError):
        parse(data.decode("utf-8", "replace"))


def native_xml(data: bytes) -> None:
    """A data set as XML (PS3.19 A.1)."""
    from chalicelib.dicomweb.native_xml import parse_xml
    from chalicelib.domain.errors import ContenitoreError

    with suppress(ContenitoreError):
        parse_xml(data)


_DICOM = (
    b"DICM", b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\xfe\xff\x0d\xe0\x00\x00\x00\x00", b"\xfe\xff\xdd\xe0\x00\x00\x00\x00",
    b"SQ\x00\x00\xff\xff\xff\xff", b"UN\x00\x00", b"\xe0\x7f\x10\x00OW\x00\x00", b"\x28\x00\x10\x00US\x02\x00", b"1.2.840.10008.1.2.1.99",
    b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.90", b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100",
)  # fmt: skip
_HTTP = (
    b"multipart/related",
    b'type="application/dicom"',
    b"boundary=",
    b"--x\r\n",
    b"\r\n\r\n",
    b"--x--",
    b"*/*",
    b";q=0.5",
    b'"',
    b"\\",
    b",",
)
_QUERY = (
    b"&",
    b"=",
    b"%00",
    b"%5C",
    b"*",
    b"?",
    b"-",
    b"00100020",
    b"includefield=all",
    b"fuzzymatching=true",
    b"limit=",
    b"StudyDate=20200101-",
    b"%FF",
)
_XML = (
    b"<",
    b"/>",
    b"<!DOCTYPE x [<!ENTITY a 'b'>]>",
    b"&a;",
    b"<![CDATA[",
    b"xmlns='urn:hl7-org:v3'",
    b"\xff\xfe",
    b"<code code='18782-3'/>",
    b"]]>",
)
_MESSAGE = (
    b"\rMSH|^~\\&|",
    b"\rOBX|1|ED|",
    b"^Base64^",
    b"\\X0D\\",
    b"\\.br\\",
    b"\rPID|1||",
    b"~",
    b"^",
    b"&",
    b"\rPV1|1|I|",
    b"\rMRG|",
    b"\x1c",
    b"\rEVN||",
)
_RTF = (
    rb"{\*", rb"\par ", rb"\u-3913?", rb"\u55357?", rb"\uc0 ", rb"\'e8", rb"\strike0 ", rb"\super ", rb"\f1 ", rb"\fcharset238 ", rb"\ansicpg1250",
    rb"{\fonttbl{\f0 Arial;}}", rb"{\pict ", rb"\bin9 ", rb"{\fldinst ", rb"\cell ", b"{", b"}", b"\\",
)  # fmt: skip

TARGETS = {
    target.name: target
    for target in (
        Target("header", header, _DICOM, 65536),
        Target("forwarders_header", forwarders_header, _DICOM, 65536),
        Target("pixels", pixels, _DICOM, 65536),
        Target("multipart", multipart, _HTTP),
        Target("commitment", commitment, (*_HTTP, *_XML)),
        Target("qido", qido, _QUERY, 2048),
        Target("parameters", parameters, (*_QUERY, b"viewport=", b"window=", b"quality="), 2048),
        Target("media_types", media_types, _HTTP, 2048),
        Target("cda", cda, _XML),
        Target("native_xml", native_xml, _XML),
        Target("hl7", hl7, _MESSAGE),
        Target("rtf", rtf, _RTF),
        Target("toml", toml, (b"[", b"]", b"=", b'"', b"'''", b"[[peers]]", b"{", b"}", b"\n", b"1e400", b"2020-01-01"), 4096),
    )
}


@dataclass
class Finding:
    """An input that a reader stumbled over."""

    target: str
    data: bytes
    error: str
    kept: Path | None = field(default=None)
