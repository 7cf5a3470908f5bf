"""What is known against what is locked, and what is not known: silence of the index is no acquittal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra import vulnerabilities

GOOD = {"name": "six", "version": "1.17.0", "vulns": []}
BAD = {"name": "pillow", "version": "9.0.0", "vulns": [{"id": "PYSEC-2022-8", "fix_versions": ["9.0.1"], "aliases": []},
                                                       {"id": "PYSEC-2022-9", "fix_versions": [], "aliases": []}]}  # fmt: skip
UNKNOWN = {"name": "numpy", "skip_reason": "Dependency not found on PyPI and could not be audited: numpy (2.5.5)"}


@pytest.mark.parametrize(
    ("entries", "code", "words"),
    [
        ([GOOD], 0, ["1 packages, none with a known vulnerability"]),
        ([GOOD, BAD], 1, ["pillow 9.0.0: PYSEC-2022-8, mended in 9.0.1", "pillow 9.0.0: PYSEC-2022-9, mended in no version yet"]),
        ([GOOD, UNKNOWN], 2, ["no data of 1 of 2 packages: they were not audited (numpy …)"]),
        ([BAD, UNKNOWN], 1, ["PYSEC-2022-8, mended", "PYSEC-2022-9, mended", "no data of 1 of 2"]),
    ],
)
def test_what_an_audit_says_and_what_it_does_not_is_told(entries: list[object], code: int, words: list[str]) -> None:
    report = json.dumps({"dependencies": entries, "fixes": []})
    found, lines = vulnerabilities.told("a.txt", vulnerabilities.audited(report))
    assert found == code
    assert len(lines) == len(words) and all(word in line for word, line in zip(words, lines, strict=True))


def test_an_audit_that_could_not_ask_is_no_acquittal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    auditor = tmp_path / "pip-audit"
    auditor.write_text("#!/bin/sh\necho 'no route to host' >&2\nexit 1\n")
    auditor.chmod(0o755)
    assert vulnerabilities.main(["--auditor", str(auditor)]) == 2
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["requirements.txt", "requirements/pixels.txt",
                                                     "forwarder/deploy/requirements.txt", "requirements/dev.txt"]  # fmt: skip
    assert all("not audited: there is no way to the advisories from here" in line for line in said)
