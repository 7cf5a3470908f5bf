"""What hospitals do all day, each actor a thread with choices of its own seed: modalities, registrations, RIS, sharing, readers."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import requests
from pydicom import Dataset

from drill import dicom, hl7
from drill.client import NO_ANSWER, Hospital, request_id
from drill.ledger import Ledger
from drill.running import RunningCity
from drill.world import EVERYONE, SENDERS, STRANGER, Person, image, people, uid

_PAUSE = 0.7
_DATES = ("20260105", "20260211", "20260320")
TITLES = {"san-matteo": "SANMATTEO", "maugeri": "MAUGERI"}


@dataclass
class Study:
    """A study as its modality made it."""

    owner: str
    uid: str
    person: Person
    date: str
    images: list[Dataset] = field(default_factory=list)


class Load:
    """All actors. `start`, and `end` when the time is over: each finishes what it is about."""

    def __init__(self, city: RunningCity, ledger: Ledger, seed: int, files: Path, persons: int = 5, pace: float = 1.0) -> None:
        self.city, self.ledger, self.seed, self.files = city, ledger, seed, files
        self.people = people(persons)
        self._pause = _PAUSE * pace
        self.studies: list[Study] = []
        self.ending = threading.Event()
        self._lock = threading.Lock()
        self._transfers: dict[str, dict[str, Any]] = {}
        self._objections: list[tuple[str, str, str]] = []
        actors: list[tuple[str, Callable[[random.Random, str], None], str]] = []
        for institution in SENDERS:
            actors += [(f"modality-{institution}", self._modality, institution), (f"ris-{institution}", self._ris, institution)]
            actors.append((f"registration-{institution}", self._registration, institution))
            actors.append((f"counts-{institution}", self._counts, institution))
        actors += [(f"reader-{institution}", self._reader, institution) for institution in EVERYONE]
        actors.append(("sharing", self._sharing, ""))
        self._threads = [
            threading.Thread(target=self._repeat, args=(name, step, whose), name=name, daemon=True)
            for name, step, whose in actors
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self, seconds: float = 30) -> None:
        """Let everyone finish."""
        self.ending.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))

    def _repeat(self, name: str, step: Callable[[random.Random, str], None], whose: str) -> None:
        chance = random.Random(f"{self.seed}/{name}")
        while not self.ending.is_set():
            try:
                step(chance, whose)
            except Exception as error:  # an actor that dies would make the drill easy
                self.ledger.note("stumbled", who=name, error=repr(error)[:300])
            self.ending.wait(chance.uniform(0.2, 1.8) * self._pause)

    def hands(self, institution: str, person: str = "") -> Hospital:
        return Hospital(self.city.endpoints, institution, person)

    def _known(self, owner: str | None = None) -> list[Study]:
        with self._lock:
            return [study for study in self.studies if owner in (None, study.owner) and study.images]

    # Modalities -------------------------------------------------------------------------------------------

    def _modality(self, chance: random.Random, institution: str) -> None:
        known = self._known(institution)
        if known and chance.random() < 0.15:
            self._store(institution, chance.choice(known).images)  # sent again: the same is once
            return
        if known and chance.random() < 0.05:
            self._contest(chance, institution, chance.choice(known))
            return
        person = chance.choice(self.people)
        study = Study(institution, uid(self.seed, institution, len(known), chance.random()), person, self._date(chance))
        count = chance.randint(1, 5)
        images = [image(person, institution, study.uid, n, study.date, chance) for n in range(1, count + 1)]
        for ds in images:
            ds.save_as(self.files / f"{ds.SOPInstanceUID}.dcm", enforce_file_format=True)
        self.ledger.note(
            "study", owner=institution, study=study.uid, person=person.index, date=study.date,
            sops=[str(ds.SOPInstanceUID) for ds in images],
        )  # fmt: skip
        with self._lock:
            self.studies.append(study)
        self._store(institution, images)
        study.images = images

    @staticmethod
    def _date(chance: random.Random) -> str:
        today = datetime.now(ZoneInfo("Europe/Rome")).strftime("%Y%m%d")
        return chance.choice([*_DATES, today, today])

    def _store(self, institution: str, images: list[Dataset]) -> None:
        """As a PACS does: what was not acknowledged is sent again."""
        left = list(images)
        while left and not self.ending.is_set():
            forwarder = self.city.forwarder(institution)
            told = dicom.store(forwarder["dicom"], forwarder["aet"], left)
            for ds, status in zip(list(left), told, strict=True):
                if status == 0x0000:
                    self.ledger.note("stored", by=institution, study=str(ds.StudyInstanceUID), sop=str(ds.SOPInstanceUID))
                    left.remove(ds)
            if left:
                self.ending.wait(0.5)

    def _contest(self, chance: random.Random, institution: str, study: Study) -> None:
        """Other pixels under a UID that is indexed: the first stands."""
        ds = chance.choice(study.images)
        answer = self.hands(institution).tried("GET", f"/studies/{study.uid}/manifest?owner={institution}")
        if answer is None or answer.status_code != 200:
            return
        if str(ds.SOPInstanceUID) not in {instance["sop_instance_uid"] for instance in answer.json()["instances"]}:
            return
        other = image(study.person, institution, study.uid, int(ds.InstanceNumber), study.date, chance)
        forwarder = self.city.forwarder(institution)
        (status,) = dicom.store(forwarder["dicom"], forwarder["aet"], [other])
        self.ledger.note("contested", by=institution, study=study.uid, sop=str(ds.SOPInstanceUID), status=status)

    # Registrations and RIS --------------------------------------------------------------------------------

    def _say(self, institution: str, segments: list[str]) -> bool:
        """Until it is acknowledged, as a RIS does; whether it was."""
        while not self.ending.is_set():
            code = hl7.send(self.city.forwarder(institution)["hl7"], segments)
            if code:
                if code != "AA":
                    self.ledger.note("refused", by=institution, code=code, kind=segments[0].split("|")[8])
                return code == "AA"
            self.ending.wait(0.5)
        return False

    def _registration(self, chance: random.Random, institution: str) -> None:
        person, other = chance.choice(self.people), next(sender for sender in SENDERS if sender != institution)
        control = f"{institution[:2]}{chance.randrange(10**9)}"
        if chance.random() < 0.5:
            self.ledger.note("opening", via="adt", sender=institution, receiver=other, person=person.index)
            self._say(institution, hl7.adt("A03", control, person, institution, f"V{control}", f37=other))
        else:
            self.ledger.note("accepting", via="adt", receiver=institution, person=person.index)
            self._say(institution, hl7.adt("A01", control, person, institution, f"V{control}", f14=other))
        self.ending.wait(1.0)

    def _ris(self, chance: random.Random, institution: str) -> None:
        """Versions of one report, in order, each when the one before was acknowledged."""
        self.ending.wait(1.0)
        known = self._known(institution)
        if not known:
            return
        study = chance.choice(known)
        order = f"R{chance.randrange(10**9)}"
        for version, state in enumerate(("P", "F", "C")[: chance.randint(1, 3)], 1):
            text = f"Referto {order} versione {version}"
            if not self._say(
                institution, hl7.oru(f"{order}-{version}", study.person, institution, study.uid, order, text, state)
            ):
                return
            self.ledger.note("reported", by=institution, study=study.uid, order=order, version=version, text=text)
            self.ending.wait(chance.uniform(0.0, 1.5))

    def _counts(self, chance: random.Random, institution: str) -> None:
        try:
            page = self.city.forwarder(institution)["page"]
            now = requests.get(f"{page}/status.json", timeout=5).json()
        except (*NO_ANSWER, ValueError):
            return
        wanted = ("received", "indexed", "rejected", "waiting")
        deliver = {name: now["deliver"].get(name, 0) for name in ("announced", "delivered", "there", "aside", "waiting")}
        self.ledger.note("counts", by=institution, deliver=deliver, **{name: now[name] for name in wanted})

    # Sharing ----------------------------------------------------------------------------------------------

    def _sharing(self, chance: random.Random, _: str) -> None:
        chance.choice([self._open, self._open, self._accept, self._end, self._object, self._show_again, self._emergency])(chance)

    def _until(self, ask: Callable[[], requests.Response], *statuses: int) -> requests.Response | None:
        """Ask until it is answered with one of these; None when the time is over. What else is no fault's is noted."""
        while not self.ending.is_set():
            try:
                answer = ask()
            except NO_ANSWER:
                answer = None
            if answer is not None and answer.status_code in statuses:
                return answer
            if answer is not None and answer.status_code not in (403, 429, 500, 502, 503, 504):
                self.ledger.note("answered", status=answer.status_code, url=answer.url.split("?")[0][-40:])
                return None
            self.ending.wait(0.3)
        return None

    def _open(self, chance: random.Random) -> None:
        sender, receiver = chance.sample(SENDERS, 2)
        person = chance.choice(self.people)
        body: dict[str, Any] = {"patient": {"id": person.numbers[sender]}, "to": receiver, "reason": "drill"}
        if chance.random() < 0.4:
            ends = datetime.now(UTC) + timedelta(seconds=chance.randint(5, 20))
            body["expires_at"] = ends.strftime("%Y-%m-%dT%H:%M:%SZ")
        key = f"drill-{chance.randrange(10**9)}"
        self.ledger.note("opening", via="api", sender=sender, receiver=receiver, person=person.index)
        answer = self._until(lambda: self.hands(sender).call("POST", "/transfers", body, Idempotency_Key=key), 201, 404)
        if answer is not None and answer.status_code == 201:
            found = answer.json()
            again = self._until(lambda: self.hands(sender).call("POST", "/transfers", body, Idempotency_Key=key), 201)
            if again is not None and again.json()["id"] != found["id"]:
                self.ledger.note("doubled", transfer=found["id"], other=again.json()["id"])
            self._transfers[found["id"]] = {"sender": sender, "receiver": receiver, "person": person.index}

    def _pick(self, chance: random.Random) -> tuple[str, dict[str, Any]] | None:
        """A transfer that runs, also of those that ADT opened."""
        sender = chance.choice(SENDERS)
        answer = self.hands(sender).tried("GET", "/transfers?direction=outgoing&status=active")
        if answer is None or answer.status_code != 200:
            return None
        for found in answer.json()["transfers"]:
            person = next((person for person in self.people if person.numbers[sender] == found["patient"]["id"]), None)
            if person is not None:
                self._transfers.setdefault(found["id"], {"sender": sender, "receiver": found["to"], "person": person.index})
        running = [found["id"] for found in answer.json()["transfers"] if found["id"] in self._transfers]
        if not running:
            return None
        transfer = chance.choice(running)
        return transfer, self._transfers[transfer]

    def _accept(self, chance: random.Random) -> None:
        found = self._pick(chance)
        if found is None:
            return
        transfer, terms = found
        number = self.people[terms["person"]].numbers[terms["receiver"]]
        self.ledger.note("accepting", via="api", transfer=transfer, receiver=terms["receiver"], person=terms["person"])
        path = f"/transfers/{transfer}/receiving-patient"
        self._until(lambda: self.hands(terms["receiver"], "accettazione").call("PUT", path, {"id": number}), 200, 404, 409)

    def _end(self, chance: random.Random) -> None:
        found = self._pick(chance)
        if found is None:
            return
        transfer, terms = found
        by = chance.choice([terms["sender"], terms["receiver"]])
        answer = self._until(lambda: self.hands(by, "direzione").call("DELETE", f"/transfers/{transfer}"), 200)
        if answer is not None:
            self.ledger.note("ended", transfer=transfer, **terms)

    def _object(self, chance: random.Random) -> None:
        owner = chance.choice(SENDERS)
        known = self._known(owner)
        if not known:
            return
        study = chance.choice(known)
        body = {"study_instance_uid": study.uid} if chance.random() < 0.8 else {}
        path = f"/patients/{study.person.numbers[owner]}/objections"
        answer = self._until(lambda: self.hands(owner, "privacy").call("POST", path, body), 201, 200, 404, 409)
        if answer is not None and answer.status_code in (200, 201):
            objection = answer.json()["id"] if "id" in answer.json() else answer.json()["objection"]
            hides = study.uid if body else None
            self.ledger.note("objected", owner=owner, person=study.person.index, study=hides, objection=objection)
            self._objections.append((owner, study.person.numbers[owner], objection))

    def _show_again(self, chance: random.Random) -> None:
        if len(self._objections) < 2:
            return
        owner, number, objection = self._objections.pop(chance.randrange(len(self._objections)))
        self.ledger.note("showing", objection=objection)
        self._until(
            lambda: self.hands(owner, "privacy").call("DELETE", f"/patients/{number}/objections/{objection}"), 200, 204, 404
        )

    def _emergency(self, chance: random.Random) -> None:
        if chance.random() < 0.85:
            return
        person = chance.choice(self.people)
        by = STRANGER
        body = {
            "patient": {"id": person.code, "issuer": "2.16.840.1.113883.2.9.4.3.2"},
            "reason": "drill: unconscious at admission",
            "practitioner": "dr-drill",
        }
        self.ledger.note("emergency", by=by, person=person.index)
        self._until(lambda: self.hands(by, "dr-drill").call("POST", "/emergency-access", body), 201, 400, 404)

    # Readers ----------------------------------------------------------------------------------------------

    def _reader(self, chance: random.Random, viewer: str) -> None:
        known = self._known()
        if not known:
            return
        study = chance.choice(known)
        chance.choice([self._manifest, self._manifest, self._metadata, self._search])(chance, viewer, study)

    def _read(self, viewer: str, path: str, **headers: str) -> tuple[float, requests.Response] | None:
        began = time.time()
        try:
            return began, self.hands(viewer, "dr-lettore").get(path, **headers)
        except NO_ANSWER:
            return None

    def _manifest(self, chance: random.Random, viewer: str, study: Study) -> None:
        found = self._read(viewer, f"/studies/{study.uid}/manifest?owner={study.owner}")
        if found is None:
            return
        began, answer = found
        noted = {"by": viewer, "owner": study.owner, "study": study.uid, "began": began, "status": answer.status_code}
        if answer.status_code == 200:
            instances = answer.json()["instances"]
            noted["sops"] = sorted(instance["sop_instance_uid"] for instance in instances)
            sample = chance.choice(instances) if instances else None
            if sample is not None:
                try:
                    body = requests.get(sample["url"], timeout=20)
                except requests.RequestException:
                    body = None
                if body is not None and body.status_code == 200:
                    noted["bits"] = hashlib.sha256(body.content).hexdigest() == sample["sha256"]
        self.ledger.note("read", how="manifest", request=request_id(answer), body=self._refusal(answer), **noted)

    def _metadata(self, chance: random.Random, viewer: str, study: Study) -> None:
        path = f"/dicomweb/studies/{study.uid}/metadata?owner={study.owner}"
        found = self._read(viewer, path, Accept="application/dicom+json")
        if found is None:
            return
        began, answer = found
        noted = {"by": viewer, "owner": study.owner, "study": study.uid, "began": began, "status": answer.status_code}
        if answer.status_code == 200:
            noted["numbers"] = sorted({result["00100020"]["Value"][0] for result in answer.json() if "00100020" in result})
        self.ledger.note("read", how="metadata", request=request_id(answer), body=self._refusal(answer), **noted)

    def _search(self, chance: random.Random, viewer: str, study: Study) -> None:
        number = study.person.numbers[viewer]
        found = self._read(viewer, f"/dicomweb/studies?PatientID={quote(number)}&limit=200", Accept="application/dicom+json")
        if found is None:
            return
        began, answer = found
        rows = []
        if answer.status_code == 200:
            for row in answer.json():
                address = row["00081190"]["Value"][0]
                owner = address.partition("owner=")[2] or viewer
                rows.append([row["0020000D"]["Value"][0], owner, row.get("00100020", {}).get("Value", [""])[0]])
        self.ledger.note(
            "searched", by=viewer, person=study.person.index, began=began, status=answer.status_code, request=request_id(answer),
            rows=rows,
        )  # fmt: skip

    @staticmethod
    def _refusal(answer: requests.Response) -> str:
        """A refusal without the request's own number."""
        if answer.status_code != 404:
            return ""
        body = answer.json()
        body.pop("request_id", None)
        return str(sorted(body.items()))
