"""The deliberately broken builds: what is changed, and which tests must fail then. `docs/promises.md` is written from it."""

from __future__ import annotations

from dataclasses import dataclass

PROMISES = {
    1: "What was acknowledged is never lost",
    2: "What is read is, bit for bit, what was sent",
    3: "Nothing is overwritten",
    4: "Retries, duplicates and disorder never change the result",
    5: "No institution sees anything without its own ownership or a live transfer",
    6: "Revocation stops new access at once; links handed out die within five minutes",
    7: "Hidden means undetectable",
    8: "Every access names a person or a machine, in a record that cannot be altered unnoticed",
    9: "A hostile file harms only itself",
    10: "Received = indexed + rejected + pending, at every moment",
    11: "What is brought into a PACS is that patient's, under that hospital's number, once",
    12: "No picture is wrong",
    13: "Work grows with what arrives, not with what is there",
}


@dataclass(frozen=True)
class Mutant:
    """`old` stands exactly once in `file`, and is replaced by `new`; one of `tests` (arguments of pytest) must fail then."""

    promise: int
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_SPOOL, _OUTBOX = "tests/forwarder/test_spool.py", "tests/forwarder/test_outbox.py"
_RULES, _SHARING = "tests/sharing/test_rules.py", "tests/unit/test_sharing.py"
_INDEXING, _PROJECTING = "tests/unit/test_indexing.py", "tests/unit/test_projecting.py"
_STORES = "tests/contract/test_stores.py"
_TRAIL, _VERIFY = "tests/unit/audit/test_trail.py", "tests/unit/audit/test_verify.py"
_DELIVER = "tests/forwarder/test_deliver_rules.py"
_GREY = "tests/unit/pixels"

MUTANTS = (
    # 1 -----------------------------------------------------------------------------------------------------
    Mutant(1, "the file is not synced before the answer", "forwarder/spool/spool.py", "                os.fsync(file)\n", "", (_SPOOL,)),
    Mutant(
        1, "the folder is not synced before the answer", "forwarder/spool/spool.py",
        "self._syncing.submit(_fsync_folder, home.parent)", "self._syncing.submit(str, home.parent)", (_SPOOL,),
    ),
    Mutant(
        1, "bytes leave the spool when they are stored, not when they are indexed", "forwarder/spool/instances.py",
        "SETTLED_WELL = frozenset({InstanceState.INDEXED, InstanceState.ECHO})",
        "SETTLED_WELL = frozenset({InstanceState.INDEXED, InstanceState.ECHO, InstanceState.STORED})", (_OUTBOX, _SPOOL),
    ),
    Mutant(
        1, "a whole file whose row was lost is removed at the start", "forwarder/spool/spool.py",
        'if state is None and name == "instances" and _is_whole(path):', 'if state is None and name == "packed" and _is_whole(path):',
        (_SPOOL,),
    ),
    Mutant(
        1, "a conflict is committed, since an instance of that UID is in the archive", "forwarder/dicom/commitment.py",
        "    latest, its_class = found[0]\n", "    latest, its_class = found[-1]\n", ("tests/forwarder/test_commitment.py",),
    ),
    # 2 -----------------------------------------------------------------------------------------------------
    Mutant(
        2, "a range is read one byte short", "chalicelib/adapters/s3.py",
        'client.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{start + length - 1}")',
        'client.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{start + length - 2}")', (_STORES,),
    ),
    Mutant(
        2, "a compressed file is not compared with its original", "forwarder/compression/jpegls.py",
        "                    _compare(original, header, pixels, meta, out)\n", "", ("tests/forwarder/test_compression.py",),
    ),
    Mutant(
        2, "what was downloaded is not held against its SHA-256", "forwarder/retrieve/instances.py",
        "if (sha256 or _sha256(target)) == instance.sha256:", "if target.stat().st_size == instance.size:",
        ("tests/forwarder/test_deliver_faults.py", "-k", "otherwise_than_it_says"),
    ),
    # 3 -----------------------------------------------------------------------------------------------------
    Mutant(
        3, "a second object under one key replaces the first", "chalicelib/adapters/s3.py",
        '                IfNoneMatch="*",\n', "", (_STORES,),
    ),
    Mutant(
        3, "what a SOP Instance UID stands for is written without a condition", "chalicelib/services/ingest/index.py",
        "writes.append(Put(identity) if key in standing else PutNew(identity))", "writes.append(Put(identity))", (_INDEXING,),
    ),
    Mutant(
        3, "other bytes under a known UID are filed as if they were the first", "chalicelib/services/ingest/index.py",
        'return uid not in known or known[uid].data["sha256"] == checked.stored.sha256', "return True", (_INDEXING, "tests/sharing/test_conflict_and_echo.py"),
    ),
    Mutant(
        3, "a correction may bring other pixels", "chalicelib/dicom/correction.py",
        "return CORRECTION if first.of_pixels() == second.of_pixels() else OTHER", "return CORRECTION", ("tests/sharing/test_corrections.py",),
    ),
    # 4 -----------------------------------------------------------------------------------------------------
    Mutant(
        4, "a projection that read old facts overwrites one that read newer ones", "chalicelib/services/projection/studies.py",
        "writes: list[Write] = [PutVersion(view, version - 1)]", "writes: list[Write] = [Put(view)]", (_PROJECTING,),
    ),
    Mutant(
        4, "a batch that was added stays, and is added again", "chalicelib/services/projection/tallies.py",
        "writes: list[Write] = [Delete(*item.key) for item in taken]", "writes: list[Write] = []", (_PROJECTING,),
    ),
    Mutant(
        4, "an event that comes twice is told twice", "chalicelib/services/changes.py",
        "if was_told(table, change) or not table.transact([PutNew(marker), *entry_writes(table, [change], now)]):",
        "if not table.transact(entry_writes(table, [change], now)):", ("tests/sharing/test_changes.py",),
    ),
    Mutant(
        4, "a place in the feed is taken without a condition on its head", "chalicelib/services/changes.py",
        'writes.append(PutVersion(Item(keys.feed(viewer), keys.HEAD, {"place": place}, version=version + 1), version))',
        'from chalicelib.domain import ports\n        writes.append(ports.Put(Item(keys.feed(viewer), keys.HEAD, {"place": place}, version=version + 1)))',
        ("tests/sharing/test_changes.py",),
    ),
    # 5 -----------------------------------------------------------------------------------------------------
    Mutant(
        5, "the sender follows a patient whom the receiver has not accepted", "chalicelib/domain/sharing.py",
        "return grant.accepted and study.date >=", "return study.date >=", (_RULES, _SHARING),
    ),
    Mutant(
        5, "the follow-up of the transfer's own day is missing (> for >=)", "chalicelib/domain/sharing.py",
        "return grant.accepted and study.date >=", "return grant.accepted and study.date >", (_RULES, _SHARING),
    ),
    Mutant(
        5, "any acceptance counts, whoever was accepted", "chalicelib/services/access.py",
        "return transfer.receiving is not None and transfer.receiving.hash in {record.patient for record in records}",
        "return transfer.receiving is not None", ("tests/sharing/test_acceptance.py", "tests/sharing/test_proposals.py"),
    ),
    Mutant(
        5, "a withdrawal is looked up in the view, where the fact decides", "chalicelib/services/access.py",
        "decision = DENIED if key in read.there or study.gone else granted", "decision = DENIED if study.gone else granted",
        ("tests/sharing/test_withdrawal.py",),
    ),
    Mutant(
        5, "what one of two patients opened opens both", "chalicelib/domain/sharing.py",
        "        if not declared and not granting:\n            return DENIED\n", "        if not declared and not granting:\n            continue\n",
        (_RULES, _SHARING),
    ),
    Mutant(
        5, "one's own patient number finds whoever another hospital calls so", "chalicelib/services/finding/search.py",
        "        return member is not None and member != caller.member and is_known()\n", "        return False\n", ("tests/sharing/test_same_number.py",),
    ),
    # 6 -----------------------------------------------------------------------------------------------------
    Mutant(
        6, "the end of a transfer is read from the copy in the patient's partition", "chalicelib/services/access.py",
        "replace(transfer, ended=(keys.transfer_facts(transfer.id), keys.END) in there)", "replace(transfer, ended=transfer.ended)",
        ("tests/sharing/test_in_the_city.py", "tests/sharing/test_acceptance.py", "tests/sharing/test_any_order.py"),
    ),
    Mutant(
        6, "an emergency lasts one moment too long (<= for <)", "chalicelib/domain/sharing.py",
        "emergency.opened_at <= now < emergency.expires_at", "emergency.opened_at <= now <= emergency.expires_at", (_RULES, _SHARING),
    ),
    Mutant(
        6, "a transfer lasts one moment too long (<= for <)", "chalicelib/domain/sharing.py",
        "self.opened_at <= now < self.expires_at", "self.opened_at <= now <= self.expires_at", (_RULES, _SHARING),
    ),
    Mutant(
        6, "addresses live for an hour", "chalicelib/services/retrieval/manifest.py", "GET_SECONDS = 300", "GET_SECONDS = 3600",
        ("tests/infra/test_policies.py", "-k", "addresses_are_signed"),
    ),
    # 7 -----------------------------------------------------------------------------------------------------
    Mutant(
        7, "a refusal of what is absent is quicker than one of what is hidden", "chalicelib/services/access.py",
        "    equalise_reads(table, read)\n    raise NotFound\n", "    raise NotFound\n", ("tests/sharing/test_cost.py", "tests/sharing/test_two_worlds.py"),
    ),
    Mutant(
        7, "the feed shows entries of what is hidden now", "chalicelib/services/changes.py",
        "if decided_on is None or (decided_on.hidden if withdrawn else not decided_on.decision.allowed):", "if decided_on is None:",
        ("tests/sharing/test_changes.py", "tests/sharing/test_two_worlds.py"),
    ),
    Mutant(
        7, "sending an instance of a hidden study is told from sending a new one", "chalicelib/services/ingest/index.py",
        "            if not decided.granted.allowed:\n                continue\n", "", (_INDEXING,),
    ),
    Mutant(
        7, "an objection recorded under a former number does not hide", "chalicelib/domain/sharing.py",
        "known.objections for known in ever):", "known.objections for known in now):", (_RULES,),
    ),
    # 8 -----------------------------------------------------------------------------------------------------
    Mutant(
        8, "records are not chained", "chalicelib/domain/audit_chain.py", '"prev": head.hash,', '"prev": GENESIS,',
        ("tests/unit/audit",),
    ),
    Mutant(
        8, "two processes may write one number", "chalicelib/domain/audit_chain.py",
        "return [PutVersion(head_item(shard, chained[-1]), head.seq), *(PutNew(item(record)) for record in chained)]",
        "from chalicelib.domain import ports\n    return [ports.Put(head_item(shard, chained[-1])), *(ports.Put(item(record)) for record in chained)]", ("tests/unit/audit",),
    ),
    Mutant(
        8, "a refusal is not recorded", "chalicelib/api/pipeline.py",
        "        if refused is not None and (caller", "        if refused is None and (caller", ("tests/sharing/test_probes.py",),
    ),
    Mutant(
        8, "an act is done though its record is not", "chalicelib/services/audit/trail.py",
        "held = table.transact([*acts, *audit_chain.appending(shard.name, head, chained)])",
        "held = table.transact(list(acts)) or table.transact(audit_chain.appending(shard.name, head, chained))", ("tests/unit/audit",),
    ),
    # 9 -----------------------------------------------------------------------------------------------------
    Mutant(
        9, "sequences nest without a limit", "chalicelib/dicom/scan.py",
        "if len(self._levels) // 2 >= self._limits.depth:", "if len(self._levels) // 2 >= 10 * self._limits.depth:",
        ("tests/unit/dicom", "-k", "deep or depth or limits"),
    ),
    Mutant(
        9, "a file that cannot be read fails its whole batch", "chalicelib/services/ingest/instance_items.py",
        "    except Exception as error:  # reported, logged, delivered again, in the end set aside: by itself, without its neighbours\n        return UnreadObject(stored, error)\n",
        "    except ZeroDivisionError as error:\n        return UnreadObject(stored, error)\n", (_INDEXING,),
    ),
    Mutant(
        9, "a deflated data set may grow sixty-fold beyond its limit", "chalicelib/dicom/limits.py",
        "inflated: int = 64 * MIB", "inflated: int = 4096 * MIB", ("tests/unit/dicom", "-k", "deflate or inflat or bomb"),
    ),
    # 10 ----------------------------------------------------------------------------------------------------
    Mutant(
        10, "what the archive has and has not judged is counted as nothing", "forwarder/operations/snapshot.py",
        '"waiting": counters["waiting"] + counters["stored"],', '"waiting": counters["waiting"],', (_OUTBOX, _SPOOL),
    ),
    Mutant(
        10, "a conflict is counted as indexed", "forwarder/operations/snapshot.py",
        '"rejected": counters["rejected"] + counters["conflict"] + counters["discarded"],',
        '"rejected": counters["rejected"] + counters["discarded"],', (_OUTBOX,),
    ),
    Mutant(
        10, "what arrives is counted without what is withdrawn of it", "chalicelib/services/projection/tallies.py",
        "            (taken_back if current.sop_instance_uid in self.withdrawn else shown).append(current)\n", "            shown.append(current)\n", ("tests/sharing/test_withdrawal.py",),
    ),
    # 11 ----------------------------------------------------------------------------------------------------
    Mutant(
        11, "what the PACS has already is brought again", "forwarder/deliver/engine.py",
        "            if entry.sop_instance in there:\n", "            if entry.sop_instance in there and entry.attempts > 99:\n",
        ("tests/forwarder/test_deliver.py",),
    ),
    Mutant(
        11, "another person's birth date under that number does not matter", "forwarder/retrieve/pacs.py",
        "if known.birth_date and patient.birth_date and known.birth_date != patient.birth_date:", "if known.birth_date and not patient.birth_date:",
        ("tests/forwarder/test_deliver.py", "tests/forwarder/test_deliver_faults.py"),
    ),
    Mutant(
        11, "an image that says another birth date or sex is brought all the same", "forwarder/retrieve/coercion.py",
        "return len(dates) > 1 or len(sexes) > 1", "return len(dates) > 2",
        ("tests/forwarder/test_deliver.py", "tests/forwarder/test_coercion.py"),
    ),
    Mutant(
        11, "what the PACS sends back is sent on", "forwarder/deliver/engine.py",
        "return self.ledger.was_brought(sop_instance)", "return False", ("tests/forwarder/test_deliver.py",),
    ),
    Mutant(
        11, "the feed counts as read before what it told was noted", "forwarder/deliver/engine.py",
        "self.ledger.followed(cursor or NOW, looks, withdrawn)", "self.ledger.followed(cursor or NOW, [], withdrawn)",
        ("tests/forwarder/test_deliver.py", "-k", "accepted"),
    ),
    # 12 ----------------------------------------------------------------------------------------------------
    Mutant(12, "a rescale intercept is subtracted", "pixels/grey.py", "return values * slope + intercept, True", "return values * slope - intercept, True", (_GREY,)),
    Mutant(
        12, "a MONOCHROME1 film is shown as its negative", "pixels/grey.py",
        'inverse = opened.described.layout.photometric == "MONOCHROME1" or', 'inverse = opened.described.layout.photometric == "MONOCHROME2" or', (_GREY,),
    ),
    Mutant(
        12, "the linear window is half a value off (PS3.3 C.11.2.1.2)", "pixels/grey.py",
        "return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)", "return np.clip((values - center) / width + 0.5, 0, 1)", (_GREY,),
    ),
    Mutant(
        12, "one window for the films of both vendors", "viewer/site/page/in-ohif.js",
        "!unitOf(from) || unitOf(from) !== unitOf(to) || asSent(from, range)", "asSent(from, range)", ("tests/browser/test_side_by_side.py", "-k", "films_of_two_vendors"),
    ),
    # 13 ----------------------------------------------------------------------------------------------------
    Mutant(
        13, "each batch reads the whole study again", "chalicelib/services/projection/tallies.py",
        "    if anew or known.tally is None or", "    if True or known.tally is None or", (_PROJECTING,),
    ),
    Mutant(
        13, "each batch reads all reports of the study, whether one came or not", "chalicelib/services/projection/tallies.py",
        "    if arrived.reports:\n", "    if arrived is not None:\n", (_PROJECTING,),
    ),
    Mutant(
        13, "each batch reads every series of the study", "chalicelib/services/projection/tallies.py",
        "there = table.batch_get((known.series, uid) for uid in arrived.series)",
        "there = {view.key: view for view in table.query_all(known.series) if view.sk in arrived.series}", (_PROJECTING,),
    ),
    Mutant(
        13, "each exam that comes for a patient has all that was brought looked at again", "forwarder/deliver/planning.py",
        "CASE WHEN state = 'done' AND", "CASE WHEN state = 'never' AND", ("tests/forwarder/test_deliver.py", "-k", "costs_what_came"),
    ),
)  # fmt: skip
