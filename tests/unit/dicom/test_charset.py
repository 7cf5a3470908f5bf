"""Text in every character set of PS3.3 C.12.1.1.2, announced rightly, wrongly or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.dicom.charset import decode, python_encodings

E = b"\x1b"
KOREAN = "ㅊ".encode("euc_kr")
WANG, XIAODONG = "王".encode("gb2312"), "小东".encode("gb2312")


@pytest.mark.parametrize(
    ("declared", "written", "read"),
    [
        (
            b"\\ISO 2022 IR 58",
            b"A=" + E + b"$)A" + "王".encode("gb2312") + b"^" + E + b"$)A" + "小东".encode("gb2312"),
            "A=王^小东",
        ),
        (b"ISO 2022 IR 100\\ISO 2022 IR 149", b"\xe7^" + E + b"$)C" + KOREAN + b"^\xe7", "ç^ㅊ^ç"),
        (b"ISO 2022 IR 100\\ISO 2022 IR 149", b"\xe7=" + E + b"$)C" + KOREAN + b"=\xe7", "ç=ㅊ=ç"),
        (b"ISO 2022 IR 100\\ISO 2022 IR 149", E + b"$)C" + KOREAN + b"\\\xe7", "ㅊ\\ç"),
        (b"\\ISO 2022 IR 87", b"Y=" + E + b"$B;3ED" + E + b"(J^" + E + b"$BB@O:" + E + b"(J", "Y=山田^太郎"),
        (b"\\ISO 2022 IR 87", E + b"$B;3ED^" + E + b"$BB@O:", "山田^太郎"),
        (b"", E + b"$B;3ED" + E + b"(B", "山田"),
        (b"ISO 2022 IR 13\\ISO 2022 IR 87", b"\xd4\xcf\xc0\xde=" + E + b"$B;3ED" + E + b"(J", "ﾔﾏﾀﾞ=山田"),
        (b"\\ISO 2022 IR 159", E + b"$(D0!" + E + b"(B^a", "丂^a"),
        (b"ISO 2022 IR 6\\ISO 2022 IR 144", b"L=" + E + b"-L\xbb\xee^" + E + b"-L\xdc", "L=Лю^м"),
        (b"ISO_IR 144", b"\xbb\xee^\xdc", "Лю^м"),
        (b"ISO_IR 166", b"\xb9\xd2\xc2", "นาย"),
        (b"ISO_IR 13", b"\xd4\xcf", "ﾔﾏ"),
        (b"ISO_IR 192", "Ü^王".encode(), "Ü^王"),
        (b"GB18030", "王^小东".encode("gb18030"), "王^小东"),
        (b"GBK\\ISO 2022 IR 58", "王".encode("gbk"), "王"),
        (b"ISO_IR 100\\ISO_IR 192", b"\xe7", "ç"),
    ],
)
def test_what_the_standard_has(declared: bytes, written: bytes, read: str) -> None:
    assert decode(written, python_encodings(declared), "PN") == read


@pytest.mark.parametrize(
    ("declared", "written", "read"),
    [
        (b"UTF-8", "è".encode(), "è"), (b"utf8", "è".encode(), "è"), (b"ISO_IR192", "è".encode(), "è"),
        (b"ISO-IR 100", b"\xe8", "è"), (b"iso_ir 100", b"\xe8", "è"), (b"ISO_IR_100", b"\xe8", "è"), (b"ISO IR100", b"\xe8", "è"),
        (b"ISO 8859-1", b"\xe8", "è"), (b"ISO_8859-2", b"\xb1", "ą"), (b"latin1", b"\xe8", "è"), (b"Windows-1252", b"\xe8", "è"),
        (b"IR 100", b"\xe8", "è"), (b"ISO2022 IR 149", KOREAN, "ㅊ"), (b"ISO_IR 149", KOREAN, "ㅊ"), (b"EUC-KR", KOREAN, "ㅊ"),
        (b"GB2312", "王".encode("gb2312"), "王"), (b"ISO 2022 GBK", "王".encode("gbk"), "王"),
        (b"", "è".encode(), "è"), (b"", b"\xe8", "è"), (b"\0 ", b"\xe8", "è"), (b"ISO_IR 6", b"\xe8", "è"),
        (b"windows-1251", "Люк".encode("cp1251"), "Люк"), (b"CP1250", "Łódź".encode("cp1250"), "Łódź"),
        (b"KOI8-R", "Люк".encode("koi8_r"), "Люк"), (b"Windows-1252", b"\x80", "€"),
        (b"ISO_IR 100", b"l\x92arto \x96 \x80", "l’arto – €"), (b"", b"dell\x92anca", "dell’anca"),
        (b"ISO_IR 192", b"Andr\xe9 B", "André B"), (b"ISO_IR 192", "éé".encode()[:-1], "é\ufffd"), (b"ISO_IR 999", b"\xe8", "è"),
    ],
)  # fmt: skip
def test_what_equipment_writes_in_its_place(declared: bytes, written: bytes, read: str) -> None:
    assert decode(written, python_encodings(declared)) == read


def test_a_line_end_brings_the_first_set_back_and_signs_of_a_name_do_so_in_names_only() -> None:
    charset = python_encodings(b"ISO 2022 IR 100\\ISO 2022 IR 149")
    assert decode(E + b"$)C" + KOREAN + b"\r\n\xe7", charset, "LT") == "ㅊ\r\nç"
    assert decode(E + b"$)C" + KOREAN + b"=" + KOREAN, charset, "LO") == "ㅊ=ㅊ"
    assert decode(E + b"$)C" + KOREAN + b"\\" + KOREAN, charset, "UT") == "ㅊ\\ㅊ"


@given(st.binary(max_size=60), st.binary(max_size=60), st.sampled_from(["PN", "LO", "UT"]))
def test_any_bytes_under_any_name_are_text(declared: bytes, written: bytes, vr: str) -> None:
    assert isinstance(decode(written, python_encodings(declared), vr), str)


@given(st.text(st.characters(codec="latin_1", exclude_characters="\x1b" + "".join(map(chr, range(0x80, 0xA0)))), max_size=40))
def test_text_of_a_declared_set_reads_back(text: str) -> None:
    assert decode(text.encode("latin_1"), python_encodings(b"ISO_IR 100")) == text
