"""``python -m infra.audit``: verify the audit trail against its own hashes and the locked anchors, or export it.

``verify`` walks every chain, compares it with every anchor, and names each record that was altered, removed, moved or cut
off. ``export`` writes FHIR AuditEvents, one a line, in the order of time. Both only read. ``restored`` records, locked away
beside the anchors, that the table was brought back to an earlier moment: what that took away is then told as lost, and no more.
"""

import argparse
import heapq
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.adapters.dynamodb import DynamoTable
from chalicelib.adapters.vault import S3Vault
from chalicelib.api.audit_event import audit_event
from chalicelib.config import VERSION
from chalicelib.domain import audit_chain, audit_repeats, audit_verify, keys
from chalicelib.domain.audit import Record
from chalicelib.domain.audit_chain import ChainHead
from chalicelib.domain.audit_verify import Anchored, ChainFault, Restore
from chalicelib.domain.errors import BadRequest
from chalicelib.domain.ports import Item, Table
from chalicelib.domain.rfc3339 import iso, parse_moment
from chalicelib.services.audit.anchor import all_shards
from chalicelib.services.registry import load_registry
from infra import command_line, where

_PARALLEL = 8
_LAST = "9" * 12
OLD = timedelta(hours=1)
"""An anchor of before this makes one look whether anything still anchors."""
RETENTION_YEARS = 10
"""Where no anchor says for how long records are kept."""


@dataclass
class Verified:
    """What a verification saw: its findings, records and chains read, anchors, and what no anchor covers yet."""

    findings: list[ChainFault] = field(default_factory=list)
    records: int = 0
    shards: int = 0
    anchors: int = 0
    last_anchor: datetime | None = None
    unanchored: int = 0
    restores: list[str] = field(default_factory=list)
    explained: int = 0
    """How many anchors may name records that are not there, since a restore took them away."""

    @property
    def proven(self) -> bool:
        """Whether there is an anchor at all: without one a chain that is gone altogether leaves no gap."""
        return self.anchors > 0


def read_vault(s3: Any, bucket: str, prefix: str = keys.ANCHORS) -> tuple[list[tuple[str, bytes, datetime]], list[ChainFault]]:
    """All anchors (key, content, when) as they were first written, by key; findings on those written over or hidden since.

    With `keys.RESTORES` the recorded restores.
    """
    first: dict[str, tuple[str, datetime]] = {}
    written: dict[str, int] = {}
    findings: list[ChainFault] = []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        for version in page.get("Versions", []):  # of one key: newest first, so that the last one seen is the first written
            first[version["Key"]] = version["VersionId"], version["LastModified"]
            written[version["Key"]] = written.get(version["Key"], 0) + 1
        hidden = {marker["Key"] for marker in page.get("DeleteMarkers", [])}
        findings += [ChainFault("anchor", key, 0, 0, "it was deleted; its locked version was read") for key in sorted(hidden)]
    for key, count in sorted(written.items()):
        if count > 1:
            findings.append(ChainFault("anchor", key, 0, 0, "it was written over; its first version was read"))

    def read(key: str) -> tuple[str, bytes, datetime]:
        version, written_at = first[key]
        with s3.get_object(Bucket=bucket, Key=key, VersionId=version)["Body"] as body:
            content: bytes = body.read()
        return key, content, written_at

    with ThreadPoolExecutor(_PARALLEL) as pool:
        return list(pool.map(read, sorted(first))), findings


def verify(
    table: Table,
    documents: Iterable[tuple[str, bytes]],
    now: datetime,
    retention_years: float | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    restores: Iterable[tuple[str, bytes, datetime]] = (),
) -> Verified:
    """Verify every chain, or, of each, the part between the last anchor before `since` and the first one after `until`.

    For how many years records are kept each anchor says, of those that it covers; `retention_years` says so of all instead.
    """
    documents = list(documents)
    recorded, findings = audit_verify.read_restores(restores)
    anchored, wrong = audit_verify.read_anchors(documents, recorded, now if retention_years is None else None)
    findings += wrong
    shards = sorted({*all_shards(list(load_registry(table).versions)), *anchored})
    every = [anchor for ones in anchored.values() for anchor in ones]
    last = max((anchor.at for anchor in every), default=None)
    latest = next((anchor.keep_since for anchor in every if anchor.at == last), None)
    keep_since = latest or audit_verify.keep_since(now, retention_years or RETENTION_YEARS)
    seen = Verified(findings, anchors=len(documents), last_anchor=last)
    seen.restores = [_told(restore, anchored) for restore in recorded]
    seen.explained = sum(anchor.restored for anchor in every)
    heads = table.batch_get((keys.audit_records(shard), keys.HEAD) for shard in shards)

    def verified(shard: str) -> tuple[list[ChainFault], int, ChainHead]:
        head = heads.get((keys.audit_records(shard), keys.HEAD))
        return verify_shard(table, shard, head, anchored.get(shard, []), keep_since, since, until)

    with ThreadPoolExecutor(_PARALLEL) as pool:
        for shard, (found, count, head) in zip(shards, pool.map(verified, shards), strict=True):
            covered = max((anchor.head.seq for anchor in anchored.get(shard, [])), default=0)
            seen.findings += found
            seen.records += count
            seen.shards += 1 if head.seq or count else 0
            seen.unanchored += max(0, head.seq - covered)
    return seen


def _told(restore: Restore, anchored: Mapping[str, Sequence[Anchored]]) -> str:
    """A restore in words, with how many anchored records it took away at the most."""
    lost = 0
    for ones in anchored.values():
        before = max((anchor.head.seq for anchor in ones if anchor.at <= restore.to), default=0)
        lost += max(0, max((anchor.head.seq for anchor in ones if restore.explains(anchor.at)), default=before) - before)
    where = f"to {iso(restore.to)}, recorded on {iso(restore.at)} by {restore.by}"
    return f"restored: {where}: {restore.reason}; at most {lost} anchored records were lost with it"


def verify_shard(
    table: Table,
    shard: str,
    head: Item | None,
    anchors: list[Anchored],
    keep_since: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[list[ChainFault], int, ChainHead]:
    """The findings on one chain whose head was read before, how many records were read, and that head."""
    certain = [a for a in anchors if not a.restored]
    start = max((a.head for a in certain if since and a.at <= since), key=lambda chain_head: chain_head.seq, default=ChainHead())
    end = min((a.head.seq for a in certain if until and a.at >= until), default=None)
    last = _end_of(table, shard, head) if end is None else keys.audit_record(end)
    count = 0

    def counted() -> Iterator[Item]:
        nonlocal count
        first = keys.audit_record(start.seq + 1)
        if first <= last:
            for item in table.query_all(keys.audit_records(shard), between=(first, last)):
                count += 1
                yield item

    wanted = [a for a in anchors if end is None or a.head.seq <= end]
    found = list(audit_verify.verify_shard(shard, counted(), head, wanted, keep_since, start, to_the_end=end is None))
    return found, count, audit_chain.head_of(head)


def _end_of(table: Table, shard: str, head: Item | None) -> str:
    """The sort key up to which a shard is read: its head's, since the trail grows while it is read.

    Records beyond a head that has not moved are none that were just written: then everything is to be read.
    """
    partition = keys.audit_records(shard)
    seq = audit_chain.head_of(head).seq
    if table.query(partition, between=(keys.audit_record(seq + 1), _LAST), limit=1).items:
        again = table.get(partition, keys.HEAD)
        if audit_chain.head_of(again).seq == seq:
            return _LAST
    return keys.audit_record(seq)


def export(
    table: Table, out: TextIO, since: datetime | None, until: datetime | None, as_records: bool, as_stored: bool = False
) -> int:
    """Write what was recorded from `since` up to `until`, one JSON object a line; how many.

    As AuditEvents, as records, or as the records are stored: those of what is the same again in short.
    """
    registry = load_registry(table)
    names = {member.id: member.name for member in registry.members.values()}
    first, last = iso(since) if since else "", iso(until) if until else "~"
    count = 0
    chains = (_records(table, shard) for shard in all_shards(list(registry.versions)))
    if not as_stored:
        chains = (_whole(chain) for chain in chains)
    for record in heapq.merge(*chains, key=lambda entry: str(entry["at"])):
        if first <= str(record["at"]) < last:
            out.write(json.dumps(record if as_records or as_stored else audit_event(record, names), ensure_ascii=False) + "\n")
            count += 1
    return count


def _records(table: Table, shard: str) -> Iterator[Record]:
    for item in table.query_all(keys.audit_records(shard), between=("0", _LAST)):
        yield item.data


def _whole(chain: Iterator[Record]) -> Iterator[Record]:
    """The records of a chain, those that were written in short as if they had been written whole."""
    before: dict[int, Record] = {}
    for record in chain:
        seq = int(str(record["seq"]))
        before.pop(seq - audit_repeats.REACH - 1, None)
        if "same" not in record:
            before[seq] = record
        elif (whole := before.get(int(str(record["same"])))) is not None:  # else that one expired, minutes before this one
            record = audit_repeats.expand(record, whole)
        else:
            continue
        yield record


def report(seen: Verified, out: TextIO, now: datetime | None = None) -> None:
    """What a verification saw, for people."""
    for restore in seen.restores:
        print(restore, file=out)
    for finding in seen.findings:
        print(finding, file=out)
    anchors = f"{seen.anchors} anchors" + (f", the last of {iso(seen.last_anchor)}" if seen.last_anchor else "")
    print(f"{seen.records} records in {seen.shards} chains, {anchors}; {seen.unanchored} records are not anchored yet", file=out)
    if now is not None and seen.last_anchor is not None and seen.last_anchor < now - OLD:
        print("No anchor was made for over an hour: if anything was recorded since, nothing proves it.", file=out)
    if seen.findings:
        print(f"{len(seen.findings)} findings: it was tampered with.", file=out)
    elif not seen.proven:
        print("There is no anchor: nothing proves that the audit trail is whole.", file=out)
    elif seen.explained:
        print("The audit trail is sound but for what a restore took away: ask who recorded it.", file=out)
    else:
        print("The audit trail is sound.", file=out)


def record_restore(s3: Any, bucket: str, to: datetime, now: datetime, by: str, reason: str) -> str:
    """Lock away that the table was restored: the key. Raises BadRequest for a moment that it cannot have been restored to."""
    if not now - audit_verify.MOST_RESTORED < to < now:
        raise BadRequest("--to must be the moment to which the table was restored, within the last 35 days.", "--to")
    if not 1 <= len(reason.strip()) <= 500 or not reason.isprintable():
        raise BadRequest("--reason must be 1 to 500 printable characters.", "--reason")
    key = keys.restore(iso(now))
    if not S3Vault(s3, bucket).put_new(key, audit_verify.restore(iso(to), iso(now), by, reason.strip())):
        raise BadRequest("A restore was recorded at this very moment. Please look, and try again.", "--to")
    return key


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.audit", description="Verify or export the audit trail.")
    parser.add_argument("--version", action="version", version=VERSION)
    where.add_arguments(parser)
    commands = parser.add_subparsers(dest="command", required=True)
    restored = commands.add_parser("restored", help="record that the table was restored to an earlier moment")
    restored.add_argument("--to", required=True, help="the moment to which it was restored, with its offset")
    restored.add_argument("--reason", required=True, help="why, for those who read a verification")
    where.add_arguments(restored, again=True)
    for name, what in (("verify", "verify every chain against its hashes and the anchors"), ("export", "write it out")):
        command = commands.add_parser(name, help=what)
        command.add_argument("--from", dest="since", help="a time with its offset, such as 2026-03-01T00:00:00Z")
        command.add_argument("--to", dest="until", help="likewise; that moment is not included")
        where.add_arguments(command, again=True)
        if name == "verify":
            command.add_argument(
                "--retention-years",
                type=command_line.retention,
                metavar="N",
                help="for how long records are kept (default: as the anchors say)",
            )
        else:
            command.add_argument("--out", type=Path, help="the file to write (default: standard output)")
            command.add_argument("--records", action="store_true", help="the records themselves, instead of FHIR")
            command.add_argument("--stored", action="store_true", help="the records as they are stored and hashed, some in short")
    return parser


def _carry_out(options: argparse.Namespace) -> int:
    if options.command == "restored":
        return _restored(options)
    since = parse_moment(options.since, "--from") if options.since is not None else None
    until = parse_moment(options.until, "--to") if options.until is not None else None
    if since and until and since >= until:
        raise BadRequest("--from must be before --to.", "--from")
    session = where.session(options, where.endpoints(options.endpoints))
    city = where.outputs(session, options.city)
    table = DynamoTable(session.client("dynamodb"), city["TableName"])
    if options.command == "verify":
        s3, now = session.client("s3"), datetime.now(UTC)
        anchors, findings = read_vault(s3, city["AuditAnchorBucketName"])
        restores, hidden = read_vault(s3, city["AuditAnchorBucketName"], keys.RESTORES)
        documents = [(key, content) for key, content, _ in anchors]
        seen = verify(table, documents, now, options.retention_years, since, until, restores)
        seen.findings[:0] = findings + hidden
        report(seen, sys.stdout, now)
        return _code(seen)
    if options.out is None:
        export(table, sys.stdout, since, until, options.records, options.stored)
    else:
        with options.out.open("w", encoding="utf-8") as out:
            print(f"{export(table, out, since, until, options.records, options.stored)} events written to {options.out}")
    return 0


def _code(seen: Verified) -> int:
    """What a verification exits with: never 0 where a restore explains what is missing."""
    if seen.findings:
        return 1
    if not seen.proven:
        return 3
    return 4 if seen.explained else 0


def _restored(options: argparse.Namespace) -> int:
    session = where.session(options, where.endpoints(options.endpoints))
    bucket = where.outputs(session, options.city)["AuditAnchorBucketName"]
    by = str(session.client("sts").get_caller_identity()["Arn"])
    to = parse_moment(options.to, "--to")
    print(f"recorded: {record_restore(session.client('s3'), bucket, to, datetime.now(UTC), by, options.reason)}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when the trail is sound (or was written), 1 when it is not, 2 when it cannot be read, 3 with no anchor.

    4 when it is sound but for what a recorded restore took away.
    """
    options = _arguments().parse_args(arguments)
    try:
        code = _carry_out(options)
        sys.stdout.flush()
    except BrokenPipeError:
        return command_line.unread()
    except KeyboardInterrupt:
        print("audit: stopped, and nothing is proven: it begins anew", file=sys.stderr)
        return 2
    except (BadRequest, command_line.UnusableFile, where.NoSuchCity, BotoCoreError, ClientError, OSError) as error:
        print(f"audit: {command_line.told(error)}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
