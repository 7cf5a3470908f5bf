"""``python -m infra.package``: what is deployed, made on this machine without an account.

Chalice packages a copy of the sources, so that no build of before and no stray file gets into the zip; what they need is added
for the runtime that is asked for (`infra.runtime`). Chalice merges an override for a resource that does not exist in silence:
here it is a fault, and so are a wheel that is left out, native code that the runtime could not load (`infra.elf`), and whatever
cfn-lint finds in what CloudFormation's transform makes of the template (`infra.transform`).
The same sources give the same zip, byte for byte.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from chalicelib.config import VERSION
from infra import bill, bundle, elf, pixels, resource_policy, runtime, throttles, transform
from infra.templates import Template, overrides

ROOT = Path(__file__).parent.parent
HALF_OF_UNZIPPED_LIMIT = 250_000_000 // 2
"""Bytes. Lambda takes 250 MB unzipped; the other half is for those who come after."""
HALF_OF_ZIPPED_LIMIT = 50_000_000 // 2
"""Bytes. Lambda takes 50 MB zipped."""
HALF_OF_TEMPLATE_LIMIT = 1_000_000 // 2
"""Bytes. CloudFormation takes 1,000,000, spaces among them: of what the AWS CLI writes two thirds are indentation."""

Interpreter = Sequence[str] | None
"""The command of an interpreter of the runtime's version, where there is one."""
_LAMBDA_ENVIRONMENT = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
_UNWANTED = re.compile(r"^(local|forwarder|infra|docs|tests|moto|pynetdicom|pytest)/|__pycache__/|\.pyc$")


class PackagingFailed(Exception):
    """The package must not be deployed; the message says why, one fault a line."""


@dataclass(frozen=True)
class Package:
    """What was made: the template, the zip beside it, and its sizes in bytes."""

    template_file: Path
    zip_file: Path
    template: Template
    zipped: int
    unzipped: int


def package(stage: str, out: Path, root: Path = ROOT, name: str = runtime.DEFAULT, python: Interpreter = None) -> Package:
    """Package ``root`` for a stage of ``.chalice/config.json`` and a runtime: ``out/sam.json``, ``out/deployment.zip`` and, of
    the function that decodes pixels, ``out/pixels.zip``. Byte code is made by ``python``, an interpreter of that version.

    Raises PackagingFailed when Chalice fails, a wheel is not to be had, or the outcome has a fault.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _chalice(stage, root, name) as (made, template), tempfile.TemporaryDirectory(prefix="contenitore-wheels-") as wheels:
        try:
            runtime.install(root / "requirements.txt", name, Path(wheels))
            decoder = pixels.build(out / "pixels.zip", name, python)
        except runtime.WheelsMissing as missing:
            raise PackagingFailed(f"a wheel for {name} on arm64 is not to be had:\n{missing}") from missing
        bundle.finish(made / "deployment.zip", Path(wheels), out / "deployment.zip", python)
    template_file = out / "sam.json"
    template_file.write_text(json.dumps(template, indent=2) + "\n", encoding="utf-8")
    with zipfile.ZipFile(out / "deployment.zip") as archive:
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    result = Package(
        template_file=template_file,
        zip_file=out / "deployment.zip",
        template=template,
        zipped=(out / "deployment.zip").stat().st_size,
        unzipped=sum(entry.file_size for entry in entries),
    )
    faults = [
        *wheels_left_out((root / "requirements.txt").read_text(encoding="utf-8"), names, name),
        *strays(bundle.sources(names)),
        *(uncompiled(names, name) if python else ()),
        *oversize(result.zipped, result.unzipped),
        *([f"pixels.zip: {decoder:,} bytes unzipped are more than Lambda takes"] if decoder > pixels.UNZIPPED_LIMIT else []),
        *oversize_template(template),
        *template_faults(template),
        *unloadable(template, out),
    ]
    if faults:
        raise PackagingFailed("\n".join(faults))
    return result


def sam_template(stage: str, root: Path = ROOT, name: str = runtime.DEFAULT) -> Template:
    """The template alone, as `package` makes it, in seconds and without the package index. Raises PackagingFailed."""
    with _chalice(stage, root, name) as (_, template):
        return template


def template_faults(template: Template) -> Iterator[str]:
    """What is wrong with the template, whatever is in the zips."""
    unmet = list(overrides_without_target(template))
    yield from unmet
    if not unmet:
        yield from resource_policy.faults(template)
        yield from transform.faults(template)


def wheels_left_out(requirements: str, names: Iterable[str], name: str = runtime.DEFAULT) -> Iterator[str]:
    """Every requirement that is not in the zip, by the zip's content."""
    environment = _LAMBDA_ENVIRONMENT | {
        "python_version": runtime.version(name),
        "python_full_version": runtime.version(name) + ".0",
    }
    present = {
        (canonicalize_name(match.group(1)), match.group(2))
        for match in (re.match(r"([^/]+)-([^/-]+)\.dist-info/METADATA$", name) for name in names)
        if match
    }
    for package in bill.locked(requirements, environment):
        if (package.name, package.version) not in present:
            yield f"not in the zip: {package.name}=={package.version}"


def strays(names: Iterable[str]) -> Iterator[str]:
    """What only developers need, or is missing though every function needs it."""
    all_names = set(names)
    for name in sorted(all_names):
        if _UNWANTED.search(name):
            yield f"does not belong into the zip: {name}"
    for name in ("app.py", "chalice/app.py"):
        if name not in all_names:
            yield f"not in the zip: {name}"


def uncompiled(names: Iterable[str], runtime_name: str = runtime.DEFAULT) -> Iterator[str]:
    """What of our own would have to be compiled at each cold start."""
    all_names = set(names)
    for name in sorted(all_names):
        folder, _, module = name.rpartition("/")
        code = f"{folder}/__pycache__/" if folder else "__pycache__/"
        ours = name == "app.py" or (name.startswith("chalicelib/") and name.endswith(".py"))
        if ours and f"{code}{module.removesuffix('.py')}.{runtime.cache_tag(runtime_name)}.pyc" not in all_names:
            yield f"no byte code of {name}"


def oversize(zipped: int, unzipped: int) -> Iterator[str]:
    """Sizes in bytes against half of what Lambda takes."""
    if zipped > HALF_OF_ZIPPED_LIMIT:
        yield f"zip of {zipped:,} bytes is over {HALF_OF_ZIPPED_LIMIT:,}, half of what Lambda takes"
    if unzipped > HALF_OF_UNZIPPED_LIMIT:
        yield f"unzipped {unzipped:,} bytes are over {HALF_OF_UNZIPPED_LIMIT:,}, half of what Lambda takes"


def compact(template: Template) -> str:
    """The template without a space, as `python -m json.tool --compact` writes it: as it is deployed (docs/deploy.md, 3)."""
    return json.dumps(template, separators=(",", ":"))


def oversize_template(template: Template) -> Iterator[str]:
    """The size in bytes of the template as it is deployed, against half of what CloudFormation takes."""
    size = len(compact(template))
    if size > HALF_OF_TEMPLATE_LIMIT:
        yield f"template of {size:,} bytes is over {HALF_OF_TEMPLATE_LIMIT:,}, half of what CloudFormation takes"


def overrides_without_target(template: Template) -> Iterator[str]:
    """Merged resources and event sources that Chalice did not make: they have properties but no type."""
    for name, resource in template["Resources"].items():
        if "Type" not in resource:
            yield f"an override names a resource that app.py does not make: {name}"
        for event, source in resource.get("Properties", {}).get("Events", {}).items():
            if "Type" not in source:
                yield f"an override names an event source that app.py does not make: {name}.{event}"


def unloadable(template: Template, folder: Path) -> Iterator[str]:
    """Native code that the runtime of its function could not load: for each zip and runtime that the template names."""
    functions = [
        resource["Properties"]
        for resource in template["Resources"].values()
        if resource.get("Type") == "AWS::Serverless::Function"
    ]
    for code, name in sorted({(function["CodeUri"], function["Runtime"]) for function in functions}):
        yield from elf.unloadable(folder / code, name)


@contextmanager
def _chalice(stage: str, root: Path, name: str) -> Iterator[tuple[Path, Template]]:
    """What Chalice makes for a runtime: the folder with a zip of our sources and its own, and the template.

    What these need is not in that zip: Chalice would take wheels for the interpreter that it runs on.
    """
    with tempfile.TemporaryDirectory(prefix="contenitore-package-") as folder:
        copy = Path(folder) / "app"
        _copy_sources(root, copy)
        (copy / "requirements.txt").write_text("", encoding="utf-8")
        merge_file = Path(folder) / "overrides.json"
        merge_file.write_text(json.dumps(overrides()), encoding="utf-8")
        made = Path(folder) / "made"
        _run_chalice(copy, stage, merge_file, made)
        template = json.loads((made / "sam.json").read_text(encoding="utf-8"))
        for resource in template["Resources"].values():
            if resource.get("Type") == "AWS::Serverless::Function":
                resource["Properties"]["Runtime"] = name
        yield made, resource_policy.with_resource_policy(throttles.with_public_limits(template))


def _copy_sources(root: Path, folder: Path) -> None:
    """What Chalice reads, and none of what lies about."""
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc", ".*_cache", ".DS_Store")
    (folder / ".chalice").mkdir(parents=True)
    for name in ("app.py", "requirements.txt"):
        shutil.copy2(root / name, folder / name)
    for name in ("chalicelib", "vendor", ".chalice/policies"):
        if (root / name).is_dir():
            shutil.copytree(root / name, folder / name, ignore=ignore)
    shutil.copy2(root / ".chalice/config.json", folder / ".chalice/config.json")


def _run_chalice(project: Path, stage: str, merge_file: Path, out: Path) -> None:
    """Let Chalice write into `out`. It needs a region and no credentials, and must not wait for any. Raises PackagingFailed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
        "AWS_DEFAULT_REGION": transform.REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "PYTHONDONTWRITEBYTECODE": "1",
        "SOURCE_DATE_EPOCH": "315532800",
    }
    command = [sys.executable, "-c", "import sys; from chalice.cli import main; sys.exit(main())"]
    done = subprocess.run(
        [*command, "package", "--stage", stage, "--merge-template", str(merge_file), str(out)],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PackagingFailed(f"chalice package failed:\n{done.stdout}{done.stderr}")


def main(arguments: list[str] | None = None) -> int:
    """The command. Answers 0, or 1 with the faults on standard error."""
    parser = argparse.ArgumentParser(prog="python -m infra.package", description="Make what is deployed.")
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("--stage", default="dev", help="a stage of .chalice/config.json (default: dev)")
    parser.add_argument("--out", type=Path, default=ROOT / "build", help="where to (default: build/)")
    parser.add_argument("--runtime", default=runtime.DEFAULT, choices=runtime.CHOICES, help=f"default: {runtime.DEFAULT}")
    parser.add_argument("--root", type=Path, default=ROOT, help="the sources (default: these)")
    parser.add_argument("--check", action="store_true", help="make and check the template only, in seconds, and write nothing")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            faults = list(template_faults(sam_template(options.stage, options.root, options.runtime)))
            print("\n".join(faults) or "template   clean, as the transform leaves it", file=sys.stderr if faults else sys.stdout)
            return 1 if faults else 0
        python = runtime.interpreter(options.runtime)
        made = package(options.stage, options.out, options.root, options.runtime, python)
    except (PackagingFailed, runtime.WrongInterpreter) as failure:
        print(failure, file=sys.stderr)
        return 1
    resources = made.template["Resources"]
    functions = sorted(n for n, r in resources.items() if r["Type"] == "AWS::Serverless::Function")
    size = len(compact(made.template))
    print(f"template   {made.template_file}  ({len(resources)} resources, {size / 1e3:.0f} kB, clean as the transform leaves it)")
    print(f"functions  {', '.join(functions)}  ({options.runtime}, stage {options.stage})")
    print(f"zip        {made.zip_file}  ({made.zipped / 1e6:.1f} MB, unzipped {made.unzipped / 1e6:.1f} MB)")
    print(f"pixels     {options.out / 'pixels.zip'}")
    if python is None:
        print(f"byte code  none: no {options.runtime} on this machine; each cold start takes longer (docs/deploy.md, 2)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
