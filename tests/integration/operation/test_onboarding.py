"""Hospitals join: one command at the city, one at the hospital; the twentieth costs what the third did, while two send."""

from __future__ import annotations

import configparser
import hashlib
import re
import subprocess
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from forwarder import config as forwarder_config
from infra import authority, onboard
from tests.harness import ROOT, wait_until
from tests.integration.hospital import send
from tests.integration.operation.conftest import OperatedCity
from tests.world import image

ANCHOR = "arn:aws:rolesanywhere:eu-south-1:123456789012:trust-anchor/11111111-2222-3333-4444-555555555555"
Join = Callable[..., str]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An authority of the city's own."""
    folder = tmp_path_factory.mktemp("authority") / "ca"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(authority.PASSPHRASE, "a passphrase of the city")
        assert authority.main([str(folder), "init"]) == 0
        yield folder


def request(folder: Path) -> Path:
    """A certificate request, made on the hospital's machine."""
    folder.mkdir(parents=True, exist_ok=True)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whatever it calls itself")])
    signed = (
        x509.CertificateSigningRequestBuilder().subject_name(name).sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    (folder / "forwarder.csr").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return folder / "forwarder.csr"


@pytest.fixture(scope="module")
def join(operated: OperatedCity, ca: Path, tmp_path_factory: pytest.TempPathFactory) -> Join:
    """The city's one command for hospital number so many; what it prints."""
    base = tmp_path_factory.mktemp("hospitals")

    def joined(number: int, csr: Path | None = None) -> str:
        folder = base / f"clinica-{number:02d}"
        csr = csr or (folder / "forwarder.csr" if (folder / "forwarder.csr").exists() else request(folder))
        oid = f"2.16.840.1.113883.2.9.99.{100 + number}.4.1"
        return operated.run(
            onboard.main, f"clinica-{number:02d}", "--name", f"Clinica {number}", "--issuer-oid", oid, "--ae-title",
            f"CLINICA{number:02d}", "--issuer-name", f"ADT-{number:02d}", "--adt-code", "SM01=san-matteo", "--trust-anchor-arn",
            ANCHOR, "--authority", str(ca), "--csr", str(csr), "--out", str(folder / "bundle"),
        )  # fmt: skip

    joined.base = base  # type: ignore[attr-defined]
    return joined


def test_one_command_hands_over_all_that_a_hospital_needs_and_again_does_nothing(operated: OperatedCity, join: Join) -> None:
    said = join(1)
    assert "clinica-01: registered" in said
    bundle: Path = join.base / "clinica-01" / "bundle"  # type: ignore[attr-defined]
    names = {path.name for path in bundle.iterdir()}
    assert names == {"forwarder.toml", "aws.ini", "forwarder.pem", "firewall.txt", "report.txt", "contenitore-forwarder.service"}
    settings = forwarder_config.load(bundle / "forwarder.toml")
    assert (settings.archive.api, settings.archive.profile, settings.dicom.ae_title) == (
        operated.city.api,
        "clinica-01",
        "CLINICA01",
    )
    assert tomllib.loads((bundle / "forwarder.toml").read_text())["hl7"]["adt"]["destinations"] == {"SM01": "san-matteo"}
    credentials = configparser.ConfigParser()
    credentials.read(bundle / "aws.ini")
    process = credentials["profile clinica-01"]["credential_process"]
    assert ANCHOR in process and ":profile/" in process and "role/contenitore-institution-clinica-01" in process
    certificate = x509.load_pem_x509_certificate((bundle / "forwarder.pem").read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=forwarder.clinica-01"
    host = re.sub(r"https?://", "", operated.city.api)
    assert host in (bundle / "firewall.txt").read_text()
    report = (bundle / "report.txt").read_text()
    for fact in (
        "Clinica 1",
        "2.16.840.1.113883.2.9.99.101.4.1",
        "ADT-01",
        "SM01 → san-matteo",
        f"{certificate.serial_number:x}",
    ):
        assert fact in report
        assert fact in said
    assert not any("PRIVATE KEY" in path.read_text() for path in bundle.iterdir())
    again = join(1)
    assert "Nothing to do." in again
    assert x509.load_pem_x509_certificate((bundle / "forwarder.pem").read_bytes()) == certificate


def test_the_twentieth_costs_what_the_third_did_while_two_send(operated: OperatedCity, join: Join) -> None:
    city, stop = operated.city, threading.Event()
    sent: dict[str, list[str]] = {"san-matteo": [], "maugeri": []}

    def keep_sending(hospital: str) -> None:
        client = city.client(hospital)
        while not stop.wait(0.5):
            number = len(sent[hospital])
            content = image(study=f"1.2.9.{len(hospital)}.{number}", patient=f"{hospital}-{number}")
            sha256 = hashlib.sha256(content).hexdigest()
            offered = client.post("/uploads", json={"instances": [{"sha256": sha256, "size": len(content)}]}).json()
            upload = offered["instances"][0]["upload"]
            assert requests.put(upload["url"], data=content, headers=upload["headers"], timeout=60).status_code == 200
            sent[hospital].append(sha256)

    def arrived(hospital: str) -> bool:
        told = city.client(hospital).post("/uploads/status", json={"sha256": sent[hospital]}).json()["instances"]
        return {instance["state"] for instance in told} == {"indexed"}

    senders = [threading.Thread(target=keep_sending, args=(name,)) for name in sent]
    for sender in senders:
        sender.start()

    def spent(number: int) -> dict[str, int]:
        """Calls of the API and of CloudFormation that one joining makes: counted by who makes them, whatever else goes on."""
        before = _of_the_operator(operated)
        assert f"clinica-{number:02d}: registered" in join(number)
        after = _of_the_operator(operated)
        return {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}

    try:
        join(2)
        third = spent(3)
        for number in range(4, 20):
            assert f"clinica-{number:02d}: registered" in join(number)
        twentieth = spent(20)
    finally:
        stop.set()
        for sender in senders:
            sender.join(30)
    assert twentieth == third
    assert third["PUT /institutions/{institution}"] == 1
    for hospital in sent:
        assert len(sent[hospital]) > 2
        wait_until(lambda hospital=hospital: arrived(hospital))
    members = {member["id"] for member in city.client("clinica-20").get("/institutions").json()["institutions"]}
    assert members >= {"san-matteo", "maugeri", "mondino", *(f"clinica-{number:02d}" for number in range(2, 21))}
    for number in (2, 20):  # each by its own role, and sees only its own
        client = city.client(f"clinica-{number:02d}")
        send(client, image(study=f"1.2.9.77.{number}", patient="NEW-1"))
        wait_until(lambda client=client: len(client.get("/dicomweb/studies").json()) == 1)


def _of_the_operator(operated: OperatedCity) -> dict[str, int]:
    counted = {
        name: count for name, count in operated.city.aws_requests().items() if name.startswith(("cloudformation:", "sts:"))
    }
    for line in operated.log_lines():
        if line.get("message") == "request" and line.get("institution") == "operator":
            counted[str(line["route"])] = counted.get(str(line["route"]), 0) + 1
    return counted


def test_the_hospitals_one_command_sends_sees_and_withdraws(operated: OperatedCity, join: Join, tmp_path: Path) -> None:
    """With the bundle's own configuration, but for this machine's ports and folders, and the local city's profile."""
    import sys

    from forwarder.config.example import example
    from local.processes import free_port

    join(21)
    port, page = free_port(), free_port()
    file = tmp_path / "forwarder.toml"
    file.write_text(
        example(
            {
                "archive.api": operated.city.api, "archive.profile": "clinica-21", "dicom.ae_title": "CLINICA21",
                "dicom.address": "127.0.0.1", "dicom.port": port, "page.port": page,
                "spool.folder": str(tmp_path / "spool"), "spool.reserve_mb": 64,
            }
        )
    )  # fmt: skip
    environment = {
        "AWS_CONFIG_FILE": operated.city.endpoints["aws_config_file"],
        "AWS_SHARED_CREDENTIALS_FILE": operated.city.endpoints["aws_shared_credentials_file"], "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    forwarder = [sys.executable, "-m", "forwarder"]
    silent = subprocess.run(
        [*forwarder, "self-test", "--config", file], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert silent.returncode == 1
    assert "is the forwarder running?" in silent.stdout
    running = subprocess.Popen([*forwarder, "run", "--config", file], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        wait_until(lambda: _listens(port))
        report = tmp_path / "self-test.txt"
        command = [*forwarder, "self-test", "--config", file, "--report", report]
        tried = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    finally:
        running.terminate()
        running.wait(60)
    assert tried.returncode == 0, tried.stdout + tried.stderr
    steps = re.findall(r"^good ([\w-]+):", tried.stdout, re.MULTILINE)
    assert steps == ["C-ECHO", "C-STORE", "archive", "shared", "withdrawn"]
    assert "with nobody" in tried.stdout
    assert "Superato / passed" in report.read_text()
    assert operated.city.client("clinica-21").get("/dicomweb/studies").json() == []
    assert operated.city.client("maugeri").get("/dicomweb/studies?PatientName=PHANTOM*").json() == []


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_certificate_is_renewed_by_the_same_command_and_one_who_leaves_loses_it(operated: OperatedCity, join: Join, ca: Path,
                                                                                tmp_path: Path) -> None:  # fmt: skip
    join(22)
    bundle: Path = join.base / "clinica-22" / "bundle"  # type: ignore[attr-defined]
    first = x509.load_pem_x509_certificate((bundle / "forwarder.pem").read_bytes())
    said = join(22, request(tmp_path / "new"))
    assert "Nothing to do." in said
    second = x509.load_pem_x509_certificate((bundle / "forwarder.pem").read_bytes())
    assert second.serial_number != first.serial_number
    assert second.subject == first.subject
    taken_out = ["clinica-22", "--remove", "--delete-stack", "--authority", str(ca), "--trust-anchor-arn", ANCHOR]
    left = operated.run(onboard.main, *taken_out)
    assert "forwarder.clinica-22: 2 certificates revoked" in left
    assert "no longer registered" in left
    assert "contenitore-institution-clinica-22: deleted" in left
    assert f"{ANCHOR} is told nothing: {authority.IN_AWS_ONLY}" in left
    listed = x509.load_pem_x509_crl((ca / "crl.pem").read_bytes())
    assert {certificate.serial_number for certificate in listed} == {first.serial_number, second.serial_number}
    assert operated.city.client("san-matteo").get("/institutions").text.count("clinica-22") == 0


def test_publishing_a_revocation_says_in_a_local_city_that_it_is_for_aws(
    operated: OperatedCity, ca: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", operated.city.endpoints["aws_config_file"])
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", operated.city.endpoints["aws_shared_credentials_file"])
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    assert authority.main([str(ca), "publish", "--trust-anchor-arn", ANCHOR, "--profile", "operator"]) == 0
    assert capsys.readouterr().out == f"{ANCHOR} is told nothing: {authority.IN_AWS_ONLY}\n"
