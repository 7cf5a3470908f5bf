"""The thirteen promises, each held against the ledger and what the doors answer."""

from __future__ import annotations

import hashlib
import io
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import requests
from PIL import Image
from pydicom import Dataset, dcmread

from drill.checker.audit import Trail
from drill.checker.rules import Knowledge, KnownStudy


class Hands(Protocol):
    """A signed client of the contract."""

    def get(self, path: str, **headers: str) -> requests.Response: ...

    def call(self, method: str, path: str, body: Any = None, timeout: float = 30, **headers: str) -> requests.Response: ...


MOST_SHUT = 60
"""Pairs of a study and somebody who may not see it that are tried at the end, those that an objection hides first."""
TAKING_IN = ("index_instances", "project_facts")
"""The functions that take in what comes."""


@dataclass(frozen=True)
class Violation:
    """A promise (1 to 13) that was broken, and how that shows."""

    promise: int
    text: str

    def __str__(self) -> str:
        return f"promise {self.promise}: {self.text}"


@dataclass
class Evidence:
    """What the checker looks at: the ledger's knowledge, each institution's hands, numbers of persons, files that were sent."""

    known: Knowledge
    hands: Callable[[str], Hands]
    numbers: dict[tuple[int, str], str]
    sent: Path
    trail: Trail
    settled: dict[str, dict[str, Any]]
    functions: Callable[[], dict[str, dict[str, float]]]
    upload: Callable[[str, list[bytes]], list[str]]
    fresh: Callable[[int], list[Dataset]]
    held: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def manifest(self, owner: str, study: str) -> list[dict[str, Any]]:
        """All instances of an owner's study, as the owner is told."""
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            more = f"&cursor={quote(cursor)}" if cursor else ""
            answer = self.hands(owner).get(f"/studies/{study}/manifest?owner={owner}{more}")
            if answer.status_code != 200:
                break
            found += answer.json()["instances"]
            cursor = answer.json().get("next")
        return found


def check(evidence: Evidence) -> Iterator[Violation]:
    """Everything."""
    for look in (_kept, _conserved, _opened, _read, _hidden, _recorded, _brought, _reports, _hostile, _drawn, _grows):
        try:
            yield from look(evidence)
        except (requests.RequestException, ValueError, KeyError) as error:
            yield Violation(0, f"{look.__name__[1:]} could not be checked: {error!r}"[:300])


def _side_by_side(look: Callable[[Any], list[Violation]], things: Iterable[Any]) -> Iterator[Violation]:
    """What is found in each, several looked at at once."""
    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(look, things):
            yield from found


def _kept(evidence: Evidence) -> Iterator[Violation]:
    """1, 2, 3, 4: what was acknowledged is there, once, and the same."""
    acknowledged: dict[str, set[str]] = {}
    for entry in evidence.known.of("stored"):
        acknowledged.setdefault(entry["study"], set()).add(entry["sop"])

    def look(entry: dict[str, Any]) -> list[Violation]:
        return list(_study_kept(evidence, entry, acknowledged.get(entry["study"], set())))

    yield from _side_by_side(look, evidence.known.of("study"))


def _study_kept(evidence: Evidence, entry: dict[str, Any], wanted: set[str]) -> Iterator[Violation]:
    owner, study = entry["owner"], entry["study"]
    manifest = evidence.manifest(owner, study)
    images = [instance for instance in manifest if instance["sop_class_uid"] == "1.2.840.10008.5.1.4.1.1.2"]
    evidence.held[study] = images
    there = [instance["sop_instance_uid"] for instance in images]
    for sop in sorted(wanted - set(there)):
        yield Violation(1, f"{owner} was acknowledged {sop}, and the archive has not got it")
    if len(there) != len(set(there)):
        yield Violation(4, f"{owner}'s study {study} has an instance twice")
    for sop in sorted(set(there) - set(entry["sops"])):
        yield Violation(4, f"{owner}'s study {study} has {sop}, which nobody sent")
    for image in images:
        yield from _same_bytes(evidence, image)
    row = evidence.hands(owner).get(f"/dicomweb/studies?StudyInstanceUID={study}", Accept="application/dicom+json").json()
    own = [found for found in row if "owner=" not in found["00081190"]["Value"][0]]
    counted = own[0]["00201208"]["Value"][0] if own else 0
    if counted != len(manifest):
        yield Violation(10, f"{owner}'s study {study} counts {counted} instances and has {len(manifest)}")


def _same_bytes(evidence: Evidence, instance: dict[str, Any]) -> Iterator[Violation]:
    sop = instance["sop_instance_uid"]
    body = requests.get(instance["url"], timeout=60).content
    if hashlib.sha256(body).hexdigest() != instance["sha256"] or len(body) != instance["size"]:
        yield Violation(2, f"{sop} is not the bytes that its manifest names")
        return
    file = evidence.sent / f"{sop}.dcm"
    if not file.exists():
        return
    sent, found = dcmread(file), dcmread(io.BytesIO(body))
    if sent.pixel_array.tobytes() != found.pixel_array.tobytes():
        yield Violation(2 if sop not in _contested(evidence) else 3, f"{sop} has other pixels than were sent first")
    if sent.file_meta.TransferSyntaxUID == found.file_meta.TransferSyntaxUID and sent != found:
        yield Violation(2, f"{sop} is another data set than was sent")
    life = parse_qs(urlsplit(instance["url"]).query).get("X-Amz-Expires", ["0"])[0]
    if int(life) > 300:
        yield Violation(6, f"a presigned address lives {life} s")


def _contested(evidence: Evidence) -> set[str]:
    return {entry["sop"] for entry in evidence.known.of("contested")}


def _conserved(evidence: Evidence) -> Iterator[Violation]:
    """10, 11: the counts, at every moment and at the end."""
    for entry in evidence.known.of("counts"):
        if entry["received"] != entry["indexed"] + entry["rejected"] + entry["waiting"]:
            yield Violation(10, f"{entry['by']}: received is not indexed + rejected + waiting: {entry}")
        deliver = entry["deliver"]
        if deliver["announced"] != deliver["delivered"] + deliver["there"] + deliver["aside"] + deliver["waiting"]:
            yield Violation(11, f"{entry['by']}: announced is not delivered + there + aside + waiting: {deliver}")
    for institution, last in evidence.settled.items():
        sent = {entry["sop"] for entry in evidence.known.of("stored") if entry["by"] == institution}
        if last["waiting"]:
            yield Violation(10, f"{institution}: {last['waiting']} still wait when everything had time")
        if last["indexed"] < len(sent):
            yield Violation(10, f"{institution}: {len(sent)} were acknowledged, {last['indexed']} count as indexed")


def _opened(evidence: Evidence) -> Iterator[Violation]:
    """4, 5: nothing was opened that nobody opened, nothing twice for one key."""
    for transfer in evidence.known.unasked():
        yield Violation(5, f"transfer {transfer} was opened, and nobody asked for it")
    for entry in evidence.known.of("doubled"):
        yield Violation(4, f"one Idempotency-Key opened {entry['transfer']} and {entry['other']}")


def _read(evidence: Evidence) -> Iterator[Violation]:
    """2, 5, 6: nobody read what the rules forbade at that moment."""
    known = evidence.known
    for entry in known.of("read"):
        study = known.studies.get(entry["study"])
        if entry["status"] >= 500 and entry["status"] not in (502, 503, 504):
            yield Violation(5, f"a read was answered {entry['status']}")
        if study is None or entry["status"] != 200:
            continue
        if not known.may_see(entry["by"], study, entry["began"], entry["at"]):
            yield Violation(5, f"{entry['by']} read {study.owner}'s study {study.uid} by {entry['how']}, which no rule allowed")
        if entry.get("bits") is False:
            yield Violation(2, f"{entry['by']} read other bytes of {study.uid} than the manifest names")
    own_numbers: set[tuple[str, int]] = set()
    """(institution, person) of whom the institution has found an exam of its own: before that the number may be anybody's, as
    docs/sharing.md says."""
    for entry in known.of("searched"):
        asked = (entry["by"], entry["person"])
        found = [known.studies[uid] for uid, _, _ in entry["rows"] if uid in known.studies]
        if any((study.owner, study.person) == asked for study in found):
            own_numbers.add(asked)
        for uid, owner, _ in entry["rows"]:
            study = known.studies.get(uid)
            if study is None:
                continue
            if not known.may_see(entry["by"], study, entry["began"], entry["at"]):
                yield Violation(5, f"{entry['by']} found {owner}'s study {uid}, which no rule allowed")
            if study.person != entry["person"] and asked in own_numbers:
                yield Violation(5, f"{entry['by']} searched its own patient's number and found another person's study {uid}")


def _hidden(evidence: Evidence) -> Iterator[Violation]:
    """7: hidden looks like what never was."""
    known = evidence.known
    feeds: dict[str, str] = {}
    for viewer in ("san-matteo", "maugeri", "mondino"):
        feeds[viewer] = evidence.hands(viewer).get("/changes?since=0&limit=1000").text
        absent = evidence.hands(viewer).get(f"/studies/2.25.{uuid.uuid4().int}/manifest").json()
        absent.pop("request_id")
        shown = sorted(absent.items())
        for entry in known.of("read"):
            if entry["by"] == viewer and entry["status"] == 404 and entry["body"] != str(shown):
                yield Violation(7, f"a refusal to {viewer} differs from that of an absent study: {entry['body']}")
    now = known.now
    shut = [
        (viewer, study)
        for study in known.studies.values()
        for viewer in feeds
        if viewer != study.owner and not known.may_see(viewer, study, now, now)
    ]
    shut.sort(key=lambda pair: (not known.hidden(pair[1], now, now), hashlib.sha256(pair[1].uid.encode()).digest()))

    def look(pair: tuple[str, KnownStudy]) -> list[Violation]:
        viewer, study = pair
        return list(_without_trace(evidence, viewer, study, feeds[viewer] if known.hidden(study, now, now) else ""))

    yield from _side_by_side(look, shut[:MOST_SHUT])


def _without_trace(evidence: Evidence, viewer: str, study: KnownStudy, feed: str) -> Iterator[Violation]:
    hands = evidence.hands(viewer)
    if study.uid in feed:
        yield Violation(7, f"{viewer}'s feed names the hidden study {study.uid}")
    for path in (f"/dicomweb/studies?StudyInstanceUID={study.uid}", f"/dicomweb/studies/{study.uid}/series"):
        answer = hands.get(path, Accept="application/dicom+json")
        if answer.status_code == 200 and answer.json():
            yield Violation(5, f"{viewer} finds {study.owner}'s study {study.uid} by {path.partition('?')[0][-8:]}")
    if hands.get(f"/studies/{study.uid}/manifest?owner={study.owner}").status_code != 404:
        yield Violation(5, f"{viewer} reads {study.owner}'s study {study.uid}")


def _recorded(evidence: Evidence) -> Iterator[Violation]:
    """8: every access stands in an unbroken trail."""
    for fault in evidence.trail.faults:
        yield Violation(8, fault)
    for entry in [*evidence.known.of("read"), *evidence.known.of("searched")]:
        if entry["status"] in (200, 404) and entry["request"] not in evidence.trail.requests:
            yield Violation(8, f"a {entry['what']} by {entry['by']} ({entry['status']}) stands in no record: {entry['request']}")


def _brought(evidence: Evidence) -> Iterator[Violation]:
    """11: the PACS holds what it should, under the right number, once."""
    known = evidence.known
    brought: dict[str, set[str]] = {}
    for entry in known.of("brought"):
        study = known.studies.get(entry["study"])
        if study is None:
            yield Violation(11, f"{entry['to']}'s PACS was brought a study that nobody made")
            continue
        brought.setdefault(entry["to"], set()).add(entry["sop"])
        if entry["number"] != evidence.numbers[study.person, entry["to"]]:
            yield Violation(11, f"{entry['to']}'s PACS was brought {entry['sop']} under {entry['number']}, another's number")
        if not known.may_see(entry["to"], study, entry["at"] - 30, entry["at"], by_transfer_only=True):
            yield Violation(11, f"{entry['to']}'s PACS was brought {entry['sop']}, which no transfer opened")
        if entry["again"]:
            yield Violation(11, f"{entry['to']}'s PACS was brought {entry['sop']} twice")
        file = evidence.sent / f"{entry['sop']}.dcm"
        if file.exists() and hashlib.sha256(dcmread(file).pixel_array.tobytes()).hexdigest() != entry["pixels"]:
            yield Violation(11, f"{entry['to']}'s PACS was brought {entry['sop']} with other pixels")
    for study in known.studies.values():
        for to in evidence.settled:
            if to == study.owner or known.ever_hidden(study) or not _stands(known, to, study):
                continue
            missing = {instance["sop_instance_uid"] for instance in evidence.held.get(study.uid, [])} - brought.get(to, set())
            if missing and not evidence.settled[to]["deliver"]["aside"]:
                yield Violation(
                    11, f"{to}'s PACS misses {len(missing)} of {study.owner}'s study {study.uid}, accepted and shared"
                )


def _stands(known: Knowledge, to: str, study: KnownStudy) -> bool:
    """Whether a transfer opens it that its parties call active and accepted, and that lasts."""
    standing = {entry["transfer"] for entry in known.of("standing")}
    return any(
        transfer.person == study.person and transfer.ends > known.now + 600
        and ((transfer.sender, transfer.receiver) == (study.owner, to)
             or ((transfer.sender, transfer.receiver) == (to, study.owner) and study.date >= transfer.day))
        for transfer in known.transfers
        if transfer.id in standing
    )  # fmt: skip


def _reports(evidence: Evidence) -> Iterator[Violation]:
    """1, 4: of each report the last version that was acknowledged is the newest that is shown."""
    last: dict[tuple[str, str, str], dict[str, Any]] = {}
    for entry in evidence.known.of("reported"):
        last[entry["by"], entry["study"], entry["order"]] = entry
    yield from _side_by_side(lambda entry: list(_report_shown(evidence, entry)), last.values())


def _report_shown(evidence: Evidence, entry: dict[str, Any]) -> Iterator[Violation]:
    owner, study, order = entry["by"], entry["study"], entry["order"]
    listed = evidence.hands(owner).get(f"/studies/{study}/reports?owner={owner}").json().get("reports", [])
    texts = []
    for report in listed:
        if report.get("replaced_by") or report.get("current") is False:
            continue
        text = evidence.hands(owner).get(f"/studies/{study}/reports/{report['sop_instance_uid']}?owner={owner}").text
        if order in text:
            texts.append(text)
    if not any(entry["text"] in text for text in texts):
        yield Violation(4, f"{owner}'s report {order}: version {entry['version']} was acknowledged, shown is {texts[:3]}")
    elif entry["text"] not in texts[0]:
        yield Violation(4, f"{owner}'s report {order}: an older version stands before version {entry['version']}")


def _hostile(evidence: Evidence) -> Iterator[Violation]:
    """9: what is no DICOM was refused, each for itself."""
    wanted = sorted({entry["sha256"] for entry in evidence.known.of("rubbish")})
    for start in range(0, len(wanted), 500):
        answer = evidence.hands("mondino").call("POST", "/uploads/status", {"sha256": wanted[start : start + 500]}).json()
        for status in answer["instances"]:
            if status["state"] not in ("rejected", "absent"):
                yield Violation(9, f"rubbish is {status['state']}: {status['sha256']}")


def _drawn(evidence: Evidence) -> Iterator[Violation]:
    """12: a picture is what PS3.3 C.11.2.1.3.2 (linear exact) makes of the pixels."""
    for study, images in list(evidence.held.items())[:3]:
        for instance in images[:1]:
            file, owner = evidence.sent / f"{instance['sop_instance_uid']}.dcm", evidence.known.studies[study].owner
            if not file.exists():
                continue
            path = f"/dicomweb/studies/{study}/series/{instance['series_instance_uid']}/instances/{instance['sop_instance_uid']}/rendered"
            answer = evidence.hands(owner).get(f"{path}?window=400,300,linear-exact", Accept="image/png")
            if answer.status_code != 200:
                yield Violation(12, f"a picture was answered {answer.status_code}")
                continue
            drawn = np.asarray(Image.open(io.BytesIO(answer.content)).convert("L")).astype(float)
            pixels = dcmread(file).pixel_array.astype(float)
            wanted = np.clip((pixels - 400) / 300 + 0.5, 0, 1) * 255
            if drawn.shape != wanted.shape or np.abs(drawn - wanted).max() > 1.5:
                yield Violation(12, f"the picture of {instance['sop_instance_uid']} is not what its pixels say")


def _grows(evidence: Evidence) -> Iterator[Violation]:
    """13: one slice more costs the functions at the end of a study what it did near its beginning.

    Each is sent alone, to functions at rest: of several it is chance how many come in one call.
    """
    images = [_bytes(ds) for ds in evidence.fresh(160)]
    costs: list[float] = []
    for some, single in ((images[:18], images[18:20]), (images[20:158], images[158:])):
        evidence.upload("mondino", some)
        costs.append(min(_alone(evidence, image) for image in single))
    if not 0 < costs[1] <= 1.2 * costs[0]:
        yield Violation(
            13, f"functions read {costs[0]:.0f} bytes for the twentieth slice of a study, {costs[1]:.0f} for the last"
        )


def _alone(evidence: Evidence, image: bytes) -> float:
    before = _at_rest(evidence)
    evidence.upload("mondino", [image])
    return _at_rest(evidence) - before


def _at_rest(evidence: Evidence, seconds: float = 60) -> float:
    """What the functions that take in have read, once it has not changed for half a second."""
    read, since, deadline = -1.0, 0.0, time.monotonic() + seconds
    while True:
        now = sum(spent["bytes_read"] for name, spent in evidence.functions().items() if name in TAKING_IN)
        if now != read:
            read, since = now, time.monotonic()
        elif time.monotonic() - since > 0.5 or time.monotonic() > deadline:
            return read
        time.sleep(0.05)


def _bytes(ds: Dataset) -> bytes:
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def summary(violations: list[Violation], known: Knowledge) -> str:
    """What was looked at, in one JSON object."""
    kinds = sorted({entry["what"] for entry in known.entries})
    return json.dumps({"violations": len(violations), **{kind: len(known.of(kind)) for kind in kinds}})
