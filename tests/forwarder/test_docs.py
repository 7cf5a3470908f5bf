"""`docs/forwarder.md` tells everything that there is, and nothing that there is not."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from forwarder.__main__ import _parser
from forwarder.archive import retry
from forwarder.config import example as config_example
from forwarder.config import load
from forwarder.dicom import associations, scp, storage
from forwarder.operations import metrics
from forwarder.web.invoke_image_display import SignedRequests

DOCS = (Path(__file__).parents[2] / "docs" / "forwarder.md").read_text()


def test_every_key_of_the_configuration_stands_with_its_meaning():
    documented = dict(re.findall(r"^\| `([a-z0-9_]+(?:\[\])?\.[a-z_.\[\]]+)` \| (.*) \|$", DOCS, re.M))
    assert documented == config_example.keys()


def test_every_metric_stands_with_its_meaning():
    documented = dict(re.findall(r"^\| `(forwarder_\w+)` \| (.*) \|$", DOCS, re.M))
    assert documented == {
        name + ("_total" if kind == "counter" else ""): meaning for name, (kind, meaning, _) in metrics.METRICS.items()
    }


def test_every_status_code_stands_with_its_meaning():
    for codes in (scp.STORE_STATUS, scp.ACTION_STATUS):
        for code, meaning in codes.items():
            assert f"| 0x{code:04X} | {meaning} |" in DOCS


def test_every_command_stands():
    usage = _parser().format_help()
    for command in ("run", "send", "status", "check", "retry", "rejected", "hl7", "example-config"):
        assert command in usage and f"`{command}" in DOCS


def test_the_conformance_statement_is_that_of_the_code():
    assert storage.IMPLEMENTATION_CLASS_UID in DOCS and storage.IMPLEMENTATION_VERSION_NAME in DOCS
    assert f"{associations.MAXIMUM_PDU:,}" in DOCS


def test_each_piece_of_a_configuration_is_one(tmp_path: Path):
    """Every table of TOML that is shown, as `site.toml` over the example, but for the files that it names."""
    blocks = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", DOCS, re.M)
    shown = [block for block in map(textwrap.dedent, blocks) if re.match(r"\s*\[+(?!profile)[a-z]", block)]
    assert len(shown) >= 4
    for block in shown:
        for part in re.split(r"\n(?=\[identity\.oidc\])", block):  # the one or the other
            (tmp_path / "secret").write_text("of at least sixteen characters")
            text = re.sub(r'(\w+_file = )"[^"]*"', rf'\1"{tmp_path}/secret"', part)
            (tmp_path / "forwarder.toml").write_text(config_example.example())
            (tmp_path / "site.toml").write_text(text)
            load(tmp_path / "forwarder.toml")


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_what_a_ris_signs_in_a_shell_opens_the_door(tmp_path: Path):
    (block,) = re.findall(r'(?:^ {4}(?:Q=|S=|echo "http).*\n)+', DOCS, re.M)
    (tmp_path / "ris-secret").write_text("of at least sixteen characters")
    address = subprocess.run(
        ["sh", "-ec", textwrap.dedent(block)], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()
    parts = urlsplit(address)
    assert SignedRequests(str(tmp_path / "ris-secret")).user(parts.path, parts.query.encode()) == "dr.bianchi"


TOLD = {
    "NETWORK": "no network", "THROTTLED": "throttling", "SERVER": "5xx", "PROTOCOL": "a proxy's own page",
    "SKEW": "the clock is wrong", "CREDENTIALS": "credentials expired", "REFUSED": "the archive refuses a signature",
    "EXPIRED_URL": "a presigned address expired", "BUSY": "the store is busy", "INSTANCE": "one instance is refused",
    "ABSENT": "a report's study is not there yet",
}  # fmt: skip


def test_what_may_go_wrong_is_told():
    """Each kind of failure stands in the first column of the table “What goes wrong, and what then”."""
    section = DOCS[DOCS.index("### What goes wrong, and what then") :].split("\n#", 2)[0]
    first_column = "\n".join(row.split("|")[1] for row in section.splitlines() if row.startswith("|"))
    assert set(TOLD) == {failure.name for failure in retry.PLANS}
    assert [text for text in TOLD.values() if text not in first_column] == []
