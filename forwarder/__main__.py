"""The command line: `python -m forwarder …`."""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forwarder import __version__
from forwarder.errors import ConfigError, ForwarderError

if TYPE_CHECKING:
    from forwarder.archive.client import Archive
    from forwarder.config import Config


NOT_READ = 141
"""What a command exits with that nobody reads to the end: as a shell has it, 128 and SIGPIPE."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Whatever goes wrong is one sentence on standard error, and code 2."""
    arguments = _parser().parse_args(argv)
    if getattr(arguments, "config", None) == _installed_config():
        _take_credentials_beside(arguments.config)
    try:
        code: int = arguments.command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        if _is_read():  # then it was another one: a connection
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_READ
    except ForwarderError as error:
        print(f"forwarder: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("forwarder: interrupted; run the same command again to go on where it stopped", file=sys.stderr)
        return 2
    return code


def _is_read() -> bool:
    """Whether somebody may still read what is printed; if not (`| head -1`), it goes nowhere, and nothing is said of it."""
    watched = select.poll()
    watched.register(sys.stdout, 0)
    return not watched.poll(0)


def _installed_config() -> Path:
    """The configuration that counts where none is named."""
    return Path(os.environ.get("CONTENITORE_FORWARDER_CONFIG", "/etc/contenitore/forwarder.toml"))


def _take_credentials_beside(config: Path) -> None:
    """AWS's files as the service's unit names them, unless the environment of who calls names others."""
    for name, file in (("AWS_CONFIG_FILE", "aws.ini"), ("AWS_SHARED_CREDENTIALS_FILE", "aws-credentials.ini")):
        if os.access(config.parent / file, os.R_OK):
            os.environ.setdefault(name, str(config.parent / file))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="forwarder", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("run", help="receive, keep and send until stopped")
    _with_config(command, _run)

    command = commands.add_parser("send", help="send files and folders to the archive")
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    _with_archive(command)
    command.add_argument("--config", type=Path, metavar="FILE", help="take [archive] from this configuration")
    command.add_argument("--parallel", type=int, default=8, metavar="N", help="uploads at once (default 8)")
    command.add_argument(
        "--lossless", action=argparse.BooleanOptionalAction, help="compress losslessly, each image checked (the default)"
    )
    command.set_defaults(command=_send)

    command = commands.add_parser("export", help="bring all that this hospital owns into a folder, with a DICOMDIR")
    command.add_argument("folder", type=Path, metavar="FOLDER")
    _with_archive(command)
    command.add_argument("--config", type=Path, metavar="FILE", help="take [archive] from this configuration")
    command.set_defaults(command=_export)

    command = commands.add_parser("status", help="how many are received, waiting, indexed, rejected")
    command.add_argument("--once", action="store_true", help="print once instead of refreshing")
    command.add_argument("--json", action="store_true", help="print once, as JSON")
    _with_config(command, _status)

    command = commands.add_parser("check", help="try PACS, archive, clock, disk and certificate")
    _with_config(command, _check)

    command = commands.add_parser("self-test", help="send a picture of nobody the whole way, see it in the archive, withdraw it")
    command.add_argument("--report", type=Path, metavar="FILE", help="write down what was tried, for both sides")
    _with_config(command, _self_test)

    command = commands.add_parser("retry", help="try again at once what failed")
    command.add_argument("digests", nargs="*", metavar="DIGEST", help="rejected instances to try too")
    command.add_argument("--all", action="store_true", help="all rejected instances too")
    _with_config(command, _retry)

    command = commands.add_parser(
        "recalls", help="exams brought into the PACS that were corrected, withdrawn or linked otherwise since"
    )
    _with_config(command, _recalls)

    command = commands.add_parser("deliveries", help="patient by patient, what is in the PACS, what is missing and why")
    command.add_argument("--json", action="store_true", help="as JSON")
    _with_config(command, _deliveries)

    command = commands.add_parser("rejected", help="what was put aside, and why")
    actions = command.add_subparsers(required=True, metavar="ACTION")
    _with_config(actions.add_parser("list", help="all of it"), _rejected_list)
    action = actions.add_parser("show", help="one of it")
    action.add_argument("digest", metavar="DIGEST", help="the digest or its beginning")
    _with_config(action, _rejected_show)
    action = actions.add_parser("discard", help="let go of it; the bytes are deleted")
    action.add_argument("digests", nargs="*", metavar="DIGEST")
    action.add_argument("--all", action="store_true", help="all that was put aside")
    _with_config(action, _rejected_discard)

    action = actions.add_parser("remove", help="have the archive remove at once what it rejected as no DICOM")
    action.add_argument("digests", nargs="*", metavar="DIGEST", help="of what was put aside, or the whole SHA-256 of a file")
    action.add_argument("--all", action="store_true", help="all that was put aside as no DICOM")
    _with_archive(action)
    _with_config(action, _rejected_remove)

    command = commands.add_parser("hl7", help="ADT: what a message would do, and what waits for a person")
    actions = command.add_subparsers(required=True, metavar="ACTION")
    action = actions.add_parser("try", help="what the messages of a file would do; nothing is done")
    action.add_argument("file", type=Path, metavar="FILE")
    _with_config(action, _hl7_try)
    _with_config(actions.add_parser("list", help="what waits for a person, and why"), _hl7_list)
    for name, text in (("release", "let it go on"), ("discard", "have nobody do it")):
        action = actions.add_parser(name, help=text)
        action.add_argument("acts", nargs="*", type=int, metavar="N", help="its number in the list")
        action.add_argument("--all", action="store_true", help="all that waits for a person")
        _with_config(action, _hl7_release if name == "release" else _hl7_discard)

    command = commands.add_parser("example-config", help="print a commented configuration")
    command.set_defaults(command=_example_config)
    return parser


def _with_archive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", help="AWS profile whose role signs the requests")
    parser.add_argument("--api", help="address of the archive (or CONTENITORE_API)")
    parser.add_argument("--region", help="AWS region of the archive")


def _with_config(parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int]) -> None:
    default = _installed_config()
    parser.add_argument("--config", type=Path, default=default, metavar="FILE", help=f"default {default}")
    parser.set_defaults(command=command)


def _run(arguments: argparse.Namespace) -> int:
    from forwarder import config, logs, service

    try:
        service.run(config.load(arguments.config))
    except ForwarderError as error:
        if sys.stderr.isatty():  # a person reads the sentence alone more easily; a log has JSON lines and nothing else
            raise
        logs.set_up("info")
        logs.log.error("forwarder ended", detail=str(error))
        return 2
    return 0


def _send(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from forwarder import config
    from forwarder.upload import progress
    from forwarder.upload.send import send

    if not 1 <= arguments.parallel <= 64:
        raise ConfigError("--parallel should be between 1 and 64.")
    settings = config.load(arguments.config) if arguments.config else None
    archive = _archive(arguments, settings, arguments.parallel)
    console = Console()
    with progress.shown(console) as on_progress:
        lossless = settings is None or settings.send.lossless
        lossless = lossless if arguments.lossless is None else arguments.lossless
        summary = send(arguments.paths, archive, on_progress, parallel=arguments.parallel, lossless=lossless)
    progress.print_summary(console, summary)
    return summary.exit_code


def _export(arguments: argparse.Namespace) -> int:
    from forwarder import config
    from forwarder.retrieve.export import REPORT, Exported, export

    def told(so_far: Exported) -> None:
        print(f"\r{so_far.studies} studies, {so_far.instances} instances", end="", file=sys.stderr, flush=True)

    settings = config.load(arguments.config) if arguments.config else None
    done = export(_archive(arguments, settings, 8), arguments.folder, told)
    print(file=sys.stderr)
    print(
        f"{done.institution}: {done.studies} studies, {done.instances} instances, {done.bytes / 1e6:.1f} MB,"
        f" {done.transfers} transfers, {done.audit} audit events; {len(done.missing)} missing: see {arguments.folder / REPORT}"
    )
    return 1 if done.missing else 0


def _archive(arguments: argparse.Namespace, settings: Config | None, connections: int) -> Archive:
    """The archive that the command line names, or else the configuration. Raises ConfigError, ArchiveError(CREDENTIALS)."""
    from forwarder.archive.client import Archive, archive_of, new_http
    from forwarder.archive.signing import Signer

    api = arguments.api or os.environ.get("CONTENITORE_API")
    if settings is not None:
        archive = archive_of(settings)
        if arguments.profile or arguments.region:
            archive.signer = Signer(arguments.profile, arguments.region)
        archive.api = (arguments.api or archive.api).rstrip("/")
    elif api:
        archive = Archive(api, Signer(arguments.profile, arguments.region), new_http(connections=connections))
    else:
        raise ConfigError("Which archive? Give --api URL (or set CONTENITORE_API), or --config FILE.")
    archive.signer.prepare()
    return archive


def _status(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from forwarder import config
    from forwarder.operations import status

    settings = config.load(arguments.config)
    if arguments.json:
        print(json.dumps(status.snapshot(settings), indent=2))
    else:
        status.watch(settings, Console(), once=arguments.once)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.markup import escape

    from forwarder import config
    from forwarder.operations import check

    console, bad = Console(), 0
    for finding in check.check(config.load(arguments.config)):
        mark = "[green]good[/]" if finding.good else "[red]BAD [/]"
        console.print(f"{mark} {escape(finding.what)}: {escape(finding.text)}", soft_wrap=True, highlight=False)
        bad += not finding.good
    return 1 if bad else 0


def _self_test(arguments: argparse.Namespace) -> int:
    from datetime import datetime

    from forwarder import config
    from forwarder.operations import self_test

    settings, now, findings = config.load(arguments.config), datetime.now().astimezone(), []
    for finding in self_test.self_test(settings, now):
        print(f"{'good' if finding.good else 'BAD '} {finding.what}: {finding.text}", flush=True)
        findings.append(finding)
    if arguments.report:
        arguments.report.write_text(self_test.report(settings, findings, now), encoding="utf-8")
    return 0 if all(finding.good for finding in findings) else 1


def _retry(arguments: argparse.Namespace) -> int:
    from forwarder.operations import admin

    count = admin.retry(_spool(arguments), arguments.digests, everything=arguments.all)
    print("1 instance is tried again" if count == 1 else f"{count} instances are tried again")
    return 0


def _recalls(arguments: argparse.Namespace) -> int:
    from forwarder.operations import admin

    found = admin.recalls(_spool(arguments))
    for recall in found:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(recall.since))
        rejected = "  rejected in the PACS" if recall.rejected_at else f"  {recall.rejection}" if recall.rejection else ""
        print(f"{'! ' if recall.urgent else '  '}{when}  {recall.reason:18} {recall.owner:16} {recall.study}{rejected}")
    print(f"{len(found)} to be recalled from the PACS" if found else "nothing is to be recalled")
    return 1 if any(recall.urgent for recall in found) else 0


def _deliveries(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from forwarder.alerts import advise_on_delivery, texts, why_not_delivered
    from forwarder.operations import admin

    patients, numberless = admin.deliveries(_spool(arguments))
    if arguments.json:
        found = {"patients": [asdict(patient) for patient in patients], "numberless": [asdict(entry) for entry in numberless]}
        print(json.dumps(found, indent=2))
        return 0
    for patient in patients:
        why = ", ".join(f"{count} × {reason}" for reason, count in patient.reasons.items())
        since = "" if patient.since is None else time.strftime(" since %Y-%m-%d %H:%M", time.localtime(patient.since))
        print(
            f"{patient.number:20} {patient.announced} = {patient.delivered} delivered + {patient.there} there"
            f" + {patient.aside} aside + {patient.waiting} waiting; {patient.missing} missing{since}{'; ' if why else ''}{why}"
        )
    for transfer in numberless:
        word = "accepted" if transfer.accepted else "not accepted yet"
        proposed = f"; the PACS has {transfer.proposal} ({transfer.evidence})" if transfer.proposal else ""
        print(f"{transfer.transfer:20} {word}, no number of ours is known{proposed}")
    words = texts("en")
    for reason in sorted({reason for patient in patients for reason in patient.reasons}):
        print(f"{reason}: {why_not_delivered(reason, words)}\n    {advise_on_delivery(reason, words)}")
    return 0


def _rejected_list(arguments: argparse.Namespace) -> int:
    from forwarder.alerts import explain
    from forwarder.operations import admin

    found = admin.rejected(_spool(arguments))
    for aside in found:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(aside.settled_at))
        origin = aside.calling or "?"
        print(f"{aside.digest[:12]}  {when}  {aside.modality or '—':4} {origin:16}  {aside.state}: {explain(aside.reason)}")
    print(f"{len(found)} put aside" if found else "nothing was put aside")
    return 0


def _rejected_show(arguments: argparse.Namespace) -> int:
    from forwarder.operations import admin

    for name, value in admin.show(_spool(arguments), arguments.digest).items():
        print(f"{name:16} {value}")
    return 0


def _rejected_discard(arguments: argparse.Namespace) -> int:
    from forwarder.operations import admin

    if bool(arguments.digests) == arguments.all:
        raise ConfigError("Name the digests to discard, or --all.")
    print(f"{admin.discard(_spool(arguments), arguments.digests)} discarded")
    return 0


def _rejected_remove(arguments: argparse.Namespace) -> int:
    from forwarder import config
    from forwarder.operations import admin

    if bool(arguments.digests) == arguments.all:
        raise ConfigError("Name the digests to remove, or --all.")
    alone = arguments.api and all(admin.WHOLE.fullmatch(digest) for digest in arguments.digests) and not arguments.all
    settings = None if alone else config.load(arguments.config)
    digests = list(arguments.digests)
    if settings is not None:
        digests = admin.removable(Path(settings.spool.folder), digests, everything=arguments.all)
    archive, said = _archive(arguments, settings, 2), {True: "removed", None: "not there", False: "kept: it is something else"}
    answers = [archive.remove(digest) for digest in digests]
    for digest, answer in zip(digests, answers, strict=True):
        print(f"{digest[:12]}  {said[answer]}")
    return 0 if all(answers) else 1


def _hl7_try(arguments: argparse.Namespace) -> int:
    from forwarder import config
    from forwarder.operations import admin

    settings = config.load(arguments.config)
    if not settings.hl7.adt.enabled:
        print("hl7.adt.enabled is false: ADT is not taken")
    try:
        content = arguments.file.read_bytes()
    except OSError as error:
        raise ConfigError(f"The file “{arguments.file}” cannot be read: {error.strerror}.") from error
    for line in admin.try_messages(Path(settings.spool.folder), content, settings.hl7):
        print(line)
    return 0


def _hl7_list(arguments: argparse.Namespace) -> int:
    from forwarder.operations import admin

    found = admin.adt_waiting(_spool(arguments))
    for change in found:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(change["since"]))
        print(f"{change['seq']:6}  {when}  {change['kind']:10} {change['reason'] or '':20} {change['actor']}")
    print(f"{len(found)} for a person" if found else "nothing waits for a person")
    return 0


def _hl7_release(arguments: argparse.Namespace) -> int:
    from forwarder.operations import admin

    if bool(arguments.acts) == arguments.all:
        raise ConfigError("Name the acts to release, or --all.")
    print(f"{admin.adt_release(_spool(arguments), arguments.acts)} released")
    return 0


def _hl7_discard(arguments: argparse.Namespace) -> int:
    from forwarder.operations import admin

    if bool(arguments.acts) == arguments.all:
        raise ConfigError("Name the acts to discard, or --all.")
    print(f"{admin.adt_discard(_spool(arguments), arguments.acts)} discarded")
    return 0


def _example_config(_: argparse.Namespace) -> int:
    from forwarder.config import example as config_example

    print(config_example.example(), end="")
    return 0


def _spool(arguments: argparse.Namespace) -> Path:
    from forwarder import config

    return Path(config.load(arguments.config).spool.folder)


if __name__ == "__main__":
    sys.exit(main())
