"""docs/deploy.md and docs/runbook.md name what an operator meets: parameters, alarms, options, outputs to look for."""

import re
from typing import Any

import pytest

from infra import onboard, operate
from infra.package import ROOT
from infra.templates import ACCOUNT, load

GUIDE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")


def test_every_parameter_of_the_city_is_explained(template: dict[str, Any]) -> None:
    for name in template["Parameters"]:
        assert f"`{name}`" in GUIDE
    for name in load(ACCOUNT)["Parameters"]:
        assert f"{name}=" in GUIDE


def test_every_alarm_has_its_answer(template: dict[str, Any]) -> None:
    alarms = [name for name, entry in template["Resources"].items() if entry["Type"] == "AWS::CloudWatch::Alarm"]
    section = RUNBOOK[RUNBOOK.index("## Alarms") :].split("\n#", 1)[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")]
    assert all(len(cells) == 4 and all(cells) for cells in lines), "what it means, what to look at, what to do"
    rows = [cells[0] for cells in lines]
    outputs = {name for cells in lines for name in re.findall(r"output `(\w+)`", " ".join(cells))}
    assert outputs <= set(template["Outputs"])
    explained = []
    for row in rows:  # `A`/`B`/`CAlarm` are the alarms that end as the last one does
        names = re.findall(r"`(\w+)`", row)
        ending = re.search(r"[A-Z][a-z]+Alarm$", names[-1])
        assert ending is not None, row
        explained += [name if name.endswith("Alarm") else name + ending[0] for name in names]
    assert sorted(explained) == sorted(alarms)


def test_every_option_of_onboarding_in_the_guide_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        onboard.main(["--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    used = GUIDE[GUIDE.index("## 4. Onboard") : GUIDE.index("## Alarms")]
    assert set(re.findall(r"--[a-z-]+", used)) <= known


OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", sorted(operate.COMMANDS))
def test_each_command_of_the_operator_and_its_options_are_explained(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        operate.main([command, "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help", "--json"}
    (row,) = [line.split("|")[1] for line in OPERATIONS.splitlines() if line.startswith(f"| `{command}")]
    assert set(re.findall(r"--[a-z-]+", row)) == known


ON_ITS_MACHINE = "runuser -u contenitore -- contenitore-forwarder "


@pytest.mark.parametrize("page", ["onboarding", "first-deployment", "forwarder"])
def test_what_needs_credentials_is_called_as_the_service_has_them(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    typed = [line.strip() for line in text.splitlines() if re.match(r" {4,}.*contenitore-forwarder (check|self-test)\b", line)]
    typed = [line for line in typed if not line.startswith("docker ")]
    assert typed
    assert [line for line in typed if not line.startswith(ON_ITS_MACHINE)] == []


ONBOARDING = (ROOT / "docs" / "onboarding.md").read_text(encoding="utf-8")


def test_what_a_hospitals_it_reads_is_two_pages_and_its_options_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(ONBOARDING.split()) < 1000
    with pytest.raises(SystemExit):
        onboard.main(["--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    commands = re.findall(r"python -m infra\.onboard(?:[^`\n]|\\\n)*", ONBOARDING)
    assert len(commands) == 2
    for command in commands:
        assert set(re.findall(r"--[a-z-]+", command)) <= known
