"""CRC-32 of bytes that were read in several places (ISO 3309; ZIP APPNOTE 4.4.7)."""

from __future__ import annotations

_POLYNOMIAL = 0xEDB88320
_ONE = 0x80000000
"""The polynomial 1, in the order of bits that CRC-32 uses."""


def joined(first: int, second: int, second_length: int) -> int:
    """The CRC-32 of two runs of bytes one after the other, from the CRC-32 of each; the second has so many bytes."""
    power, factor = _ONE, _ONE >> 8  # x^0, and x^8 for each byte
    while second_length:
        if second_length & 1:
            power = _product(power, factor)
        factor = _product(factor, factor)
        second_length >>= 1
    return _product(first, power) ^ second


def _product(a: int, b: int) -> int:
    """a times b, modulo the polynomial."""
    result = 0
    while a:
        if a & _ONE:
            result ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return result
