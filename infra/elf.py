"""What native code in a package asks of the machine that loads it: kind of processor, libraries, versions of their symbols.

A wheel for a newer C library than the runtime's installs without complaint, and fails at the first import in Lambda.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

Version = tuple[int, ...]

_SYSTEM = frozenset(
    {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libgcc_s.so.1", "libstdc++.so.6"}
    | {"libz.so.1", "ld-linux-aarch64.so.1"}
)


@dataclass(frozen=True)
class Runtime:
    """What a Lambda runtime on arm64 has: the newest versions of symbols, by prefix, and the libraries."""

    system: str
    newest: dict[str, Version]
    libraries: frozenset[str] = _SYSTEM


_LINUX_2 = Runtime("Amazon Linux 2", {"GLIBC": (2, 26), "GLIBCXX": (3, 4, 24), "CXXABI": (1, 3, 11), "GCC": (7, 0, 0)})
_LINUX_2023 = Runtime("Amazon Linux 2023", {"GLIBC": (2, 34), "GLIBCXX": (3, 4, 29), "CXXABI": (1, 3, 13), "GCC": (11, 0)})
RUNTIMES = {
    "python3.10": _LINUX_2,
    "python3.11": _LINUX_2,
    "python3.12": _LINUX_2023,
    "python3.13": _LINUX_2023,
    "python3.14": _LINUX_2023,
}


@dataclass(frozen=True)
class Native:
    """One file of native code in a zip: `symbols` are (prefix, version) pairs, such as ("GLIBC", (2, 17))."""

    name: str
    machine: str
    libraries: frozenset[str]
    symbols: frozenset[tuple[str, Version]]


def natives(package: Path) -> list[Native]:
    """All native code in a zip, in the order of names."""
    with zipfile.ZipFile(package) as archive:
        contents = {name: archive.read(name) for name in sorted(archive.namelist())}
    return [_native(name, content) for name, content in contents.items() if content.startswith(b"\x7fELF")]


def unloadable(package: Path, runtime: str) -> Iterator[str]:
    """Every reason why native code in the zip would not load in a runtime of `RUNTIMES` on arm64."""
    offered = RUNTIMES[runtime]
    found = natives(package)
    brought = {library.name.rsplit("/", 1)[-1] for library in found}
    for library in found:
        if library.machine != "EM_AARCH64":
            yield f"{package.name}: {library.name} is for {library.machine}, not for arm64"
        built_for = re.search(r"\.cpython-3(\d+)-", library.name)
        if built_for and f"python3.{built_for[1]}" != runtime:
            yield f"{package.name}: {library.name} is not for {runtime}"
        for missing in sorted(library.libraries - offered.libraries - brought):
            yield f"{package.name}: {library.name} needs {missing}, which neither the zip nor {offered.system} has"
        for prefix, version in sorted(library.symbols):
            if prefix in offered.newest and version > offered.newest[prefix]:
                wanted = ".".join(map(str, version))
                yield f"{package.name}: {library.name} needs {prefix}_{wanted}, newer than {offered.system} ({runtime}) has"


def _native(name: str, content: bytes) -> Native:
    file = ELFFile(io.BytesIO(content))
    libraries: set[str] = set()
    symbols: set[tuple[str, Version]] = set()
    for section in file.iter_sections():
        if isinstance(section, DynamicSection):
            libraries |= {str(tag.needed) for tag in section.iter_tags("DT_NEEDED")}
        if isinstance(section, GNUVerNeedSection):
            for _library, wanted in section.iter_versions():
                symbols |= {parsed for version in wanted if (parsed := _version(str(version.name)))}
    return Native(name, str(file["e_machine"]), frozenset(libraries), frozenset(symbols))


def _version(symbol: str) -> tuple[str, Version] | None:
    """("GLIBC", (2, 17)) of "GLIBC_2.17"; None for versions that are no numbers, such as GLIBC_PRIVATE."""
    match = re.fullmatch(r"([A-Z]+)_(\d+(?:\.\d+)*)", symbol)
    return (match[1], tuple(int(part) for part in match[2].split("."))) if match else None
