"""How fast the local city is: `python -m bench.local_city [--objects N]`.

Starts a city of its own in a temporary directory, prints start times, requests a second through its ports, and with --objects
the start with so many stored objects (and three items of the table for each).
"""

from __future__ import annotations

import argparse
import base64
import concurrent.futures
import hashlib
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import requests

from local.processes import free_port
from tests.harness import RunningCity, start_city

SIZE = 512 * 1024
CLIENTS = 4


def rate(name: str, count: int, call: Callable[[int], Any], clients: int = 1) -> None:
    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(call, range(count)))
    print(f"{name:<44}{count / (time.perf_counter() - started):>8.0f} a second")


def timed_start(state: Path, port: int, what: str) -> RunningCity:
    started = time.perf_counter()
    city = start_city(state, "--app", "tests.integration.local.standin", port=port)
    print(f"{what:<44}{time.perf_counter() - started:>8.1f} s")
    return city


def memory(city: RunningCity) -> str:
    return f"{psutil.Process(city.process.pid).memory_info().rss / 1e6:.0f} MB"


def measure(city: RunningCity) -> None:
    bucket, table = city.outputs()["BucketName"], city.outputs()["TableName"]
    s3, dynamodb, client = city.aws("s3"), city.aws("dynamodb"), city.client("maugeri")
    sessions = [requests.Session() for _ in range(CLIENTS)]
    bodies = [os.urandom(SIZE) for _ in range(200)]
    digests = [base64.b64encode(hashlib.sha256(body).digest()).decode() for body in bodies]
    puts = [
        s3.generate_presigned_url(
            "put_object", {"Bucket": bucket, "Key": f"cache/{n}", "ChecksumSHA256": digest, "IfNoneMatch": "*"}
        )
        for n, digest in enumerate(digests)
    ]
    gets = [s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": f"cache/{n}"}) for n in range(len(bodies))]

    def put(number: int) -> None:
        headers = {"x-amz-checksum-sha256": digests[number], "If-None-Match": "*"}
        sessions[number % CLIENTS].put(puts[number], data=bodies[number], headers=headers).raise_for_status()

    def get(number: int) -> None:
        assert sessions[number % CLIENTS].get(gets[number]).content == bodies[number]

    key = {"pk": {"S": "bench"}, "sk": {"S": "0"}}
    rate(f"presigned PUT of {SIZE // 1024} KiB, {CLIENTS} clients", len(bodies), put, CLIENTS)
    rate(f"presigned GET of {SIZE // 1024} KiB, {CLIENTS} clients", len(bodies), get, CLIENTS)
    rate("signed call of the API, 1 client", 500, lambda n: client.get("/echo/x").raise_for_status())
    rate("PutItem by port, 1 client", 300, lambda n: dynamodb.put_item(TableName=table, Item=key))
    rate("GetItem by port, 1 client", 300, lambda n: dynamodb.get_item(TableName=table, Key=key))
    print(f"{'memory':<44}{memory(city):>15}")


def fill(state: Path, city: RunningCity, count: int) -> None:
    """Objects and items by the doors, small ones, so that filling takes a minute and not an hour."""
    bucket, table = city.outputs()["BucketName"], city.outputs()["TableName"]
    s3, dynamodb = city.aws("s3"), city.aws("dynamodb")

    def put(number: int) -> None:
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        s3.put_object(Bucket=bucket, Key=f"instances/bench/{digest}", Body=b"x" * 1000, IfNoneMatch="*")
        requests = [
            {"PutRequest": {"Item": {"pk": {"S": f"{kind}#{digest}"}, "sk": {"S": "."}, "data": {"S": "x" * 1500}}}}
            for kind in ("F#SOP#bench", "F#STUDIES#bench")
        ]
        dynamodb.batch_write_item(RequestItems={table: requests})

    rate("filling", count, put, CLIENTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=0)
    count = parser.parse_args().objects
    with tempfile.TemporaryDirectory() as folder:
        state, port = Path(folder) / "state", free_port(3)
        city = timed_start(state, port, "first start")
        measure(city)
        city.stop()
        city = timed_start(state, port, "second start")
        if count:
            fill(state, city, count)
            print(f"{'memory':<44}{memory(city):>15}")
            city.stop(signal.SIGKILL)
            city = timed_start(state, port, f"start with {count} objects")
            print(f"{'memory':<44}{memory(city):>15}")
        city.stop()


if __name__ == "__main__":
    main()
