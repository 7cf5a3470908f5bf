"""What the audit trail costs: `python -m bench.audit [--appends N] [--shards N]`, on this machine, in a local city of its own.

Cost: requests to the table and milliseconds for the records of one request, written by one process after another. Contention:
as many processes at once as a busy institution may have functions, each with its own memory of where it wrote last; a
transaction more than one for each request is a collision, after which the process goes on in another chain. A chain verified
and a patient's PDF, too. A reading: what the trail of one OHIF reading of forty images is, in bytes, write units and USD. The emulated table answers in its own time: on AWS a transaction takes some 10 ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from pydicom.dataset import Dataset

from chalicelib.adapters.dynamodb import DynamoTable
from chalicelib.api import access_pdf
from chalicelib.domain import audit_chain, keys
from chalicelib.domain.audit import Entry, Kind, RequestContext
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.ports import Item
from chalicelib.services.audit.trail import Trail
from infra import audit as command
from tests.browser import hospital
from tests.fakes import Watched
from tests.harness import RunningCity, running_city

PROCESSES = (1, 2, 4, 8, 16, 32, 64)
PATIENT = PatientIdentifier("2.16.840.1.113883.2.9.99.2.4.1", "A-1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--appends", type=int, default=400, help="requests recorded in each measurement (default 400)")
    parser.add_argument(
        "--shards", type=int, default=audit_chain.SHARDS, help=f"chains of an institution (default {audit_chain.SHARDS})"
    )
    options = parser.parse_args()
    audit_chain.SHARDS = options.shards
    with tempfile.TemporaryDirectory() as state, running_city(Path(state)) as city:
        cost(city, options.appends)
        contention(city, options.appends)
        verification(city)
        reading(city)


def context(institution: str) -> RequestContext:
    role = f"contenitore-institution-{institution}"
    return RequestContext(
        datetime.now(UTC), "0" * 36, "GET /studies/{study}/manifest", institution, "rossi", role, institution, "203.0.113.7"
    )


def entry(number: int) -> Entry:
    return Entry(Kind.ACCESS, "san-matteo", (PATIENT,), f"1.2.826.0.1.3680043.8.498.{number}", basis=("0" * 32,), count=300)


def cost(city: RunningCity, appends: int) -> None:
    print("\nrecords of a request   requests to the table   ms (median)")
    calls: Counter[str] = Counter()
    trail = Trail(_watched(city, calls), 10)
    trail.append(context("cost"), [entry(0)])
    for records, times in ((1, appends), (10, appends // 4), (99, appends // 20)):
        calls.clear()
        entries = [entry(number) for number in range(records)]
        took = [_append(trail, "cost", entries) for _ in range(times)]
        each = ", ".join(f"{count / times:.2f} {name}" for name, count in calls.items())
        print(f"{records:>20}   {each:<21}   {statistics.median(took):.1f}")


def contention(city: RunningCity, appends: int) -> None:
    print(f"\nprocesses at once, {audit_chain.SHARDS} chains   transactions each   reads each   ms (median, 95 %)   requests/s")
    for processes in PROCESSES:
        institution, calls = f"contended-{processes}", Counter[str]()
        trails = [Trail(_watched(city, calls), 10) for _ in range(processes)]
        started = time.perf_counter()
        with ThreadPoolExecutor(processes) as pool:
            work = [pool.submit(_share, trail, institution, appends // processes) for trail in trails]
            took = sorted(seconds for future in work for seconds in future.result())
        seconds = time.perf_counter() - started
        done = len(took)
        print(
            f"{processes:>28}   {calls['transact'] / done:>17.2f}   {calls['get'] / done:>10.2f}   "
            f"{statistics.median(took):>8.1f}, {took[int(done * 0.95) - 1]:>6.1f}   {done / seconds:>10.0f}"
        )


def _share(trail: Trail, institution: str, count: int) -> list[float]:
    return [_append(trail, institution, [entry(0)]) for _ in range(count)]


def verification(city: RunningCity) -> None:
    table = _table(city)
    shards = [shard for who in ("cost", *(f"contended-{n}" for n in PROCESSES)) for shard in audit_chain.shards(who)]
    started = time.perf_counter()
    heads = {shard: table.get(keys.audit_records(shard), keys.HEAD) for shard in shards}
    verified = [command.verify_shard(table, shard, head, [], datetime(2000, 1, 1, tzinfo=UTC)) for shard, head in heads.items()]
    seconds = time.perf_counter() - started
    records, findings = sum(count for _, count, _ in verified), sum(len(found) for found, _, _ in verified)
    print(f"\nverified: {records} records in {seconds:.1f} s, {findings} findings")
    row = (
        "01/03/2026 10:00",
        "dr.rossi, ICS Maugeri",
        "Ha aperto immagini: TC TORACE del 01/03/2026",
        "Cura; la Sua cura è passata",
    )
    started = time.perf_counter()
    content = access_pdf.render("Titolo", [], ["Quando", "Chi", "Che cosa", "Perché"], [row] * 300, [], "it")
    print(f"a PDF of 300 accesses: {(time.perf_counter() - started) * 1000:.0f} ms, {len(content) // 1000} kB")


IMAGES = 40
WRITE_UNIT, STORED = 0.7423e-6, 0.2975
"""USD of a write unit, and of a GB for a month (DynamoDB on demand, eu-south-1, standard class)."""
YEARS = 10


def reading(city: RunningCity) -> None:
    """A link is opened, two series' metadata are read, and forty images by WADO-URI, as OHIF does, six requests at a time."""
    patient = hospital.Patient()
    stack = hospital.stack(patient, "san-matteo", "20260301", IMAGES)
    hospital.send(city.client("san-matteo"), *stack)
    hospital.send(city.client("maugeri"), hospital.image(patient, "maugeri", date="20260310"))
    hospital.transfer(city, patient)
    hospital.wait_for_studies(city, patient, 2)
    token = hospital.link(city, patient={"id": patient.at["maugeri"]})["url"].split("#")[1]
    before = {item.key for item in _records(city, "maugeri")}
    spent = city.aws_requests().get("dynamodb:TransactWriteItems", 0)
    opened = city.client(None).post("/view/session", json={"token": token}).json()
    client, root = city.client(None), f"/view/{opened['pass']}"
    study = stack[0].StudyInstanceUID
    for series in {slice_.SeriesInstanceUID for slice_ in stack}:
        assert client.get(f"{root}/dicomweb/studies/{study}/series/{series}/metadata", allow_redirects=False).ok

    def fetch(image: Dataset) -> None:
        uids = f"studyUID={study}&seriesUID={image.SeriesInstanceUID}&objectUID={image.SOPInstanceUID}"
        asked = f"{root}/wado?requestType=WADO&{uids}&contentType=application/dicom"
        assert city.client(None).get(asked, allow_redirects=False).status_code == 307

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(fetch, stack))
    transactions = city.aws_requests()["dynamodb:TransactWriteItems"] - spent
    new = [item for item in _records(city, "maugeri") if item.key not in before]
    stored = sum(_size(item) * (1 + len(item.indexes)) for item in new)
    units = 2 * transactions + sum(-(-_size(item) // 1024) * (2 + len(item.indexes)) for item in new)
    usd = units * WRITE_UNIT + stored / 1024**3 * STORED * 12 * YEARS
    print(f"\na reading of {IMAGES} images: {len(new)} records in {transactions} transactions, {units} write units,")
    print(f"{stored:,} bytes with indexes; {usd:.6f} USD with {YEARS} years of storage")


def _records(city: RunningCity, institution: str) -> list[Item]:
    table = _table(city)
    partitions = [keys.audit_records(shard) for shard in audit_chain.shards(institution)]
    return [item for partition in partitions for item in table.query_all(partition) if item.sk != keys.HEAD]


def _size(item: Item) -> int:
    """Bytes of an item as DynamoDB counts them: names and values, and 100 for what it keeps beside (Developer Guide)."""
    values = [item.pk, item.sk, json.dumps(item.data, ensure_ascii=False, separators=(",", ":"))]
    values += [part for pair in item.indexes.values() for part in pair]
    return sum(len(value.encode()) for value in values) + 8 + 14 * len(item.indexes) + 14 + 100


def _table(city: RunningCity) -> DynamoTable:
    return DynamoTable(city.aws("dynamodb"), city.outputs()["TableName"])


def _watched(city: RunningCity, calls: Counter[str]) -> Watched:
    return Watched(_table(city), lambda name: calls.update([name]))


def _append(trail: Trail, institution: str, entries: list[Entry]) -> float:
    """Milliseconds of one request's recording; who is told to try again does."""
    started = time.perf_counter()
    while True:
        try:
            trail.append(context(institution), entries)
        except TryAgain:
            continue
        return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
