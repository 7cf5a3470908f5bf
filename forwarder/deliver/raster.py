"""Draw the pages of a PDF: `python -m forwarder.deliver.raster IN OUT MOST`, a process with limits, since a PDF is a stranger's.

OUT holds of each page rows, columns and samples a pixel (32 bits each, little endian) and the pixels. Exit code 1 where it
cannot be drawn whole.
"""

from __future__ import annotations

import resource
import struct
import sys
from pathlib import Path

DOTS_PER_INCH = 150
LARGEST = 4000  # pixels of a side
MEMORY = 2 * 1024**3
PROCESSOR_SECONDS = 60


def draw(source: Path, target: Path, most: int) -> bool:
    """Whether all pages are drawn; grey where a page has no colour."""
    import numpy as np
    import pypdfium2

    document = pypdfium2.PdfDocument(source)
    if not 0 < len(document) <= most:
        return False
    with target.open("wb") as out:
        for page in document:
            scale = min(DOTS_PER_INCH / 72, LARGEST / max(page.get_size()))
            pixels = page.render(scale=scale, rev_byteorder=True).to_numpy()[:, :, :3]
            grey = bool((pixels[:, :, 0] == pixels[:, :, 1]).all() and (pixels[:, :, 1] == pixels[:, :, 2]).all())
            picture = np.ascontiguousarray(pixels[:, :, 0] if grey else pixels)
            out.write(struct.pack("<LLL", pixels.shape[0], pixels.shape[1], 1 if grey else 3))
            out.write(picture.tobytes())
    return True


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS))
    source, target, most = sys.argv[1:]
    try:
        return 0 if draw(Path(source), Path(target), int(most)) else 1
    except Exception:  # whatever the library finds: it is not drawn
        return 1


if __name__ == "__main__":
    sys.exit(main())
