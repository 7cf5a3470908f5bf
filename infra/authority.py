"""``python -m infra.authority``: the private certification authority of the forwarders' certificates.

IAM Roles Anywhere exchanges a certificate of a trusted authority for the institution's credentials. Where there is none (AWS
Private CA, the region's own), this makes one: a folder with its key, what it issued, and what it revoked. The private key of a
forwarder never leaves its machine: what is signed is a request (CSR), of which only the public key counts; the name is the
operator's.
"""

from __future__ import annotations

import argparse
import fcntl
import getpass
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chalicelib.config import VERSION
from infra import command_line, where

PASSPHRASE = "CONTENITORE_CA_PASSPHRASE"  # noqa: S105  # the name of the variable that holds it
AUTHORITY_YEARS = 10
DAYS = 365
MOST_DAYS = 825
CRL_DAYS = 30
"""Days after which a revocation list should be made anew."""
LARGEST_REQUEST = 64 * 1024
REASONS = ("unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation")
TRUST_ANCHOR = re.compile(r"arn:aws[a-z-]*:rolesanywhere:[a-z0-9-]+:\d{12}:trust-anchor/[\w-]+")
IN_AWS_ONLY = "IAM Roles Anywhere exists in AWS only; in a local city no certificate is exchanged, and nothing is left to do"
_COMMON_NAME = re.compile(r"[\w .@-]{1,64}", re.ASCII)
_SERIAL = re.compile(r"[0-9a-f]{1,40}")


class UnusableRequest(Exception):
    """What was asked cannot be done as asked; the message says what to do."""


@dataclass(frozen=True)
class Issued:
    """A certificate that was issued: its serial number (hex), for whom, until when, and whether it was revoked (when, why)."""

    serial: str
    common_name: str
    not_after: str
    revoked_at: str = ""
    reason: str = ""

    def holds(self, now: datetime) -> bool:
        """Whether it is good for anything at `now` (aware)."""
        return not self.revoked_at and now < datetime.fromisoformat(self.not_after)


class Authority:
    """An authority in a folder: `ca.pem`, `ca.key` (encrypted), `issued.json`, `certificates/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate_file, self.key_file = folder / "ca.pem", folder / "ca.key"
        self._index = folder / "issued.json"

    def make(self, name: str, passphrase: bytes, now: datetime) -> x509.Certificate:
        """A new authority. Raises Unusable where there is one already: a second key would orphan what the first one signed."""
        if self.certificate_file.exists() or self.key_file.exists():
            raise UnusableRequest(f"There is an authority in {self.folder} already.")
        if len(passphrase) < 12:
            raise UnusableRequest(f"The passphrase ({PASSPHRASE}) should have 12 characters or more.")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP384R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=365 * AUTHORITY_YEARS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA384())
        )
        encrypted = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(passphrase)
        )
        _write(self.key_file, encrypted, 0o600)
        _write(self.certificate_file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        self._save([])
        return certificate

    def issue(self, common_name: str, request: bytes, days: int, passphrase: bytes, now: datetime) -> x509.Certificate:
        """A certificate for a request (PEM or DER); renewing is issuing again. Raises Unusable for a weak or unproven key."""
        if not _COMMON_NAME.fullmatch(common_name):
            raise UnusableRequest("The common name must be 1 to 64 letters, digits, blanks and . _ @ -")
        if not 1 <= days <= MOST_DAYS:
            raise UnusableRequest(f"--days must be from 1 to {MOST_DAYS}.")
        public_key = proven_key(request)
        with self._changing() as issued:
            ca, key = self._open(passphrase)
            until = min(now + timedelta(days=days), ca.not_valid_after_utc)
            if any(self._key_of(certificate) == _spki(public_key) for certificate in issued if certificate.revoked_at):
                raise UnusableRequest("A certificate of this key was revoked. The forwarder needs a new key.")
            certificate = (
                x509.CertificateBuilder()
                .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
                .issuer_name(ca.subject)
                .public_key(public_key)
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - timedelta(minutes=5))
                .not_valid_after(until)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(_usage(signs_certificates=False), critical=True)
                .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
                .sign(key, hashes.SHA384())
            )
            serial = f"{certificate.serial_number:x}"
            _write(self._file(serial), certificate.public_bytes(serialization.Encoding.PEM), 0o644)
            issued.append(Issued(serial, common_name, certificate.not_valid_after_utc.isoformat()))
        return certificate

    def revoke(self, which: str, reason: str, now: datetime) -> list[Issued]:
        """Revoke one certificate by its serial number, or all that hold of a common name. Again: nothing. Raises Unusable."""
        if reason not in REASONS:
            raise UnusableRequest(f"--reason must be one of {', '.join(REASONS)}.")
        with self._changing() as issued:
            meant = [certificate for certificate in issued if which in (certificate.serial, certificate.common_name)]
            if not meant:
                raise UnusableRequest(f"Nothing was issued under “{which}”: name a serial number or a common name of the list.")
            revoked = [certificate for certificate in meant if certificate.holds(now)]
            for certificate in revoked:
                issued[issued.index(certificate)] = Issued(
                    certificate.serial, certificate.common_name, certificate.not_after, now.isoformat(timespec="seconds"), reason
                )
        return revoked

    def revocation_list(self, passphrase: bytes, now: datetime) -> bytes:
        """The revocation list (RFC 5280 5), PEM, as Roles Anywhere imports it."""
        ca, key = self._open(passphrase)
        builder = x509.CertificateRevocationListBuilder().issuer_name(ca.subject).last_update(now)
        builder = builder.next_update(now + timedelta(days=CRL_DAYS))
        for certificate in self.issued():
            if certificate.revoked_at:
                builder = builder.add_revoked_certificate(
                    x509.RevokedCertificateBuilder()
                    .serial_number(int(certificate.serial, 16))
                    .revocation_date(datetime.fromisoformat(certificate.revoked_at))
                    .add_extension(x509.CRLReason(x509.ReasonFlags(certificate.reason)), critical=False)
                    .build()
                )
        number = x509.CRLNumber(int(now.timestamp()))
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        signed = (
            builder.add_extension(number, critical=False).add_extension(identifier, critical=False).sign(key, hashes.SHA384())
        )
        return signed.public_bytes(serialization.Encoding.PEM)

    def check(self, passphrase: bytes) -> None:
        """Raises UnusableRequest where there is no authority, or this is not its passphrase."""
        self._open(passphrase)
        self.issued()

    def issued(self) -> list[Issued]:
        """All that was issued. Raises Unusable where there is no authority."""
        if not self._index.exists():
            raise UnusableRequest(f"There is no authority in {self.folder}: make one with “init”.")
        return [Issued(**entry) for entry in json.loads(self._index.read_text(encoding="utf-8"))]

    def _open(self, passphrase: bytes) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())
            key = serialization.load_pem_private_key(self.key_file.read_bytes(), passphrase)
        except OSError as error:
            raise UnusableRequest(f"There is no authority in {self.folder}: make one with “init”.") from error
        except (ValueError, TypeError) as error:
            raise UnusableRequest(f"The authority's key cannot be opened: is {PASSPHRASE} the right passphrase?") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise UnusableRequest("The authority's key is not one of its own making.")
        return certificate, key

    @contextmanager
    def _changing(self) -> Iterator[list[Issued]]:
        """The list to be changed, by one at a time; saved where nothing was raised."""
        issued = self.issued()
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            issued = self.issued()
            yield issued
            self._save(issued)

    def _save(self, issued: list[Issued]) -> None:
        _write(self._index, json.dumps([asdict(certificate) for certificate in issued], indent=1).encode(), 0o600)

    def _file(self, serial: str) -> Path:
        folder = self.folder / "certificates"
        folder.mkdir(exist_ok=True)
        if not _SERIAL.fullmatch(serial):
            raise UnusableRequest("This is not a serial number.")
        return folder / f"{serial}.pem"

    def certificate_of(self, issued: Issued) -> x509.Certificate:
        """What was issued."""
        return x509.load_pem_x509_certificate(self._file(issued.serial).read_bytes())

    def _key_of(self, issued: Issued) -> bytes:
        return _spki(self.certificate_of(issued).public_key())


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def proven_key(request: bytes) -> Any:
    """The public key of a request whose sender has the private one. Raises Unusable."""
    if len(request) > LARGEST_REQUEST:
        raise UnusableRequest("This is no certificate request: it is too large.")
    try:
        loads = x509.load_pem_x509_csr if request.lstrip().startswith(b"-----") else x509.load_der_x509_csr
        signed = loads(request)
        if not signed.is_signature_valid:
            raise InvalidSignature
    except (ValueError, TypeError, InvalidSignature) as error:
        raise UnusableRequest("This is no certificate request (CSR), or its signature does not prove its key.") from error
    key = signed.public_key()
    strong = isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048
    strong = strong or (isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size >= 256)
    if not strong:
        raise UnusableRequest("The request's key is too weak: RSA from 2048 bits, or an elliptic curve from 256, is wanted.")
    return key


def _spki(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, with these rights from the first byte on."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def publish(client: Any, trust_anchor: str, name: str, crl: bytes) -> str:
    """Have Roles Anywhere refuse what the list names: imported, or brought up to date, and switched on. Answers its id."""
    pages = client.get_paginator("list_crls").paginate()
    known = [crl for page in pages for crl in page["crls"] if crl.get("trustAnchorArn") == trust_anchor and crl["name"] == name]
    if known:
        client.update_crl(crlId=known[0]["crlId"], crlData=crl, name=name)
        if not known[0].get("enabled"):
            client.enable_crl(crlId=known[0]["crlId"])
        return str(known[0]["crlId"])
    imported = client.import_crl(name=name, crlData=crl, enabled=True, trustAnchorArn=trust_anchor)
    return str(imported["crl"]["crlId"])


def main(arguments: list[str] | None = None) -> int:
    """0 as asked, 1 AWS refused, 2 it cannot be asked so."""
    options = _parser().parse_args(arguments)
    authority, now = Authority(options.folder), datetime.now(UTC)
    try:
        code = int(options.run(authority, options, now) or 0)
        sys.stdout.flush()
    except BrokenPipeError:
        return command_line.unread()
    except KeyboardInterrupt:
        print("stopped; the same command again does the rest", file=sys.stderr)
        return 2
    except UnusableRequest as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except (ClientError, BotoCoreError) as error:
        print(f"AWS refused: {error}", file=sys.stderr)
        return 1
    return code


def passphrase() -> bytes:
    given = os.environ.get(PASSPHRASE)
    if given is None and sys.stdin.isatty():
        given = getpass.getpass("Passphrase of the authority's key: ")
    if not given:
        raise UnusableRequest(f"The passphrase of the authority's key is taken from {PASSPHRASE}, or asked for at a terminal.")
    return given.encode()


def _init(authority: Authority, options: argparse.Namespace, now: datetime) -> None:
    certificate = authority.make(options.name, passphrase(), now)
    print(f"{authority.certificate_file}: until {certificate.not_valid_after_utc:%Y-%m-%d}. It is what account.yaml is given:")
    print(f'  CertificationAuthorityPem="$(cat {authority.certificate_file})"')


def _issue(authority: Authority, options: argparse.Namespace, now: datetime) -> None:
    certificate = authority.issue(options.common_name, options.csr.read_bytes(), options.days, passphrase(), now)
    _write(options.out, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    print(
        f"{options.out}: {options.common_name}, {certificate.serial_number:x}, until {certificate.not_valid_after_utc:%Y-%m-%d}"
    )


def _revoke(authority: Authority, options: argparse.Namespace, now: datetime) -> None:
    revoked = authority.revoke(options.which, options.reason, now)
    for certificate in revoked:
        print(f"revoked: {certificate.common_name}, {certificate.serial}")
    print("Nothing that held." if not revoked else "Now publish the list: “crl”, or “publish” with the trust anchor.")


def _crl(authority: Authority, options: argparse.Namespace, now: datetime) -> None:
    _write(options.out, authority.revocation_list(passphrase(), now), 0o644)
    print(f"{options.out}: {sum(bool(certificate.revoked_at) for certificate in authority.issued())} revoked")


def _publish(authority: Authority, options: argparse.Namespace, now: datetime) -> None:
    region = options.region or options.trust_anchor_arn.split(":")[3]
    client = boto3.Session(profile_name=options.profile, region_name=region).client("rolesanywhere")
    crl = authority.revocation_list(passphrase(), now)
    if where.is_local(client, where.endpoints(None)):
        print(f"{options.trust_anchor_arn} is told nothing: {IN_AWS_ONLY}")
        return
    print(f"Roles Anywhere refuses what is revoked: {publish(client, options.trust_anchor_arn, options.name, crl)}")


def _trust_anchor(text: str) -> str:
    if not TRUST_ANCHOR.fullmatch(text):
        raise argparse.ArgumentTypeError("it must be the ARN of a trust anchor of IAM Roles Anywhere")
    return text


def _list(authority: Authority, options: argparse.Namespace, now: datetime) -> None:
    del options
    for certificate in sorted(authority.issued(), key=lambda issued: (issued.common_name, issued.not_after)):
        left = (datetime.fromisoformat(certificate.not_after) - now).days
        state = (
            f"revoked {certificate.revoked_at} ({certificate.reason})"
            if certificate.revoked_at
            else f"{left} days left"
            if left >= 0
            else "over"
        )
        print(f"{certificate.common_name:<30} {certificate.serial:<40} {state}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.authority", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("folder", type=Path, help="the authority's folder: keep it off line, and backed up")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text)
        added.set_defaults(run=run)
        return added

    command("init", _init, "make the authority").add_argument("--name", default="Contenitore forwarders")
    issue = command("issue", _issue, "sign a forwarder's request; renew it by issuing again")
    issue.add_argument("common_name", help="the CN that the institution's role asks for (--certificate-cn of infra.onboard)")
    issue.add_argument("--csr", type=Path, required=True, help="the request, made on the forwarder's machine")
    issue.add_argument("--days", type=int, default=DAYS)
    issue.add_argument("--out", type=Path, required=True)
    revoke = command("revoke", _revoke, "revoke by serial number, or all of a common name")
    revoke.add_argument("which", help="a serial number or a common name")
    revoke.add_argument("--reason", default="unspecified", help=", ".join(REASONS))
    command("crl", _crl, "write the revocation list").add_argument("--out", type=Path, required=True)
    published = command("publish", _publish, "import the revocation list into IAM Roles Anywhere")
    published.add_argument("--trust-anchor-arn", required=True, type=_trust_anchor)
    published.add_argument("--name", default="contenitore")
    published.add_argument("--profile", default=os.environ.get("AWS_PROFILE"))
    published.add_argument("--region", help="default: the trust anchor's")
    command("list", _list, "what was issued, and how long it holds")
    return parser


if __name__ == "__main__":
    sys.exit(main())
