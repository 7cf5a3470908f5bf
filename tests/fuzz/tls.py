"""Every door of the forwarder that speaks TLS, scanned by testssl.sh: `python -m tests.fuzz.tls`. Four minutes.

A forwarder is configured as docs/forwarder.md has it, with certificates of an authority of its own: what is found of these (that
nobody else knows the authority, names no host, has no list of what it revoked) is left out. Exit 1 when something else is found,
2 where testssl.sh is not installed (Debian: testssl.sh).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "forwarder"))

from certificates import Authority
from tls_doors import tls_doors

NAMES = {"dicom": "DICOM (`[dicom.tls]`)", "hl7": "HL7 (`[hl7.tls]`)", "web": "pages and DICOMweb (`[web] certificate`)"}
OF_THE_CERTIFICATE = {
    "cert_subjectAltName", "cert_trust", "cert_chain_of_trust", "cert_revocation", "DNS_CAArecord", "cert_expirationStatus",
    "cert_notAfter", "cert_extlifeSpan",
}  # fmt: skip
NOT_FOUND = {"OK", "INFO", "DEBUG", "WARN"}
LEFT = {"HSTS": "not set: a host that a hospital names may have other ports without TLS, which it would close"}
"""What is known, and why it is left."""


def scanned(program: str, port: int, folder: Path) -> list[dict[str, str]]:
    """What testssl.sh tells of a port, by id."""
    told = folder / f"{port}.json"
    command = [
        program,
        "--quiet",
        "--warnings",
        "off",
        "--color",
        "0",
        "--ip",
        "one",
        "--jsonfile",
        str(told),
        f"127.0.0.1:{port}",
    ]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False, timeout=900)
    found: list[dict[str, str]] = json.loads(told.read_text(encoding="utf-8"))
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.tls", description="The forwarder's TLS doors, scanned.")
    parser.parse_args(arguments)
    program = shutil.which("testssl") or shutil.which("testssl.sh")
    if program is None:
        print("testssl.sh is not installed (Debian: testssl.sh)", file=sys.stderr)
        return 2
    wrong = 0
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"testssl\S*\s+(\d[\w.]*)", said)
    print(f"By testssl.sh {version[1] if version else ''}:\n")
    print("| door | checks | found |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        authority = Authority(Path(name) / "tls")
        with tls_doors(Path(name), authority.issue("forwarder"), authority.pem) as ports:
            for door, port in ports.items():
                told = scanned(program, port, Path(name))
                bad = [
                    finding
                    for finding in told
                    if finding["severity"] not in NOT_FOUND and finding["id"] not in OF_THE_CERTIFICATE
                ]
                wrong += sum(finding["id"] not in LEFT for finding in bad)
                texts = [f"{finding['id']}: {LEFT.get(finding['id'], '**' + finding['finding'] + '**')}" for finding in bad]
                print(f"| {NAMES[door]} | {len(told)} | {'; '.join(texts) or 'nothing'} |", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
