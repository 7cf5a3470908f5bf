"""DICOM in over TLS: who shows which certificate, and what is spoken."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from certificates import Authority, client_context
from hospital import dcmtk, hospital, store
from images import ct_slice, write_ct
from senders import NOWHERE, tls_values

from forwarder.service import running
from local.processes import free_port

pytestmark = pytest.mark.usefixtures("credentials")


class TestTls:
    @pytest.fixture
    def secure(self, tmp_path: Path):
        authority = Authority(tmp_path / "tls")
        port = free_port()
        place = hospital(tmp_path, NOWHERE, **tls_values(authority, authority.issue("forwarder"), port))
        with running(place.config()):
            yield place, authority, port

    def test_both_ends_show_a_certificate(self, secure):
        place, authority, port = secure
        context = client_context(authority, authority.issue("pacs"))
        assert store(place, [ct_slice()], port=port, tls=(context, "x")) == [0x0000]
        assert place.state()["certificate_days"] == 60

    def test_without_a_certificate_nobody_gets_in(self, secure):
        place, authority, port = secure
        assert store(place, [ct_slice()], port=port, tls=(client_context(authority, None), "x")) == [None]

    def test_a_strangers_certificate_does_not_count(self, secure, tmp_path):
        place, authority, port = secure
        stranger = Authority(tmp_path / "other", "stranger").issue("pacs")
        assert store(place, [ct_slice()], port=port, tls=(client_context(authority, stranger), "x")) == [None]

    def test_a_renewed_certificate_counts_from_the_next_connection_on(self, secure):
        place, authority, port = secure
        old, new = place.values["dicom.tls.certificate"], authority.issue("renewed", days=90)

        def shown() -> bytes | None:
            context = client_context(authority, authority.issue("pacs"))
            with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as tls:
                return tls.getpeercert(binary_form=True)

        first = shown()
        Path(old).write_bytes(b"half of a certif")
        assert shown() == first
        Path(place.values["dicom.tls.key"]).write_bytes(Path(new.key).read_bytes())
        Path(old).write_bytes(Path(new.certificate).read_bytes())
        assert shown() == ssl.PEM_cert_to_DER_cert(Path(new.certificate).read_text())

    def test_nothing_older_than_tls_1_2_is_spoken(self, secure):
        _, authority, port = secure
        context = client_context(authority, authority.issue("pacs"))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AES128-SHA")  # no forward secrecy
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("127.0.0.1", port)) as plain, pytest.raises(ssl.SSLError):
            context.wrap_socket(plain)

    def test_plain_dicom_on_the_tls_port_is_refused(self, secure):
        place, _, port = secure
        assert store(place, [ct_slice()], port=port) == [None]

    @pytest.mark.skipif(not dcmtk("storescu"), reason="DCMTK's storescu is not installed")
    def test_dcmtk_sends_over_tls(self, secure, tmp_path):
        place, authority, port = secure
        pair = authority.issue("dcmtk")
        (path,) = write_ct(tmp_path / "files", 1)
        command = [
            "/usr/bin/storescu",
            "+tls",
            str(pair.key),
            str(pair.certificate),
            "+cf",
            str(authority.pem),
        ]
        subprocess.run([*command, "127.0.0.1", str(port), str(path)], check=True, timeout=240)
        assert place.state()["received"] == 1
