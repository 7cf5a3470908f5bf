"""What was refused under a SOP Instance UID that stands for other bytes (a conflict): kept aside, and shown to nobody."""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.domain import keys
from chalicelib.domain.ports import Item


@dataclass(frozen=True)
class RefusedInstance:
    """One of them: whose, under which UID, of which study it said to be, its size in bytes, and where its metadata lies."""

    institution: str
    sop_instance_uid: str
    sha256: str
    study_instance_uid: str
    size: int
    part: str = ""

    def item(self) -> Item:
        """The fact that it was refused: the same however often it is said."""
        said: dict[str, object] = {"study": self.study_instance_uid, "size": self.size, "part": self.part}
        return Item(keys.sop_facts(self.institution, self.sop_instance_uid), keys.refused(self.sha256), said)

    @classmethod
    def from_item(cls, item: Item) -> RefusedInstance:
        """What `item` made."""
        named, refused = keys.read(keys.sop_facts, item.pk), keys.read(keys.refused, item.sk)
        assert named is not None and refused is not None
        study, size, part = (str(item.data[name]) for name in ("study", "size", "part"))
        return cls(named[0], named[1], refused[0], study, int(size), part)
