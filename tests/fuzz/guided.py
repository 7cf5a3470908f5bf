"""One target under atheris (libFuzzer): `python -m tests.fuzz.guided TARGET CORPUS… [-option=value …]`."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        import atheris  # type: ignore[import-not-found]
    except ImportError:
        raise SystemExit("atheris is not installed: pip install -r requirements/fuzz.txt") from None

    with atheris.instrument_imports(include=["chalicelib", "forwarder", "pixels"]):
        from tests.fuzz.targets import TARGETS

        target = TARGETS[sys.argv.pop(1)]
        target.read(target.corpus()[0] if target.corpus() else b"")  # what it imports is instrumented too

    def read(data: bytes) -> None:
        target.read(data)

    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
