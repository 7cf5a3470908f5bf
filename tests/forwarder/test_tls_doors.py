"""Every door that speaks TLS: none older than 1.2, forward secrecy, no renegotiation, certificates where they are due."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from certificates import Authority, Pair, client_context
from tls_doors import tls_doors

from forwarder import tls
from forwarder.config import TlsConfig

pytestmark = pytest.mark.usefixtures("credentials")
MUTUAL = ("dicom", "hl7")
"""The doors at which both ends show certificates; people's browsers show none."""


@dataclass
class Doors:
    authority: Authority
    known: Pair
    ports: dict[str, int]

    def spoken(self, door: str, context: ssl.SSLContext) -> str:
        """The suite and version that are agreed upon, once the door has answered or waits. Raises ssl.SSLError, OSError."""
        with socket.create_connection(("127.0.0.1", self.ports[door]), 10) as plain, context.wrap_socket(plain) as connection:
            connection.settimeout(0.3)
            try:
                if not connection.recv(1) and door in MUTUAL:
                    raise ssl.SSLError("closed")
            except TimeoutError:
                pass  # it waits for us to speak
            suite = connection.cipher()
            assert suite is not None
            return f"{suite[0]} {connection.version()}"


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    folder = tmp_path_factory.mktemp("doors")
    authority = Authority(folder / "tls")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "x")
        with tls_doors(folder, authority.issue("forwarder"), authority.pem) as ports:
            yield Doors(authority, authority.issue("known"), ports)


def old(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    """The same, which wants that version and nothing else, and would take whatever suite there is."""
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("door", ["dicom", "hl7", "web"])
def test_a_door_speaks_tls_1_2_and_1_3_with_forward_secrecy_and_nothing_weaker(doors: Doors, door: str) -> None:
    def context() -> ssl.SSLContext:
        return client_context(doors.authority, doors.known)

    assert doors.spoken(door, context()).endswith("TLSv1.3")
    newest = context()
    newest.maximum_version = ssl.TLSVersion.TLSv1_2
    suite = doors.spoken(door, newest)
    assert suite.startswith(("ECDHE-ECDSA-AES", "ECDHE-ECDSA-CHACHA20")) and suite.endswith("TLSv1.2"), suite
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            doors.spoken(door, old(context(), version))
    weak = context()
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("ALL:COMPLEMENTOFALL:!ECDHE+AESGCM:!ECDHE+CHACHA20:!DHE+AESGCM:@SECLEVEL=0")  # all that is not spoken
    with pytest.raises((ssl.SSLError, ConnectionError)):
        doors.spoken(door, weak)


@pytest.mark.parametrize("door", MUTUAL)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_ends_show_certificates_of_the_authority(doors: Doors, door: str, version: ssl.TLSVersion, tmp_path: Path) -> None:
    for pair in (None, Authority(tmp_path, "stranger").issue("known")):
        context = client_context(doors.authority, pair)
        context.maximum_version = version
        with pytest.raises((ssl.SSLError, ConnectionError)):
            doors.spoken(door, context)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("door", ["dicom", "hl7", "web"])
def test_nobody_renegotiates(doors: Doors, door: str) -> None:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{doors.ports[door]}", "-tls1_2"]
    command += ["-cert", str(doors.known.certificate), "-key", str(doors.known.key)]
    told = subprocess.run(command, input=b"R\n", capture_output=True, timeout=240, check=False)
    assert b"no renegotiation" in told.stderr


def test_renegotiation_is_off_whatever_openssl_python_was_built_with(doors: Doors) -> None:
    """OpenSSL 3 refuses it by itself; older ones, with which Python 3.11 may be built, do not."""
    pages = tls.https_context(str(doors.known.certificate), str(doors.known.key))
    both = TlsConfig(2762, str(doors.known.certificate), str(doors.known.key), str(doors.authority.pem))
    for context in (pages, tls.tls_context(both, server=True)):
        assert context._context().options & ssl.OP_NO_RENEGOTIATION  # type: ignore[attr-defined]
