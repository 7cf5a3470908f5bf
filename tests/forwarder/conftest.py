"""Fixtures of the forwarder's tests: a fake archive on a real socket, credentials, invented patients."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom.transport import AssociationSocket

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode: siblings are imported by name

from fakes import ACCESS_KEY, SECRET_KEY, FakeArchive, running_archive

from tests.harness import RunningCity


@pytest.fixture
def archive() -> Iterator[FakeArchive]:
    with running_archive() as fake:
        yield fake


@pytest.fixture
def credentials(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """AWS files with one profile, `san-matteo`, and nothing else of the surroundings."""
    folder = tmp_path_factory.mktemp("aws")
    (folder / "credentials").write_text(f"[san-matteo]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    (folder / "config").write_text("[profile san-matteo]\nregion = eu-south-1\n")
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return folder


@pytest.fixture
def credentials_of_the_city(city: RunningCity, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", city.endpoints["aws_config_file"])
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", city.endpoints["aws_shared_credentials_file"])


@pytest.fixture(scope="session", autouse=True)
def sockets_are_closed() -> Iterator[None]:
    """pynetdicom leaves a socket to the garbage collector when the peer went first, which is a warning here."""

    def shut(self: AssociationSocket) -> None:
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AssociationSocket, "_shutdown_socket", shut)
        yield
