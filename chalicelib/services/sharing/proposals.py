"""How many numbers of others an institution may propose: guessing is slow, and is seen.

A proposal is counted whether it is right or wrong, in the transaction that makes it; nothing here knows which it is.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from chalicelib.domain import keys
from chalicelib.domain.errors import TooMany
from chalicelib.domain.feed import TransferNews
from chalicelib.domain.ports import Item, PutVersion, Table
from chalicelib.domain.rfc3339 import iso, kept_moment
from chalicelib.domain.transfers import Transfer
from chalicelib.services import changes
from chalicelib.services.changes import Change

LIMIT = 60
WINDOW = timedelta(hours=1)
"""At most `LIMIT` proposals of an institution in any time of this length."""


def counting(table: Table, institution: str, now: datetime) -> PutVersion:
    """The write that counts one more. Raises TooMany, with the seconds until there is room again."""
    key = keys.proposal_facts(institution)
    known = table.get(key, keys.ONLY)
    moments = known.data["moments"] if known else []
    assert isinstance(moments, list)
    recent = [str(moment) for moment in moments if kept_moment(moment) > now - WINDOW]
    if len(recent) >= LIMIT:
        free = kept_moment(recent[0]) + WINDOW
        raise TooMany(
            f"At most {LIMIT} numbers of other institutions may be proposed in an hour. A transfer without one is not counted.",
            max(1, math.ceil((free - now).total_seconds())),
        )
    version = (known.version or 0) if known else 0
    data: dict[str, object] = {"moments": [*recent, iso(now)]}
    expires = math.ceil((now + 2 * WINDOW).timestamp())
    return PutVersion(Item(key, ".", data, version=version + 1, expires=expires), version)


def tell(table: Table, transfer: Transfer, now: datetime) -> None:
    """Tell the receiver that the sender proposed one of its numbers: once for all of an hour, and not which."""
    if transfer.proposed is None:
        return
    content = TransferNews(transfer.id, transfer.sender, transfer.receiver)
    change = Change(transfer.receiver, f"PROPOSED#{transfer.sender}", "link-proposed", content)
    changes.tell_seldom(table, change, transfer.opened_at, WINDOW, now)
