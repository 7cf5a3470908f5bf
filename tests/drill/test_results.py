"""The pages of the last full results: by one command each, and each says with which, when, on what, and from which seed."""

from __future__ import annotations

import re

from tests import results
from tests.harness import ROOT

HEAD = re.compile(r"# .+\n\n`python -m [a-z.]+[^`]*`, \d{4}-\d{2}-\d{2},[^\n]* seed (\d+|none): [^\n]+\n\d+ processors, [^\n]+\n")


def test_a_page_tells_command_date_seed_and_machine_and_no_place_on_it() -> None:
    said = "seed 7\n  ledger is in /tmp/drill-x1/state\nevery promise held\n"
    page = results.page("drill", ["--seconds", "600"], said, 0, 640.2, "2 processors, 8 GB.")
    assert HEAD.match(page) and "`python -m drill --seconds 600`" in page and "640 s, seed 7: exit 0." in page
    assert "/tmp" not in page and "ledger is in …" in page
    assert "exit 1" in results.page("drill", [], "1 violations", 1, 5, "2 processors.")


def test_each_page_is_one_that_the_command_writes() -> None:
    pages = sorted((ROOT / "docs" / "results").glob("*.md"))
    for page in pages:
        assert HEAD.match(page.read_text(encoding="utf-8")), page.name
    named = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    assert [name for name in results.COMMANDS if f"results/{name}.md" not in named] == []
    assert {page.stem for page in pages} == set(results.COMMANDS)
