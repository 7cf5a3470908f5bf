"""Where a page of a long list begins, kept from the page before it, so that paging reads what it shows and not all before it.

QIDO-RS pages by `offset` (PS3.18 8.3.4.4), which says how many to skip and not where to go on. Each page that is cut off keeps
where it ended, for an hour, under the search and the content of the study. Whoever asks for an offset that nobody came to begins
at the last place before it, or at the beginning. It only saves reading: what is shown is decided anew for each page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from chalicelib.dicomweb.qido import Query
from chalicelib.domain import keys
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.ports import Item, Put, Table

_KEPT = timedelta(hours=1)


@dataclass(frozen=True)
class PagePlace:
    """Where a list goes on: `offset` entities are before, up to the one with this sort key, empty at the beginning."""

    offset: int = 0
    after: str = ""


BEGINNING = PagePlace()


@dataclass(frozen=True)
class SearchPages:
    """The pages of one search in one study, as long as the study's content stays the same."""

    partition: str
    search: str

    def nearest(self, table: Table, offset: int) -> PagePlace:
        """The last place that is known up to an offset."""
        if offset == 0:
            return BEGINNING
        between = (self._sk(0), self._sk(offset))
        found = table.query(self.partition, between=between, descending=True, limit=1).items
        return PagePlace(int(found[0].sk.rpartition("#")[2]), str(found[0].data["after"])) if found else BEGINNING

    def keep(self, table: Table, place: PagePlace, now: datetime) -> None:
        """Keep where a page ended. Where that cannot be written now, the next page reads more."""
        expires = int((now + _KEPT).timestamp())
        try:
            table.put(Put(Item(self.partition, self._sk(place.offset), {"after": place.after}, expires=expires)))
        except TryAgain:
            return

    def _sk(self, offset: int) -> str:
        return f"{self.search}#{offset:09d}"


def pages_of(viewer: str, owner: str, study: str, content: Sequence[str], query: Query) -> SearchPages | None:
    """The pages of a search in a study. `content`: what stands for all that is shown of it, the first of it for its instances:
    where that is empty, nothing stands for them, and there are no places."""
    if not content[0]:
        return None
    text = repr((*content, replace(query, offset=0, limit=0)))
    return SearchPages(keys.pages(viewer, owner, study), hashlib.sha256(text.encode()).hexdigest()[:32])
