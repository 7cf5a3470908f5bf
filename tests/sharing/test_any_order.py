"""Any history ends in what the promises say: a state machine over everything that hospitals, patients and the clock can do.

What each institution may see is computed here from what happened, by the rules of docs/sharing.md written down a second time,
and compared after every step with what facts let it see, however late the projector is; and, once everything is projected,
with what searches find, what the feeds told, and what the manifests hand out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chalicelib.domain.errors import Conflict, NotFound
from chalicelib.domain.ports import Key
from chalicelib.services.sharing import expiries, protection
from tests.conftest import THOROUGH
from tests.sharing.codes import fiscal_code
from tests.sharing.test_identifiers import CF
from tests.world import OIDS, A, B, C, World

HOSPITALS = (A, B, C)
NUMBERS = {A: ("a1", "a2"), B: ("b1", "b2"), C: ("c1",)}
BEFORE, AFTER = "20200101", "20990101"
Number = tuple[str, str]
"""(institution, value); without an institution the codice fiscale."""
CODE = fiscal_code()
TWIN = fiscal_code(place="G388")
ISSUERS = {**OIDS, "": CF}


@dataclass
class Image:
    """An instance that was sent."""

    number: Number
    date: str
    withdrawn: bool = False


@dataclass
class Sent:
    """A study: whose, its instances by UID, whether all of it was withdrawn."""

    owner: str
    images: dict[str, Image] = field(default_factory=dict)
    withdrawn: bool = False

    @property
    def numbers(self) -> set[Number]:
        return {image.number for image in self.live.values()}

    @property
    def live(self) -> dict[str, Image]:
        return {} if self.withdrawn else {uid: image for uid, image in self.images.items() if not image.withdrawn}


@dataclass
class Transfer:
    sender: str
    receiver: str
    number: Number
    day: str
    expires: datetime
    ended: bool = False
    accepted: str | None = None
    """The receiver's number by which it accepted, as long as that stands."""


class City(RuleBasedStateMachine):
    """What happens, and the model of what it means."""

    @initialize(seed=st.integers(0, 2**16), prepared=st.sampled_from([False, True, True]))
    def begin(self, seed: int, prepared: bool) -> None:
        self.world = World(HOSPITALS, audited=False)
        self.random = random.Random(seed)
        self.studies: dict[str, Sent] = {}
        self.transfers: dict[str, Transfer] = {}
        self.objections: dict[str, tuple[Number, str | None]] = {}
        self.protected: set[str] = set()
        self.consents: dict[str, tuple[str, str]] = {}
        self.stated: set[Number] = set()
        self.two_codes = False
        self.emergencies: list[tuple[str, Number, datetime]] = []
        self.delivered: list[Key] = []
        self.read: dict[str, list[dict[str, Any]]] = {name: [] for name in HOSPITALS}
        if prepared:
            self._send_study(A, "a1", BEFORE, code=True)
            self._send_study(B, "b1", AFTER, code=True)
            transfer = self._open(A, "a1", B, "b1", 365)
            assert transfer is not None
            self.world.accept(B, transfer, "b1")
            self.transfers[transfer].accepted = "b1"
            self.world.confirm(A, "a1", {"id": "a2"})
            self._send_study(A, "a2", AFTER, code=False)
            self.everything_is_projected()

    # The model ----------------------------------------------------------------------------------------------------

    def linked(self, number: Number) -> set[Number]:
        """The number, and those that are linked to it by facts that have not ended."""
        from chalicelib.domain.identifiers import PatientIdentifier
        from chalicelib.services import access

        record = access.load_record(self.world.table.memory, PatientIdentifier(ISSUERS[number[0]], number[1]).hash)
        institutions = {oid: name for name, oid in ISSUERS.items()}
        return {number} | {(institutions.get(number.issuer, ""), number.value) for number in record.linked}

    def opened(self, viewer: str, owner: str, number: Number, date: str, study: str) -> bool:
        """Whether rules 2 to 5 let `viewer` see what `owner` made of this patient number on that date."""
        around = self.linked(number)
        if any(of in around and only is None for of, only in self.objections.values() if of[0] == owner):
            return False
        if any(only == study for of, only in self.objections.values() if of[0] == owner):
            return False
        if study in self.protected and (study, viewer) not in self.consents.values():
            return False
        now = self.world.now
        if any(who == viewer and of in around and now < until for who, of, until in self.emergencies):
            return True
        for transfer in self.transfers.values():
            if transfer.ended or now >= transfer.expires or transfer.number not in around:
                continue
            if (transfer.sender, transfer.receiver) == (owner, viewer):
                return True
            theirs = (transfer.receiver, transfer.accepted or "")
            accepted = transfer.accepted is not None and (theirs == number or theirs in around)
            if (transfer.sender, transfer.receiver) == (viewer, owner) and accepted and date >= transfer.day:
                return True
        return False

    def may_see(self, viewer: str, uid: str) -> bool:
        """Whether the promises let `viewer` see the study."""
        study = self.studies[uid]
        if not study.live:
            return False
        if viewer == study.owner:
            return True
        date = min((image.date for image in study.live.values() if image.date), default="")
        return all(self.opened(viewer, study.owner, image.number, date, uid) for image in study.live.values())

    # What happens ----------------------------------------------------------------------------------------------------

    @rule(
        owner=st.sampled_from([A, A, B, B, C]),
        which=st.integers(0, 1),
        date=st.sampled_from([BEFORE, AFTER, AFTER, ""]),
        code=st.booleans(),
    )
    def a_study_arrives(self, owner: str, which: int, date: str, code: bool) -> None:
        if len(self.studies) >= 6:
            return
        self._send_study(owner, NUMBERS[owner][which % len(NUMBERS[owner])], date, code)

    def _send_study(self, owner: str, number: str, date: str, code: bool) -> None:
        uid = f"1.2.{len(self.studies) + 1}"
        self.studies[uid] = Sent(owner)
        self._send(uid, number, date, code)

    @precondition(lambda self: self.studies)
    @rule(data=st.data(), which=st.integers(0, 1), date=st.sampled_from([BEFORE, AFTER, ""]))
    def another_instance_arrives(self, data: st.DataObject, which: int, date: str) -> None:
        uid = data.draw(st.sampled_from(sorted(self.studies)))
        owner = self.studies[uid].owner
        if len(self.studies[uid].images) < 4:
            self._send(uid, NUMBERS[owner][which % len(NUMBERS[owner])], date, False)

    def _send(self, uid: str, number: str, date: str, code: bool) -> None:
        study = self.studies[uid]
        instance = f"{uid}.1.{len(study.images) + 1}"
        carried = [(CODE, CF)] if code and number.endswith("1") else []
        self.world.arrive(study.owner, number, uid, instance, date=date or None, other_ids=carried)
        study.images[instance] = Image((study.owner, number), date)

    @rule(
        data=st.data(),
        sender=st.sampled_from(HOSPITALS),
        days=st.sampled_from([1, 365]),
        by_code=st.booleans(),
        named=st.booleans(),
    )
    def a_transfer_opens(self, data: st.DataObject, sender: str, days: int, by_code: bool, named: bool) -> None:
        if len(self.transfers) >= 5:
            return
        receiver = data.draw(st.sampled_from([name for name in HOSPITALS if name != sender]))
        number = CODE if by_code else data.draw(st.sampled_from(NUMBERS[sender]))
        proposed = data.draw(st.sampled_from(NUMBERS[receiver])) if named else None
        self._open(sender, number, receiver, proposed, days)

    def _open(self, sender: str, number: str, receiver: str, proposed: str | None, days: int) -> str | None:
        whose = "" if number == CODE else sender
        expires = self.world.now + timedelta(days=days)
        until = expires.isoformat()
        key = f"transfer {len(self.transfers)}"  # the same id whenever this history is played
        known = whose == sender or any(mine in self.linked(("", CODE)) and self.has(mine) for mine in self.numbers_of(sender))
        try:
            transfer = self.world.open(sender, number, receiver, None, ISSUERS[whose], key, proposed, expires_at=until)
        except NotFound:
            assert not known
            return None
        assert known
        if whose == sender and not self.has((sender, number)):
            self.stated.add((sender, number))
        day = self.world.now.astimezone(ZoneInfo("Europe/Rome")).strftime("%Y%m%d")
        self.transfers[transfer] = Transfer(sender, receiver, (whose, number), day, expires)
        return transfer

    def numbers_of(self, owner: str) -> list[Number]:
        return [(owner, value) for value in NUMBERS[owner]]

    def has(self, number: Number) -> bool:
        """Whether its hospital sent an image under this number, or said that there is such a patient."""
        sent = any(image.number == number for study in self.studies.values() for image in study.images.values())
        return sent or number in self.stated

    @rule(data=st.data(), owner=st.sampled_from(HOSPITALS), code=st.sampled_from([None, CODE, CODE, TWIN]))
    def a_registration_says_something(self, data: st.DataObject, owner: str, code: str | None) -> None:
        number = data.draw(st.sampled_from(NUMBERS[owner]))
        said = [{"issuer": CF, "id": code}] if code else []
        self.world.make_known(owner, number, name="Bianchi^Ada", birth_date="19600315", sex="F", identifiers=said, event="A08")
        self.stated.add((owner, number))
        self.two_codes |= code == TWIN

    @precondition(lambda self: self.transfers)
    @rule(data=st.data(), names=st.sampled_from([True, True, False]))
    def the_receiver_accepts(self, data: st.DataObject, names: bool) -> None:
        transfer = data.draw(st.sampled_from([*self.transfers]))
        known = self.transfers[transfer]
        number = data.draw(st.sampled_from(NUMBERS[known.receiver])) if names else None
        if (known.receiver, number) == known.number:
            return
        over = self.over(known)
        try:
            answer = self.world.accept(known.receiver, transfer, number)
        except Conflict as error:
            assert over or error.count is not None or self.two_codes
            return
        assert not over
        known.accepted = answer["receiving_patient"]["id"]
        assert known.accepted is not None
        assert number in (None, known.accepted)
        assert (known.receiver, known.accepted) in self.linked(known.number)

    @precondition(lambda self: self.transfers)
    @rule(data=st.data())
    def the_receiver_takes_it_back(self, data: st.DataObject) -> None:
        transfer = data.draw(st.sampled_from([*self.transfers]))
        known = self.transfers[transfer]
        try:
            answer = self.world.take_back(known.receiver, transfer)
        except Conflict:
            assert self.over(known)
            return
        assert "accepted_at" not in answer
        known.accepted = None

    @precondition(lambda self: self.transfers)
    @rule(data=st.data())
    def the_sender_extends_it(self, data: st.DataObject) -> None:
        transfer = data.draw(st.sampled_from([*self.transfers]))
        known = self.transfers[transfer]
        later = known.expires + timedelta(days=10)
        try:
            self.world.extend(known.sender, transfer, later)
        except Conflict:
            assert self.over(known)
            return
        assert not self.over(known)
        known.expires = later

    def over(self, transfer: Transfer) -> bool:
        return transfer.ended or self.world.now >= transfer.expires

    @precondition(lambda self: self.transfers)
    @rule(data=st.data(), by_receiver=st.booleans())
    def a_transfer_is_revoked(self, data: st.DataObject, by_receiver: bool) -> None:
        transfer = data.draw(st.sampled_from([*self.transfers]))
        known = self.transfers[transfer]
        self.world.end(known.receiver if by_receiver else known.sender, transfer)
        known.ended = True

    @rule(hours=st.sampled_from([1, 23, 25, 24 * 400]))
    def time_passes(self, hours: int) -> None:
        self.world.later(hours=hours)

    @rule(owner=st.sampled_from([A, B]))
    def two_numbers_of_a_hospital_are_linked(self, owner: str) -> None:
        first, second = NUMBERS[owner]
        try:
            self.world.confirm(owner, first, {"id": second})
        except Conflict:
            assert self.two_codes

    @rule(data=st.data(), owner=st.sampled_from(HOSPITALS))
    def a_link_is_undone(self, data: st.DataObject, owner: str) -> None:
        number = data.draw(st.sampled_from(NUMBERS[owner]))
        try:
            known = [link for link in self.world.links(owner, number) if link["status"] == "confirmed"]
        except NotFound:
            return
        if known:
            link = data.draw(st.sampled_from(known))
            self.world.undo(owner, number, link["link"])
            whose = {oid: name for name, oid in OIDS.items()}.get(link["identifier"]["issuer"], "")
            assert (whose, link["identifier"]["id"]) not in self.linked((owner, number))

    @precondition(lambda self: self.studies)
    @rule(data=st.data(), whole=st.booleans())
    def a_patient_objects(self, data: st.DataObject, whole: bool) -> None:
        uid = data.draw(st.sampled_from(sorted(self.studies)))
        study = self.studies[uid]
        number = data.draw(st.sampled_from(sorted({image.number for image in study.images.values()})))
        objection = self.world.object(study.owner, number[1], None if whole else uid)
        self.objections[objection] = (number, None if whole else uid)

    @precondition(lambda self: self.objections)
    @rule(data=st.data())
    def an_objection_is_withdrawn(self, data: st.DataObject) -> None:
        objection = data.draw(st.sampled_from([*self.objections]))
        (owner, number), _ = self.objections.pop(objection)
        w = self.world
        protection.withdraw_objection(w.table, w.caller(owner), number, objection, w.now, w.act)

    @precondition(lambda self: self.studies)
    @rule(data=st.data(), to=st.sampled_from([None, *HOSPITALS]))
    def a_study_is_protected_or_consented_to(self, data: st.DataObject, to: str | None) -> None:
        uid = data.draw(st.sampled_from(sorted(self.studies)))
        study = self.studies[uid]
        w, body = self.world, {"study_instance_uid": uid}
        if to is None:
            # Under every number of the study: which of them decides is not the question here.
            for _, each in sorted({image.number for image in study.images.values()}):
                protection.protect(w.table, w.caller(study.owner), each, body, w.now, w.act)
            self.protected.add(uid)
        else:
            for _, each in sorted({image.number for image in study.images.values()}):
                given = protection.consent(w.table, w.caller(study.owner), each, body | {"to": to}, w.now, w.act)
                self.consents[given["id"]] = (uid, to)

    @rule(data=st.data(), who=st.sampled_from(HOSPITALS))
    def an_emergency_is_declared(self, data: st.DataObject, who: str) -> None:
        if len(self.emergencies) >= 3:
            return
        whose = data.draw(st.sampled_from(HOSPITALS))
        number = data.draw(st.sampled_from(NUMBERS[whose]))
        self.world.declare_emergency(who, number, OIDS[whose])
        self.emergencies.append((who, (whose, number), self.world.now + timedelta(hours=24)))

    @precondition(lambda self: self.studies)
    @rule(data=st.data(), whole=st.booleans())
    def something_is_taken_back(self, data: st.DataObject, whole: bool) -> None:
        uid = data.draw(st.sampled_from(sorted(self.studies)))
        study = self.studies[uid]
        if whole:
            self.world.withdraw(study.owner, uid)
            study.withdrawn = True
        else:
            instance = data.draw(st.sampled_from(sorted(study.images)))
            self.world.withdraw(study.owner, uid, instance)
            study.images[instance].withdrawn = True

    # The stream ---------------------------------------------------------------------------------------------------

    def _deliver(self, batch: list[Key]) -> None:
        self.delivered += batch
        self.world.deliver(batch)

    @precondition(lambda self: self.world.table.pending)
    @rule()
    def the_projector_gets_some_records(self) -> None:
        pending = self.world.table.pending
        self.random.shuffle(pending)
        cut = self.random.randint(1, len(pending))
        batch, self.world.table.pending = pending[:cut], pending[cut:]
        self._deliver(batch)

    @precondition(lambda self: self.delivered)
    @rule()
    def records_come_again(self) -> None:
        self.world.deliver(self.random.sample(self.delivered, min(5, len(self.delivered))))

    @rule()
    def everything_is_projected(self) -> None:
        while self.world.table.pending:
            batch, self.world.table.pending = self.world.table.pending, []
            self._deliver(batch)
        self.rows_are_exactly_what_may_be_seen()
        self.feeds_go_on()

    # What must hold -------------------------------------------------------------------------------------------------

    @invariant()
    def facts_decide_at_once(self) -> None:
        """Nothing is shown, found or handed out that may not be seen, however late the projector is."""
        self._acceptance_ends_with_its_link()
        for viewer in HOSPITALS:
            for uid, study in self.studies.items():
                for uid_shown in self.world.handed_out(viewer, uid) or set():
                    image = study.images[uid_shown]
                    assert not image.withdrawn
                    assert not study.withdrawn
                    if viewer != study.owner:
                        assert self.opened(viewer, study.owner, image.number, image.date or AFTER, uid)
            for uid in self.world.found(viewer):
                study = self.studies[uid]
                assert not study.withdrawn
                if viewer != study.owner:
                    # The view may not yet know of the newest instance; of one of those it knows the rules must hold.
                    assert any(
                        self.opened(viewer, study.owner, image.number, image.date or AFTER, uid)
                        for image in study.images.values()
                    )

    def _acceptance_ends_with_its_link(self) -> None:
        for transfer, held in self.transfers.items():
            if held.accepted is not None and (held.receiver, held.accepted) not in self.linked(held.number):
                held.accepted = None
            shown = self.world.transfer(held.receiver, transfer)
            assert shown.get("receiving_patient", {}).get("id") == held.accepted
            assert ("accepted_at" in shown) is (held.accepted is not None)

    def rows_are_exactly_what_may_be_seen(self) -> None:
        """Once settled: searches, rows and manifests show exactly what may be seen."""
        self._acceptance_ends_with_its_link()
        now = self.world.now.timestamp()
        rows = {
            (key[0].split("#")[2], key[0].split("#")[3])
            for key, item in self.world.table.memory.items().items()
            if key[0].startswith("V#SEE#") and "#" not in key[1] and (item.expires is None or item.expires > now)
        }
        expected = {(viewer, uid) for viewer in HOSPITALS for uid in self.studies if self.may_see(viewer, uid)}
        assert rows == expected
        for viewer in HOSPITALS:
            assert self.world.found(viewer) == {uid for who, uid in expected if who == viewer}
            for uid, study in self.studies.items():
                shown = self.world.handed_out(viewer, uid)
                assert shown == (set(study.live) if (viewer, uid) in expected else None)
            for number in [*((viewer, value) for value in NUMBERS[viewer]), ("", CODE)]:
                around = self.linked(number)
                under = {uid for who, uid in expected if who == viewer and around & self.studies[uid].numbers}
                query = [("PatientID", number[1]), ("IssuerOfPatientID", ISSUERS[number[0]])]
                assert self.world.found(viewer, *query) == under
                assert self.world.on_timeline(viewer, number[1], ISSUERS[number[0]]) == under

    def feeds_go_on(self) -> None:
        """A reader that goes on from its last place gets everything once, in order, and only what it may know."""
        expiries.notify_expired(self.world.table, self.world.now)
        for viewer in HOSPITALS:
            read = self.read[viewer]
            since = read[-1]["cursor"] if read else None
            new = self.world.changes(viewer, since, limit=3)
            while new:
                read += new
                for change in new:
                    if change["kind"] != "study-withdrawn" and "study_instance_uid" in change:
                        assert self.may_see(viewer, change["study_instance_uid"])
                new = self.world.changes(viewer, read[-1]["cursor"], limit=3)
            places = [change["cursor"] for change in read]
            assert places == sorted(set(places))
            told = {change["study_instance_uid"] for change in read if change["kind"] == "study-arrived"}
            assert {uid for uid in self.studies if self.may_see(viewer, uid)} <= told
            for kind in ("transfer-opened", "transfer-ended"):
                named = [change["transfer_id"] for change in read if change["kind"] == kind]
                assert len(named) == len(set(named))
                own = {key for key, transfer in self.transfers.items() if viewer in (transfer.sender, transfer.receiver)}
                assert set(named) == {key for key in own if kind == "transfer-opened" or self.over(self.transfers[key])}

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.everything_is_projected()


City.TestCase.settings = settings(
    max_examples=80 if THOROUGH else 25, stateful_step_count=22, deadline=None, suppress_health_check=list(HealthCheck)
)  # fmt: skip
TestAnyHistory = City.TestCase
