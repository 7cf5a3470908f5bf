"""Every command that README and docs tell: a test runs it, or it is said why none can; it takes the options that are shown."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"(?:python3? -m |contenitore-forwarder |\bmake )[^`\n|;)#]*")

RUN_BY = {
    "make run": "tests/integration/local/test_demo.py",
    "make test": "by CI itself",
    "make thorough": "by hand: it is make test with what takes long",
    "make check": "by CI itself",
    "make setup": "by CI itself: what make test begins with",
    "make package": "tests/infra/test_package.py",
    "make viewer": "by hand: it needs Node.js and the registry",
    "make drill": "tests/drill/test_drill.py",
    "make mutants": "by hand: half an hour; tests/mutants/test_mutants.py holds its table",
    "make survivors": "by hand: it takes what one has time for",
    "make fuzz": "tests/fuzz/test_fuzz.py",
    "make bench": "by hand: it measures",
    "make lock": "tests/infra/test_locks.py",
    "make image": "tests/infra/test_image.py",
    "make reproducible": "by CI itself",
    "make vulnerabilities": "by hand: it needs the registry; tests/infra/test_vulnerabilities.py reads its answers",
    "local up": "tests/integration/local/test_demo.py",
    "drill": "tests/drill/test_drill.py",
    "forwarder": "tests/forwarder/test_run.py",
    "forwarder run": "tests/forwarder/test_run.py",
    "forwarder send": "tests/forwarder/test_send.py",
    "forwarder status": "tests/forwarder/test_admin.py",
    "forwarder check": "tests/forwarder/test_admin.py",
    "forwarder retry": "tests/forwarder/test_admin.py",
    "forwarder rejected": "tests/forwarder/test_admin.py",
    "forwarder example-config": "tests/forwarder/test_docs.py",
    "forwarder export": "tests/forwarder/test_export.py",
    "forwarder hl7": "tests/forwarder/test_adt_door.py",
    "forwarder deliveries": "tests/forwarder/test_deliver_recalls.py",
    "forwarder recalls": "tests/forwarder/test_deliver_recalls.py",
    "forwarder.build": "tests/infra/test_installed.py",
    "infra.operate": "tests/integration/test_operate.py",
    "infra.audit verify": "tests/unit/audit/test_verify_command.py",
    "infra.audit export": "tests/unit/audit/test_verify_command.py",
    "infra.audit restored": "tests/unit/audit/test_verify_command.py",
    "infra.authority": "tests/infra/test_authority.py",
    "infra.onboard": "tests/infra/test_onboard_in_the_local_city.py",
    "infra.package": "tests/infra/test_package.py",
    "infra.page": "tests/infra/test_page.py",
    "infra.cost": "tests/infra/test_cost.py",
    "infra.capacity": "tests/infra/test_cost.py",
    "infra.pixels": "AWS only: it publishes the function that decodes",
    "tests.mutants": "tests/mutants/test_mutants.py",
    "tests.mutants.page": "tests/mutants/test_mutants.py",
    "tests.mutants.sampler": "by hand: as make survivors",
    "tests.fuzz": "tests/fuzz/test_fuzz.py",
    "tests.fuzz.openapi": "tests/fuzz/test_openapi.py",
    "tests.results": "tests/drill/test_results.py",
    "tests.fuzz.tls": "tests/forwarder/test_tls_doors.py",
    "tests.fuzz.doors": "tests/integration/door/test_hostile_clients.py",
    "bench": "by hand: it measures",
    "venv": "Python's own",
    "json.tool": "tests/infra/test_package.py",
}
"""By what a command begins with, the longest that fits: the test that runs what it does, or why none does."""

INSTALLED = "tests/infra/test_installed.py"
OTHERS = {
    "aws": "AWS only: its own command; what it deploys is held by tests/infra",
    'curl "$(aws': "AWS only: the address is that of the deployed API",
    "curl": "tests/integration/test_ordinary_client.py",
    "docker": "by hand: docs/forwarder.md says with what it was tried",
    "echo \"http": "tests/forwarder/test_docs.py",
    "echo '{\"api\"": "AWS only: it configures the published site",
    "export AWS_": "tests/integration/test_ordinary_client.py",
    **dict.fromkeys(("chmod", "chown", "cp", "install -d", "ln -s", "runuser", "systemctl", "useradd"), INSTALLED),
    **dict.fromkeys(("install -m", "openssl req", "rm /etc/contenitore"), "tests/infra/test_authority.py"),
    **dict.fromkeys(("http-request", "location /", "map ", "reverse_proxy"), "tests/integration/door/test_proxies.py"),
    "pybabel": "by hand: it writes texts anew, and tests (test_words.py, test_staff_texts.py) fail when one is behind",
}  # fmt: skip
"""The same of programs that are not ours, by how their lines in the blocks of a shell begin."""


def commands() -> dict[str, set[str]]:
    """Each command as it begins in RUN_BY's terms (program and words before options), with the options that are shown."""
    found: dict[str, set[str]] = {}
    for page in PAGES:
        for text in COMMAND.findall(page.read_text(encoding="utf-8")):
            words = re.sub(r"^python3? -m ", "", text.replace("contenitore-forwarder ", "forwarder ")).split()
            if "…" in words[0]:
                continue
            plain = [word for word in words if re.fullmatch(r"[a-z][a-z0-9._-]*", word)]
            name = " ".join(words[: 2 if words[0] == "make" or (len(plain) > 1 and words[1:2] == plain[1:2]) else 1])
            if words[0] == "make" and len(words) > 1 and not re.search(rf"^{re.escape(words[1])}:", MAKEFILE, re.MULTILINE):
                continue  # a sentence with the verb
            found.setdefault(name, set()).update(re.findall(r"--[a-z][a-z-]+", text))
    return found


MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def run_by(name: str) -> str | None:
    for known in sorted(RUN_BY, key=len, reverse=True):
        if name == known or name.startswith((f"{known} ", f"{known}.")):
            return RUN_BY[known]
    return None


def test_every_command_of_the_docs_is_run_by_a_test_or_says_why_not() -> None:
    assert len(commands()) > 25
    assert sorted(name for name in commands() if run_by(name) is None) == []
    assert [told for told in RUN_BY.values() if told.startswith("tests/") and not (ROOT / told).exists()] == []
    targets = {name for name in RUN_BY if name.startswith("make ")}
    assert [name for name in targets if not re.search(rf"^{name[5:]}:", MAKEFILE, re.MULTILINE)] == []


def lines_of_a_shell() -> dict[str, set[str]]:
    """What the indented blocks have of other programs than ours, by page: lines that begin with a word and are no table, no
    drawing, no TOML, and not the rest of the line before."""
    found: dict[str, set[str]] = {}
    for page in PAGES:
        before = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            text = re.sub(r"^(?: {4}| {7})([a-z].*)$", r"\1", line)
            rest = before.endswith("\\")
            before = line
            if text == line or rest or COMMAND.match(text) or not re.match(r"[a-z][a-z0-9_-]* \S", text):
                continue
            if not re.match(r"[\w.]+ = |.*[│─◀▶┌]| *\w+( {3,}| = )", text) and " = " not in text:
                found.setdefault(page.name, set()).add(text)
    return found


def test_every_line_for_a_shell_is_run_by_a_test_or_says_why_not() -> None:
    lines = [(page, line) for page, lines in lines_of_a_shell().items() for line in lines]
    assert len(lines) > 20
    assert sorted((page, line) for page, line in lines if not line.startswith(tuple(OTHERS))) == []
    assert [begins for begins in OTHERS if not any(line.startswith(begins) for _, line in lines)] == []
    assert [told for told in OTHERS.values() if told.startswith("tests/") and not (ROOT / told).exists()] == []


def helped(name: str) -> str:
    """What a command says of itself, and each of its own commands whose name it says."""
    command = [sys.executable, "-m", *name.split()]
    told = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False).stdout
    inner = re.search(r"\{([a-z,-]+)\}", told) if " " not in name else None
    return told + "".join(helped(f"{name} {below}") for below in (inner[1].split(",") if inner else ()))


@pytest.mark.slow
def test_commands_take_the_options_that_the_docs_show() -> None:
    asked: dict[str, set[str]] = {}
    for name, options in commands().items():
        if (
            options and not name.startswith(("make", "venv", "json.tool", "bench", "infra.authority")) and name != "forwarder"
        ):  # behind other words
            asked.setdefault(name.split()[0], set()).update(options)
    assert len(asked) > 5
    with ThreadPoolExecutor(2) as pool:
        told = dict(zip(asked, pool.map(helped, asked), strict=True))
    missing = {
        name: left for name, options in asked.items() if (left := {option for option in options if option not in told[name]})
    }
    assert missing == {}
