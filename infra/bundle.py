"""What Chalice zipped, made ready for a cold start: compiled, and without what no function of ours can call.

Lambda cannot write beside the code, so without byte code every new environment compiles every module again. Of botocore's
descriptions of some four hundred services only those are kept that `chalicelib` has clients of. The same content gives the
same zip, byte for byte.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

SERVICES = ("dynamodb", "lambda", "s3", "sns", "sts")
"""What `chalicelib` has clients of, and STS, whose part in finding credentials is botocore's own."""

_DATA = "botocore/data/"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PLACE = "/var/task"


def finish(source: Path, target: Path) -> None:
    """Write the zip anew: in the order of names, without times and owners."""
    with zipfile.ZipFile(source) as old:
        contents = {name: old.read(name) for name in sorted(set(old.namelist())) if not name.endswith("/") and is_called(name)}
    with zipfile.ZipFile(target, "w") as new:
        for name, content in sorted({**contents, **compiled(contents)}.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
            new.writestr(entry, content, compresslevel=9)


def is_called(name: str) -> bool:
    """Whether a file is anything but the description of a service that nothing of ours calls, or an example of a call."""
    service, _, file = name.removeprefix(_DATA).partition("/")
    return not name.startswith(_DATA) or not file or (service in SERVICES and not file.endswith("examples-1.json"))


def sources(names: Iterable[str]) -> list[str]:
    """The names of what is written by people, or comes so from a wheel."""
    return [name for name in names if "/__pycache__/" not in f"/{name}"]


def compiled(contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """The byte code of all modules, by its place in the zip: for this interpreter, whose version is the runtime's, and
    trusted without a look at the source (PEP 552, unchecked), whose time Lambda does not keep.
    """
    with tempfile.TemporaryDirectory(prefix="contenitore-compile-") as folder:
        for name, content in contents.items():
            if name.endswith(".py"):
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        subprocess.run(  # it fails when one file does, such as a template, which need not be Python
            [*command, "-s", folder, "-p", _PLACE, folder],
            env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, check=False,
        )  # fmt: skip
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(Path(folder).rglob("*.pyc"))}
