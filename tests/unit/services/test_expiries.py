"""When a transfer runs out both parties are told, once, whatever else happens to it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from chalicelib.services import changes
from chalicelib.services.sharing import expiries
from tests.streams import MOMENT
from tests.world import World, reading_world

DAY = timedelta(days=1)


def ended(archive: World, institution: str) -> list[tuple[str, str]]:
    """(transfer, status) of what the institution was told to be over."""
    answer: dict[str, Any] = changes.read_changes(
        archive.table, archive.caller(institution), None, 1000, 0, lambda: MOMENT + 900 * DAY
    )
    return [(change["transfer_id"], change["status"]) for change in answer["changes"] if change["kind"] == "transfer-ended"]


def test_both_parties_are_told_once_and_nobody_else() -> None:
    archive = reading_world()
    transfer = archive.open_transfer("san-matteo", "maugeri", "P1", days=30)
    assert expiries.notify_expired(archive.table, MOMENT + 29 * DAY) == 0
    assert ended(archive, "maugeri") == []
    assert expiries.notify_expired(archive.table, MOMENT + 30 * DAY) == 1
    assert expiries.notify_expired(archive.table, MOMENT + 30 * DAY) == 0
    assert ended(archive, "san-matteo") == ended(archive, "maugeri") == [(transfer.id, "expired")]
    assert ended(archive, "mondino") == []


def test_one_that_was_revoked_does_not_expire_as_well() -> None:
    archive = reading_world()
    transfer = archive.open_transfer("san-matteo", "maugeri", "P1", days=30)
    archive.end_transfer(transfer)
    archive.project_all()
    assert expiries.notify_expired(archive.table, MOMENT + 40 * DAY) == 0
    assert ended(archive, "maugeri") == [(transfer.id, "revoked")]


def test_one_that_is_revoked_after_it_expired_is_not_told_again() -> None:
    archive = reading_world()
    transfer = archive.open_transfer("san-matteo", "maugeri", "P1", days=30)
    expiries.notify_expired(archive.table, MOMENT + 31 * DAY)
    archive.end_transfer(transfer)
    archive.project_all(MOMENT + 32 * DAY)
    assert ended(archive, "maugeri") == [(transfer.id, "expired")]


def test_a_run_that_was_cut_off_is_made_up_for_by_the_next() -> None:
    archive = reading_world()
    transfers = [archive.open_transfer("san-matteo", "maugeri", f"P{number}", days=number) for number in range(1, 6)]
    expiries.notify_expired(archive.table, MOMENT + 2 * DAY)
    assert [transfer_id for transfer_id, _ in ended(archive, "maugeri")] == [transfer.id for transfer in transfers[:2]]
    (told, _) = changes.transfer_ended(transfers[2], "expired")
    changes.tell(archive.table, [told], MOMENT + 3 * DAY)  # one party was told, then the function died
    assert expiries.notify_expired(archive.table, MOMENT + 9 * DAY) == 3
    for party in ("san-matteo", "maugeri"):
        assert [transfer_id for transfer_id, _ in ended(archive, party)] == [transfer.id for transfer in transfers]
