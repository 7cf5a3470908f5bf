"""What Chalice zipped, made ready for a cold start: compiled, and without what no function of ours can call.

Lambda cannot write beside the code, so without byte code every new environment compiles every module again. Of botocore's
descriptions of some four hundred services only those are kept that `chalicelib` has clients of. The same content gives the
same zip, byte for byte.
"""

import io
import os
import subprocess
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

SERVICES = ("dynamodb", "lambda", "s3", "sns", "sqs", "sts")
"""What `chalicelib` has clients of, and STS, whose part in finding credentials is botocore's own."""

_DATA = "botocore/data/"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PLACE = "/var/task"


def finish(source: Path, wheels: Path, target: Path, interpreter: Sequence[str] | None) -> None:
    """Write the zip of what Chalice zipped and of what was installed into `wheels`: in the order of names, without times and
    owners, compiled by `interpreter`."""
    with zipfile.ZipFile(source) as old:
        found = {name: old.read(name) for name in sorted(set(old.namelist())) if not name.endswith("/")}
    installed = {path.relative_to(wheels).as_posix(): path.read_bytes() for path in wheels.rglob("*") if path.is_file()}
    found = {name: content for name, content in installed.items() if not name.startswith("bin/")} | found
    contents = {name: content for name, content in found.items() if is_called(name)}
    with zipfile.ZipFile(target, "w") as new:
        for name, content in sorted({**contents, **compiled(contents, interpreter)}.items()):
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


def compiled(contents: Mapping[str, bytes], interpreter: Sequence[str] | None) -> dict[str, bytes]:
    """The byte code of all modules, by its place in the zip: made by `interpreter`, whose version is the runtime's, and trusted
    without a look at the source (PEP 552, unchecked), whose time Lambda does not keep. None where there is no interpreter.
    """
    if interpreter is None:
        return {}
    given, made = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(given, "w") as sources:
        for name, content in sorted(contents.items()):
            if name.endswith(".py"):
                sources.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    done = subprocess.run(
        [*interpreter, "-W", "ignore", "-c", _COMPILE], input=given.getvalue(), env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True, check=True,
    )  # fmt: skip
    made.write(done.stdout)
    with zipfile.ZipFile(made) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


_COMPILE = f"""
import importlib.util, io, sys, zipfile
from importlib._bootstrap_external import _code_to_hash_pyc
made = io.BytesIO()
with zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read())) as given, zipfile.ZipFile(made, "w") as archive:
    for name in given.namelist():
        source = given.read(name)
        try:
            code = compile(source, "{_PLACE}/" + name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue  # such as a template, which need not be Python
        content = _code_to_hash_pyc(code, importlib.util.source_hash(source), False)
        archive.writestr(importlib.util.cache_from_source(name), bytes(content))
sys.stdout.buffer.write(made.getvalue())
"""
"""Byte code of the modules in a zip on standard input, as a zip on standard output: an interpreter may be in a container."""
