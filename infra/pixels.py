"""``python -m infra.pixels``: the package of the function that decodes pixels.

It is not Chalice's: its decoders are built for a newer C library than that of the other functions' runtime, and no other
function should have them. Of imagecodecs only the codecs that DICOM has are kept: what is not there cannot be attacked.
The same sources give the same zip, byte for byte.
"""

import argparse
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from chalicelib.config import VERSION
from infra import bundle, runtime

ROOT = Path(__file__).parent.parent
REQUIREMENTS = ROOT / "requirements" / "pixels.txt"
SOURCES = ("pixels/*.py", "chalicelib/__init__.py", "chalicelib/dicom/*.py", "chalicelib/domain/*.py")
"""Its own, and the rules of what the pixels of an instance are, which are the same wherever they are asked (docs/adr/0026)."""
UNZIPPED_LIMIT = 250_000_000
"""Bytes that Lambda takes."""

_LIBRARIES = ("libjpeg-", "libcharls-", "libopenjp2-", "liblcms2-")
_CODECS = ("_jpeg8", "_jpegls", "_jpeg2k", "_shared", "_shared_cython")
_LEFT_OUT = re.compile(
    r"(^|/)(tests?|__pycache__|testing)/|\.pyi$|\.pyc$|(^|/)bin/|^pydicom/data/(test_files|charset_files|palettes)/"
)
_EPOCH = (1980, 1, 1, 0, 0, 0)


def build(target: Path, name: str = runtime.DEFAULT, python: Sequence[str] | None = None) -> int:
    """Write the zip for a runtime, compiled by `python`; its unzipped size in bytes. Raises WheelsMissing."""
    content = _contents(name)
    content = {**content, **bundle.compiled(content, python)}
    with zipfile.ZipFile(target, "w") as archive:
        for place, data in sorted(content.items()):
            entry = zipfile.ZipInfo(place, _EPOCH)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
            archive.writestr(entry, data, compresslevel=6)
    return sum(map(len, content.values()))


@cache
def _contents(name: str) -> dict[str, bytes]:
    """What goes into the zip for a runtime, by name."""
    with tempfile.TemporaryDirectory(prefix="contenitore-pixels-") as folder:
        runtime.install(REQUIREMENTS, name, Path(folder))
        found = {place: path.read_bytes() for place, path in _files(Path(folder))}
    for path in (path for pattern in SOURCES for path in sorted(ROOT.glob(pattern))):
        if path.name != "worker.py":  # the local city's own
            found[path.relative_to(ROOT).as_posix()] = path.read_bytes()
    return found


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        codec = re.match(r"imagecodecs/(_\w+)\.", name)
        unused = codec is not None and name.endswith(".so") and codec[1] not in _CODECS
        library = re.match(r"imagecodecs\.libs/(.+)", name)
        unused = unused or (library is not None and not library[1].startswith(_LIBRARIES))
        if path.is_file() and not unused and not _LEFT_OUT.search(name):
            yield name, path


def main(arguments: list[str] | None = None) -> int:
    """The command: writes build/pixels.zip."""
    parser = argparse.ArgumentParser(prog="python -m infra.pixels", description="The function that decodes pixels: its zip.")
    parser.add_argument("--version", action="version", version=VERSION)
    parser.parse_args(arguments)
    target = ROOT / "build" / "pixels.zip"
    target.parent.mkdir(exist_ok=True)
    unzipped = build(target, python=runtime.interpreter(runtime.DEFAULT))
    print(f"{target}  ({target.stat().st_size / 1e6:.1f} MB, unzipped {unzipped / 1e6:.1f} MB)")
    return 0 if unzipped < UNZIPPED_LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
