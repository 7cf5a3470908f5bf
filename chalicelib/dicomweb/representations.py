"""What each resource offers, as tables (PS3.18 8.7.3, 8.7.4, 10.4.4, 10.6.4); the first offer is the default."""

from __future__ import annotations

from chalicelib.dicomweb.media_types import EXPLICIT_VR_LITTLE_ENDIAN, Representation

JSON = "application/dicom+json"
XML = "application/dicom+xml"
DICOM = "application/dicom"
OCTETS = "application/octet-stream"
ZIP = "application/zip"

# Table 10.6.4-1 for searches, Table 10.4.4-1 for metadata; application/json for clients that know no other
# JSON.
SEARCH: tuple[Representation, ...] = (
    Representation(JSON),
    Representation(XML, multipart=True),
    Representation("application/json"),
)
METADATA: tuple[Representation, ...] = SEARCH
# One object, so XML needs no multipart (Annex I.3).
STORE_RESPONSE: tuple[Representation, ...] = (Representation(JSON), Representation(XML), Representation("application/json"))
# Table 13.1.3-1.
COMMITMENT: tuple[Representation, ...] = (
    *STORE_RESPONSE,
    Representation(JSON, multipart=True),
    Representation(XML, multipart=True),
)

# Table 8.7.3-5: transfer syntax → media type of its frames as bulk data.
FRAME_TYPES: dict[str, str] = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.53": "image/jpeg",
    "1.2.840.10008.1.2.4.55": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.110": "image/jxl",
    "1.2.840.10008.1.2.4.111": "image/jxl",
    "1.2.840.10008.1.2.4.112": "image/jxl",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.4.100": "video/mpeg",
    "1.2.840.10008.1.2.4.100.1": "video/mpeg",
    "1.2.840.10008.1.2.4.101": "video/mpeg",
    "1.2.840.10008.1.2.4.101.1": "video/mpeg",
    "1.2.840.10008.1.2.4.102": "video/mp4",
    "1.2.840.10008.1.2.4.102.1": "video/mp4",
    "1.2.840.10008.1.2.4.103": "video/mp4",
    "1.2.840.10008.1.2.4.103.1": "video/mp4",
    "1.2.840.10008.1.2.4.104": "video/mp4",
    "1.2.840.10008.1.2.4.104.1": "video/mp4",
    "1.2.840.10008.1.2.4.105": "video/mp4",
    "1.2.840.10008.1.2.4.105.1": "video/mp4",
    "1.2.840.10008.1.2.4.106": "video/mp4",
    "1.2.840.10008.1.2.4.106.1": "video/mp4",
    "1.2.840.10008.1.2.4.107": "video/H265",
    "1.2.840.10008.1.2.4.108": "video/H265",
}

VIDEO = frozenset(uid for uid, name in FRAME_TYPES.items() if name.startswith("video/"))

# Where only lossy pixels exist, they may be returned as they are to who names no syntax (8.7.3.4).
LOSSY = VIDEO | {f"1.2.840.10008.1.2.4.{end}" for end in ("50", "51", "53", "55", "81", "91", "93", "111", "112", "203")}

# Of these the data set is little endian with explicit VR, as web services want it (8.7.3); the others are
# rewritten.
NOT_FOR_THE_WEB = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.2"})

# Table 8.7.4-1, by resource category (Table 8.7.2-1): what this archive renders.
RENDERED: dict[str, tuple[Representation, ...]] = {
    "single-frame": (Representation("image/jpeg"), Representation("image/png"), Representation("image/gif")),
    "multi-frame": (Representation("image/gif"),),
    "document": (Representation("application/pdf"),),
    "text": (Representation("text/html"), Representation("text/plain"), Representation("text/xml")),
}
THUMBNAIL: tuple[Representation, ...] = (Representation("image/jpeg"), Representation("image/png"))


def _syntaxes(stored: str) -> tuple[tuple[str, ...], str]:
    """(all that a client may ask for, default first; what it gets for `*`) of something stored in one syntax."""
    if stored in NOT_FOR_THE_WEB or stored == EXPLICIT_VR_LITTLE_ENDIAN:
        return (EXPLICIT_VR_LITTLE_ENDIAN,), EXPLICIT_VR_LITTLE_ENDIAN
    if stored in VIDEO:
        return (stored,), stored
    if stored in LOSSY:
        return (stored, EXPLICIT_VR_LITTLE_ENDIAN), stored
    return (EXPLICIT_VR_LITTLE_ENDIAN, stored), stored


def instance(stored: str) -> tuple[Representation, ...]:
    """Of one instance (Table 10.4.4-1); `stored` is its transfer syntax."""
    syntaxes, as_stored = _syntaxes(stored)
    return (
        Representation(DICOM, True, syntaxes, as_stored),
        Representation(DICOM, False, syntaxes, as_stored),
        Representation(OCTETS, True),
        Representation(ZIP),
    )


def instances(stored: frozenset[str]) -> tuple[Representation, ...]:
    """Of a study or a series (Table 10.4.4-1); `stored` are the transfer syntaxes of its instances.

    A transfer syntax can be asked for by its UID only if every instance can be had in it.
    """
    common = next(iter(stored)) if len(stored) == 1 else EXPLICIT_VR_LITTLE_ENDIAN
    syntaxes, as_stored = _syntaxes(common)
    return (Representation(DICOM, True, syntaxes, as_stored), Representation(OCTETS, True), Representation(ZIP))


def frames(stored: str, *, single: bool) -> tuple[Representation, ...]:
    """Of frames, or of Pixel Data as bulk data (Tables 8.7.3-4 and 8.7.3-5).

    `single`: the answer is one part, so a media type without multipart will do. The uncompressed octets are
    the default; whoever asks for an image gets the stored frame, and only in the syntax it has. A video is
    never decoded.
    """
    compressed = FRAME_TYPES.get(stored)
    if compressed is None:
        offers = [Representation(OCTETS, True, (EXPLICIT_VR_LITTLE_ENDIAN,), EXPLICIT_VR_LITTLE_ENDIAN)]
    else:
        offers = [Representation(compressed, True, (stored,), stored)]
        if stored in VIDEO:
            offers.append(Representation(OCTETS, True, (stored,), stored))
        else:
            offers.insert(0, Representation(OCTETS, True, (EXPLICIT_VR_LITTLE_ENDIAN, stored), stored))
    if single:
        offers += [Representation(o.media_type, False, o.transfer_syntaxes, o.stored) for o in offers]
    return tuple(offers)


def bulkdata(*, single: bool, document: str | None = None) -> tuple[Representation, ...]:
    """Of bulk data other than pixels (Table 10.4.4-1); `document`: its own media type, if it is an encapsulated document."""
    offers = [Representation(OCTETS, True, (EXPLICIT_VR_LITTLE_ENDIAN,))]
    if document is not None:
        offers.append(Representation(document, True))
    if single:
        offers += [Representation(o.media_type, False, o.transfer_syntaxes) for o in offers]
    return tuple(offers)
