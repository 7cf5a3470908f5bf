"""What is read in one instance when it comes (`dicom.summary`): from it, its fact is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from chalicelib.domain.dicom_json import Attributes
from chalicelib.domain.instance_facts import InstanceHead
from chalicelib.domain.rejections import RejectionNote


@dataclass(frozen=True, slots=True)
class StatedIdentifier:
    """A patient's number as an instance states it; `issuer` (0010,0021) and `issuer_universal_id` (0010,0024) may be empty."""

    id: str = ""
    issuer: str = ""
    issuer_universal_id: str = ""


@dataclass(frozen=True, kw_only=True)
class InstanceSummary(InstanceHead):
    """What is read in one instance.

    `patient`: its number; `other_ids`: those of (0010,1000) and (0010,1002). `attributes`: DICOM JSON Model (PS3.18 F.2) of
    `attributes.KEPT`. `rejects`: what it takes back. `metadata`: the line that is kept of it (`dicom.served.keep`), None where
    its metadata is made when it is asked for.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    patient: StatedIdentifier = StatedIdentifier()
    other_ids: tuple[StatedIdentifier, ...] = ()
    attributes: Attributes = field(default_factory=dict)
    rejects: RejectionNote | None = None
    metadata: bytes | None = None
