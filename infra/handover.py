"""What a hospital's IT is handed when it joins: certificate, credentials, configuration, unit, firewall list, report.

A folder that is copied to the forwarder's machine as it is. Nothing in it is secret: the private key was made on that machine,
and never leaves it. Made again it is the same, but for a certificate that has less than a month left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from forwarder.config.example import example
from infra.authority import DAYS, Authority, UnusableRequest, proven_key

UNIT = Path(__file__).parent.parent / "forwarder" / "deploy" / "contenitore-forwarder.service"
PLACE = "/etc/contenitore"
HELPER = "/opt/contenitore/bin/aws_signing_helper"
RENEWED_WITH = timedelta(days=30)
"""A certificate that holds for less is issued anew."""


@dataclass(frozen=True)
class Membership:
    """What was agreed, and what the stacks say: from it all files follow. `adt_codes`: by the code that this hospital's own ADT
    writes, the institution meant."""

    institution: str
    name: str
    issuer_oid: str
    api: str
    region: str
    bucket: str
    role_arn: str
    ae_titles: tuple[str, ...] = ()
    issuer_names: tuple[str, ...] = ()
    adt_codes: Mapping[str, str] = field(default_factory=dict)
    trust_anchor_arn: str = ""
    profile_arn: str = ""
    common_name: str = ""


def certificate(authority: Authority, common_name: str, request: bytes, passphrase: bytes, now: datetime) -> x509.Certificate:
    """The certificate of a request: the one that was issued for its key and holds for a month still, else a new one.

    Raises UnusableRequest.
    """
    key = proven_key(request)
    for certificate in authority.issued():
        if certificate.common_name == common_name and certificate.holds(now + RENEWED_WITH):
            known = authority.certificate_of(certificate)
            if _encoded(known.public_key()) == _encoded(key):
                return known
    return authority.issue(common_name, request, DAYS, passphrase, now)


def _encoded(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded


def write(folder: Path, member: Membership, issued: x509.Certificate | None) -> list[Path]:
    """Write the folder; answers its files. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "forwarder.toml": configuration(member),
        "aws.ini": credentials(member),
        "firewall.txt": firewall(member),
        "contenitore-forwarder.service": UNIT.read_text(encoding="utf-8"),
        "report.txt": report(member, issued),
    }
    if issued is not None:
        files["forwarder.pem"] = issued.public_bytes(serialization.Encoding.PEM).decode()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in sorted(files)]


def configuration(member: Membership) -> str:
    """`forwarder.toml`: all that the city knows; what only the hospital knows stands there as a comment."""
    values: dict[str, object] = {
        "archive.api": member.api,
        "archive.profile": member.institution,
        "archive.region": member.region,
    }
    if member.ae_titles:
        values["dicom.ae_title"] = member.ae_titles[0]
    if member.adt_codes:
        values["hl7.adt.destinations"] = dict(member.adt_codes)
    return example(values)


def credentials(member: Membership) -> str:
    """`aws.ini`: how the certificate is exchanged for an hour's credentials of the institution's role.

    By a proxy where the environment names one (HTTPS_PROXY), which the helper heeds with `--with-proxy` only.
    """
    lines = [f"[profile {member.institution}]", f"region = {member.region}"]
    if member.trust_anchor_arn:
        lines.append(
            f"credential_process = {HELPER} credential-process --with-proxy --certificate {PLACE}/forwarder.pem"
            f" --private-key {PLACE}/forwarder.key --trust-anchor-arn {member.trust_anchor_arn}"
            f" --profile-arn {member.profile_arn} --role-arn {member.role_arn}"
        )
    else:
        lines += [f"role_arn = {member.role_arn}", "# source_profile = credentials of your own account that may assume this role"]
    return "\n".join(lines) + "\n"


def firewall(member: Membership) -> str:
    """`firewall.txt`: what is to be let through, in both languages."""
    api = urlsplit(member.api)
    out = [f"{api.hostname}:{api.port or 443}", f"{member.bucket}.s3.{member.region}.amazonaws.com:443"]
    gives_credentials = "rolesanywhere" if member.trust_anchor_arn else "sts"
    out.append(f"{gives_credentials}.{member.region}.amazonaws.com:443")
    listed = "\n".join(f"    TCP {place}" for place in out)
    return (
        f"In uscita, dalla macchina del forwarder / out, from the forwarder's machine:\n{listed}\n"
        "    il PACS / the PACS ([[peers]], [pacs])\n\n"
        "In entrata, solo dalla rete dell'ospedale / in, from the hospital's own network only:\n"
        "    TCP 11112 DICOM (2762 TLS), TCP 2575 HL7, TCP 8104 la pagina / the page\n\n"
        "Nulla da Internet / nothing from the internet.\n"
    )


def report(member: Membership, issued: x509.Certificate | None) -> str:
    """`report.txt`: what was set up, for both sides to keep; what each has still to do."""
    until = f"{issued.not_valid_after_utc:%Y-%m-%d}, {issued.serial_number:x}" if issued is not None else "—"
    codes = ", ".join(f"{code} → {to}" for code, to in sorted(member.adt_codes.items())) or "—"
    rows = [
        ("ospedale / hospital", f"{member.name} ({member.institution})"),
        ("numerazione dei pazienti / patient numbers (OID)", member.issuer_oid),
        ("nomi della numerazione / names of that numbering", ", ".join(member.issuer_names) or "—"),
        ("AE title", ", ".join(member.ae_titles) or "—"),
        ("codici ADT / ADT codes", codes),
        ("archivio / archive", member.api),
        ("ruolo / role", member.role_arn),
        ("certificato / certificate (CN)", member.common_name or "—"),
        ("valido fino al / valid until, n.", until),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {text}" for name, text in rows]
    return "\n".join(
        [
            f"Contenitore: {member.name}, {datetime.now(UTC):%Y-%m-%d}",
            "",
            *lines,
            "",
            "L'ospedale / the hospital:",
            f"  1. forwarder.toml, aws.ini, forwarder.pem → {PLACE} (forwarder.key è già lì / is there already)",
            "  2. firewall.txt",
            "  3. runuser -u contenitore -- contenitore-forwarder self-test --report /tmp/self-test.txt",
            "  4. il PACS invia a / the PACS sends to:"
            f" {member.ae_titles[0] if member.ae_titles else 'CONTENITORE'}, porta / port 11112",
            "",
            "La città / the city:",
            f"  1. python -m infra.operate forwarders  ({member.institution}: alive)",
            "  2. negli altri ospedali / in the other hospitals: hl7.adt.destinations,"
            f" il loro codice / their code = {member.institution}",
            "",
        ]
    )


def revoke(authority: Authority, common_name: str, passphrase: bytes, now: datetime) -> tuple[int, bytes]:
    """(how many certificates of a common name were revoked, the list that says so). Raises UnusableRequest but for none."""
    try:
        revoked = authority.revoke(common_name, "cessationOfOperation", now)
    except UnusableRequest:
        revoked = []
    return len(revoked), authority.revocation_list(passphrase, now)
