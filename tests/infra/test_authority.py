"""The private authority of the forwarders' certificates: made, issuing, renewing, revoking, as OpenSSL sees it."""

from __future__ import annotations

import grp
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from botocore.stub import Stubber
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from infra import authority
from infra.authority import Authority, UnusableRequest
from infra.package import ROOT

SECRET = b"a long enough passphrase"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def openssl(*arguments: str | Path, fails: bool = False) -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "ca")
    made.make("Test forwarders", SECRET, datetime.now(UTC))
    return made


def request(folder: Path, name: str = "forwarder", *key: str) -> bytes:
    """A request as a hospital makes it: with OpenSSL, under whatever name it likes."""
    made = folder / f"{name}.csr"
    kind = key or ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    openssl("req", "-new", *kind, "-nodes", "-keyout", folder / f"{name}.key", "-subj", "/CN=whoever", "-out", made)
    return made.read_bytes()


def test_what_it_issues_is_a_client_certificate_under_the_operators_name(ca: Authority, tmp_path: Path) -> None:
    certificate = ca.issue("forwarder.maugeri", request(tmp_path), 365, SECRET, datetime.now(UTC))
    file = tmp_path / "cert.pem"
    file.write_bytes(certificate.public_bytes(authority.serialization.Encoding.PEM))
    openssl("verify", "-purpose", "sslclient", "-CAfile", ca.certificate_file, file)
    text = openssl("x509", "-in", file, "-noout", "-text")
    assert "CN = forwarder.maugeri" in text or "CN=forwarder.maugeri" in text
    assert "whoever" not in text
    assert "CA:FALSE" in text and "Digital Signature" in text and "TLS Web Client Authentication" in text
    assert [certificate.common_name for certificate in ca.issued()] == ["forwarder.maugeri"]


def test_what_was_revoked_is_on_the_list_and_its_key_is_not_certified_again(ca: Authority, tmp_path: Path) -> None:
    stolen, kept = request(tmp_path, "stolen"), request(tmp_path, "kept")
    files = {}
    for name, csr in (("stolen", stolen), ("kept", kept)):
        certificate = ca.issue("forwarder.maugeri" if name == "stolen" else "forwarder.sm", csr, 30, SECRET, datetime.now(UTC))
        files[name] = tmp_path / f"{name}.pem"
        files[name].write_bytes(certificate.public_bytes(authority.serialization.Encoding.PEM))
    assert [certificate.common_name for certificate in ca.revoke("forwarder.maugeri", "keyCompromise", datetime.now(UTC))] == [
        "forwarder.maugeri"
    ]
    assert ca.revoke("forwarder.maugeri", "keyCompromise", datetime.now(UTC)) == []
    crl = tmp_path / "crl.pem"
    crl.write_bytes(ca.revocation_list(SECRET, datetime.now(UTC)))
    check = ("verify", "-crl_check", "-CRLfile", crl, "-CAfile", ca.certificate_file)
    assert "revoked" in openssl(*check, files["stolen"], fails=True)
    openssl(*check, files["kept"])
    with pytest.raises(UnusableRequest, match="new key"):
        ca.issue("forwarder.maugeri", stolen, 30, SECRET, datetime.now(UTC))
    renewed = ca.issue("forwarder.maugeri", request(tmp_path, "new"), 30, SECRET, datetime.now(UTC))
    assert renewed.serial_number not in {int(certificate.serial, 16) for certificate in ca.issued() if certificate.revoked_at}


def test_renewing_keeps_the_old_one_until_it_ends(ca: Authority, tmp_path: Path) -> None:
    csr = request(tmp_path)
    ca.issue("forwarder.sm", csr, 10, SECRET, NOW)
    ca.issue("forwarder.sm", csr, 365, SECRET, NOW + timedelta(days=5))
    assert [certificate.holds(NOW + timedelta(days=6)) for certificate in ca.issued()] == [True, True]
    assert [certificate.holds(NOW + timedelta(days=11)) for certificate in ca.issued()] == [False, True]


def _of_the_manual(heading: str, folder: Path) -> list[str]:
    """The commands of a part of docs/certificates.md, in a folder that stands for the forwarder's machine."""
    section = (ROOT / "docs" / "certificates.md").read_text(encoding="utf-8").split(f"**{heading}", 1)[1].split("\n**", 1)[0]
    found = re.findall(r"^ {4}((?:openssl|install|rm) (?:[^\n]|\\\n)*)", section.replace("\\\n", " "), re.MULTILINE)
    assert found
    group = grp.getgrgid(os.getgid()).gr_name
    return [text.replace("/etc/contenitore", str(folder)).replace("-g contenitore", f"-g {group}") for text in found]


def test_who_renews_by_the_manual_keeps_the_key_in_use_and_its_certificate_until_the_new_ones_are_there(
    ca: Authority, tmp_path: Path
) -> None:
    place, key = tmp_path / "contenitore", tmp_path / "contenitore" / "forwarder.key"
    place.mkdir()

    def typed(command: str) -> None:
        subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True, capture_output=True, timeout=60)

    def certified() -> x509.Certificate:
        return ca.issue("forwarder.sm", (tmp_path / "forwarder.csr").read_bytes(), 365, SECRET, NOW)

    def sent(certificate: x509.Certificate) -> None:
        (tmp_path / "forwarder.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def key_fits() -> bool:
        held = serialization.load_pem_private_key(key.read_bytes(), None).public_key()
        return held == x509.load_pem_x509_certificate((place / "forwarder.pem").read_bytes()).public_key()

    (first,) = _of_the_manual("A hospital's certificate.", place)
    typed(first)
    (place / "forwarder.pem").write_bytes(certified().public_bytes(serialization.Encoding.PEM))
    used = key.read_bytes()
    asks, puts = _of_the_manual("Renewing", place)
    typed(asks)
    assert key.read_bytes() == used
    sent(certified())
    typed(puts)
    assert key_fits()
    asks, *puts = _of_the_manual("A new key", place)
    typed(asks)
    assert key.read_bytes() == used
    sent(certified())
    assert key_fits()
    typed("\n".join(puts))
    assert key.read_bytes() != used
    assert key_fits()
    assert sorted(path.name for path in place.iterdir()) == ["forwarder.key", "forwarder.pem"]
    assert key.stat().st_mode & 0o777 == 0o640


def test_it_never_outlives_its_authority_and_the_key_is_unreadable_without_the_passphrase(ca: Authority, tmp_path: Path) -> None:
    late = datetime.now(UTC) + timedelta(days=365 * authority.AUTHORITY_YEARS - 10)
    own = x509.load_pem_x509_certificate(ca.certificate_file.read_bytes())
    assert ca.issue("forwarder.sm", request(tmp_path), 365, SECRET, late).not_valid_after_utc == own.not_valid_after_utc
    assert b"ENCRYPTED" in ca.key_file.read_bytes()
    assert ca.key_file.stat().st_mode & 0o077 == 0
    with pytest.raises(UnusableRequest, match="passphrase"):
        ca.issue("forwarder.sm", request(tmp_path), 30, b"another passphrase", NOW)


@pytest.mark.parametrize(
    ("request_of", "match"),
    [
        (lambda folder: b"not a request", "no certificate request"),
        (lambda folder: b"x" * 100_000, "too large"),
        (lambda folder: request(folder, "weak", "-newkey", "rsa:1024"), "too weak"),
        (lambda folder: request(folder).replace(b"A", b"B", 3), "no certificate request"),
    ],
)
def test_what_is_no_good_request_is_refused_in_words(ca: Authority, tmp_path: Path, request_of, match: str) -> None:
    with pytest.raises(UnusableRequest, match=match):
        ca.issue("forwarder.sm", request_of(tmp_path), 30, SECRET, NOW)
    assert ca.issued() == []


def test_a_second_authority_in_its_place_is_refused(ca: Authority) -> None:
    with pytest.raises(UnusableRequest, match="already"):
        ca.make("Another", SECRET, NOW)


def test_the_commands_of_the_manual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(authority.PASSPHRASE, SECRET.decode())
    folder, csr = tmp_path / "authority", tmp_path / "forwarder.csr"
    csr.write_bytes(request(tmp_path))
    assert authority.main([str(folder), "issue", "forwarder.sm", "--csr", str(csr), "--out", str(tmp_path / "c.pem")]) == 2
    assert authority.main([str(folder), "init"]) == 0
    assert authority.main([str(folder), "issue", "forwarder.sm", "--csr", str(csr), "--out", str(tmp_path / "c.pem")]) == 0
    assert authority.main([str(folder), "revoke", "forwarder.sm", "--reason", "keyCompromise"]) == 0
    assert authority.main([str(folder), "crl", "--out", str(tmp_path / "crl.pem")]) == 0
    assert authority.main([str(folder), "list"]) == 0
    assert "revoked" in capsys.readouterr().out
    assert authority.main([str(folder), "revoke", "nobody"]) == 2


def test_publishing_imports_the_list_once_and_brings_it_up_to_date_after(ca: Authority) -> None:
    anchor, crl = "arn:aws:rolesanywhere:eu-south-1:123456789012:trust-anchor/0a1b2c3d-0000-0000-0000-000000000000", b"crl"
    entry = {
        "crlId": "0a1b2c3d-0000-0000-0000-000000000001", "name": "contenitore", "trustAnchorArn": anchor, "enabled": False,
        "crlArn": "arn:aws:rolesanywhere:eu-south-1:123456789012:crl/0a1b2c3d-0000-0000-0000-000000000001",
        "createdAt": NOW, "updatedAt": NOW, "crlData": crl,
    }  # fmt: skip
    client = boto3.client("rolesanywhere", region_name="eu-south-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stubbed:
        stubbed.add_response("list_crls", {"crls": []}, {})
        wanted = {"name": "contenitore", "crlData": crl, "enabled": True, "trustAnchorArn": anchor}
        stubbed.add_response("import_crl", {"crl": entry}, wanted)
        assert authority.publish(client, anchor, "contenitore", crl) == entry["crlId"]
        stubbed.add_response("list_crls", {"crls": [entry]}, {})
        stubbed.add_response("update_crl", {"crl": entry}, {"crlId": entry["crlId"], "crlData": crl, "name": "contenitore"})
        stubbed.add_response("enable_crl", {"crl": entry}, {"crlId": entry["crlId"]})
        assert authority.publish(client, anchor, "contenitore", crl) == entry["crlId"]
        stubbed.assert_no_pending_responses()
