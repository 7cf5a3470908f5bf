"""Value representations: which have a 32-bit length, and which one a tag has (PS3.5 6.2, PS3.6)."""

from __future__ import annotations

from pydicom.datadict import dictionary_VR as _dictionary_vr
from pydicom.datadict import private_dictionary_VR
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR

LONG_VR = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32)
SHORT_VR = frozenset(str(vr).encode() for vr in STANDARD_VR) - LONG_VR
KNOWN_VR = {vr: vr.decode() for vr in LONG_VR | SHORT_VR}


def public_vr(tag: int) -> str:
    """The VR of a standard tag, `UN` where the dictionary has none. Some have two, as `US or SS`."""
    if tag & 0xFFFF == 0:
        return "UL"
    try:
        return str(_dictionary_vr(tag))
    except KeyError:
        return "UN"


def private_vr(tag: int, creator: bytes | None) -> str:
    """The VR of a private tag under its private creator, `UN` where nobody knows it (PS3.5 7.8)."""
    if 0x10 <= tag & 0xFFFF <= 0xFF:
        return "LO"
    if creator is None or not tag & 0xFF00:
        return "UN"
    try:
        return str(private_dictionary_VR(tag, creator.decode("ascii", "replace").strip(" \0")))
    except KeyError:
        return "UN"
