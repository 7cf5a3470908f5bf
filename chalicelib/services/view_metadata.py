"""Metadata of a study or a series for the viewer of a reading session: read from the heads of its instances."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from chalicelib.domain import studies
from chalicelib.domain.audit import Recorder
from chalicelib.domain.errors import NotFound
from chalicelib.domain.ports import Objects, Table
from chalicelib.domain.studies import Attributes, Instance
from chalicelib.services.index_instances import Stored
from chalicelib.services.links import Reader
from chalicelib.services.view_images import visible_owner

ReadMetadata = Callable[[Callable[[int, int], bytes], int, str], Attributes]
"""Reads a head by ranged reads of an object of a size; bulk values point below the given address."""

_PARALLEL = 16
_PATIENT = ("00100020", "00100021", "00100024", "04000561")


def metadata(
    table: Table, objects: Objects, read: ReadMetadata, reader: Reader, study: str, series: str | None, owner: str | None,
    service: str, now: datetime, record: Recorder,
) -> list[Attributes]:  # fmt: skip
    """DICOM JSON of every instance, under the patient number of the reader's institution. Raises NotFound.

    `service` is the address of the DICOMweb service that the reader uses.
    """
    meant = visible_owner(table, reader, study, owner, now, record)
    partition = studies.study_partition(meant, study)
    gone = studies.withdrawn(table.query_all(partition, "W#"))
    found = list(studies.instances(table.query_all(partition, f"I#{series}#" if series else "I#"), gone))
    if not found:
        raise NotFound
    row = table.get(f"V#SEE#{reader.viewer}#{study}", meant)
    shown: Attributes = row.data["attributes"] if row is not None else {}  # type: ignore[assignment]
    suffix = "" if meant == reader.viewer else f"?owner={meant}"

    def one(instance: Instance) -> Attributes:
        key = Stored(meant, str(instance.data["sha256"]), 0).key
        path = f"{service}/studies/{study}/series/{instance.series_instance_uid}/instances/{instance.sop_instance_uid}"
        attributes = read(lambda start, length: objects.read(key, start, length), int(instance.data["size"]), f"{path}/bulkdata")
        served = {tag: value for tag, value in attributes.items() if tag not in _PATIENT}
        served |= {tag: shown[tag] for tag in _PATIENT if tag in shown}
        served["00081190"] = {"vr": "UR", "Value": [path + suffix]}
        return dict(sorted(served.items()))

    with ThreadPoolExecutor(min(_PARALLEL, len(found))) as pool:
        return list(pool.map(one, found))
