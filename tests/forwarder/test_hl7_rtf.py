"""RTF as it stands in reports: its text, or nothing at all."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.hl7.rtf import UnreadableRtf, read

FONTS = r"{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset2 Symbol;}{\f2\fcharset238 Arial CE;}}"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (r"\f0\fs20 Perch\'e9 3\'965 mm\par Fine", "Perché 3–5 mm\nFine"),
        (r"\u232?\u8805\'3d 2 {\b grassetto} \{x\}", "è≥ 2 grassetto {x}"),
        (r"{\uc0\u233}t\uc1\u233 ?t", "étét"),
        (r"\u-10179?\u-8704?", "\U0001f600"),
        (r"10{\super 3} e 10\super 4\nosupersub , CO{\sub 2}", "10^3 e 10^4, CO2"),
        (r"\trowd a\cell b\cell\row c\cell\cell\row", "a | b\nc"),
        (r"{\f2\'9a}\f0\'9a", "šš"),
        ("a\r\nb\\\r\nc\\~d\\_e\\-f", "ab\nc d-ef"),
        (r"{\*\shppict{\pict 0102}}testo", "testo\n\n[Immagini non trasmesse]"),
        (r"{\info{\author Rossi}}{\stylesheet{\s0 Normal;}{\s1\strike Via;}}{\colortbl;\red0;}testo", "testo"),
        (r"{\field{\*\fldinst HYPERLINK x}{\fldrslt vedi}}", "vedi"),
    ],
)
def test_its_text_is_what_is_shown(body: str, text: str):
    assert read(r"{\rtf1\ansi\ansicpg1252" + FONTS + body + "}") == text


@pytest.mark.parametrize(
    "body",
    [
        r"{\strike Nodulo.} Nulla.", r"{\deleted via}", r"{\v nascosto}", r"{\f1 \'b3}", r"{\f1 a}", r"\u-3917?", r"\mac x",
        r"\bin4 ab{}", r"aperto {", r"\uc-1 a", r"\uc99 a", r"\'81", r"\ansicpg9999 \'e8", "}}",
    ],
)  # fmt: skip
def test_what_would_say_something_else_as_plain_text_is_refused(body: str):
    with pytest.raises(UnreadableRtf):
        read(r"{\rtf1\ansi" + FONTS + body + "}")


@pytest.mark.parametrize("sign", [" ", "|", " | ", r"\cell ", "\\", r"\'"])
def test_megabytes_of_one_sign_are_read_in_a_moment(sign: str):
    began = time.process_time()
    with contextlib.suppress(UnreadableRtf):
        read("{\\rtf1 " + sign * (1_000_000 // len(sign)) + "x}")
    assert time.process_time() - began < 5


def test_megabytes_and_deep_groups_are_read_in_a_moment():
    assert len(read(r"{\rtf1 " + r"parola\par " * 300_000 + "}")) > 2_000_000
    assert read(r"{\rtf1 " + "{" * 100_000 + "x" + "}" * 100_000 + "}") == "x"


@given(st.text(alphabet="{}\\'*~-abfupv0123 \r\n|^&è"))
def test_whatever_it_holds_it_is_read_or_refused(body: str):
    with contextlib.suppress(UnreadableRtf):
        assert isinstance(read("{\\rtf1 " + body + "}"), str)
