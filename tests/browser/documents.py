"""Documents of invented patients: PDFs that can be told from any other by their look."""

from __future__ import annotations

import numpy as np
from playwright.sync_api import Locator

from tests.browser.chromium import pixels

GREY = 127


def pdf(text: str, padding: int = 0) -> bytes:
    """A page of 300 × 400 points with a text, its lower half grey (`GREY`); with so many bytes of nothing."""
    stream = f"0.498 g 0 0 300 200 re f 0 g BT /F1 24 Tf 20 300 Td ({text}) Tj ET".encode()
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 400]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>", page,
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream), b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]  # fmt: skip
    out, places = b"%PDF-1.4\n%" + b"x" * padding + b"\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + table + b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(out)


def shows_the_document(element: Locator, *, dark: bool = False) -> bool:
    """Whether an element shows the page of `pdf`: white above (`dark`: turned for a dark room), its grey below."""
    grey = pixels(element)
    paper = (grey > 10) & (grey < 30) if dark else grey > 250
    return bool(np.mean(paper) > 0.05 and np.mean(np.abs(grey - GREY) < 3) > 0.05)
