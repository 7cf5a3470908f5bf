"""`docs/forwarder.md` tells everything that there is, and nothing that there is not."""

from __future__ import annotations

import re
from pathlib import Path

from forwarder import config_example
from forwarder.__main__ import _parser
from forwarder.archive import retry
from forwarder.dicom import associations, scp, storage
from forwarder.operations import metrics

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
    for command in ("run", "send", "status", "check", "retry", "rejected", "example-config"):
        assert command in usage and f"`{command}" in DOCS


def test_the_conformance_statement_is_that_of_the_code():
    assert storage.IMPLEMENTATION_CLASS_UID in DOCS and storage.IMPLEMENTATION_VERSION_NAME in DOCS
    assert f"{associations.MAXIMUM_PDU:,}" in DOCS


def test_what_may_go_wrong_is_told():
    assert len(retry.PLANS) == 11  # a new kind of failure belongs into the table “What goes wrong, and what then”
