"""docs/promises.md, written from the table: `python -m tests.mutants.page > docs/promises.md`."""

from __future__ import annotations

from tests.mutants.table import MUTANTS, PROMISES

DRILLED = {
    1: "every image and report that a forwarder acknowledged is in the archive when everything has come to rest",
    2: "each is downloaded by its address and held against what the modality sent, pixel for pixel, and byte for byte against its SHA-256",
    3: "other pixels are sent under a UID that is indexed; the first stand",
    4: "nothing is there twice, nothing that nobody sent, one Idempotency-Key opens one transfer, the last version of a report is the newest",
    5: "every reading and every search is held against the rules of docs/sharing.md at its moment; a number that two hospitals gave finds one patient",
    6: "readings after the end of a transfer was acknowledged; the life of each presigned address",
    7: "every refusal is that of an absent study; feeds, searches and lists name nothing that an objection hides",
    8: "all chains are walked again from docs/audit.md; every request that was answered stands in one",
    9: "a hospital offers rubbish in masses meanwhile; each is rejected, and nobody else notices",
    10: "the forwarders' counts at every look, and the study's number of instances against its list",
    11: "what each PACS was sent: by whose transfer, under whose number, with which pixels, once; what it lacks",
    12: "a picture is drawn anew from the pixels that were sent (PS3.3 C.11.2.1.3.2)",
    13: "bytes that the functions read for the last 40 slices of a study against those for the second 40",
}


def text() -> str:
    """The page."""
    lines = [
        "# The promises, and what would notice if one were broken",
        "",
        "Each promise has tests of its own, a part in the drill, and deliberately broken builds that its tests must catch. This page is",
        "written by `python -m tests.mutants.page` from `tests/mutants/table.py`; a test holds the two against each other, and that what a",
        "mutant changes still stands in the code.",
        "",
        "* `make drill SECONDS=600`: the whole city under load (forwarders, PACS, registrations, RIS, readers) while a seeded schedule breaks",
        "  it: functions die between two AWS calls, half of all calls are throttled, answers are lost after the write, events are lost, late,",
        "  doubled and in disorder, forwarders and city are killed, disks are full, read-only or slow, clocks 20 minutes off, lines cut, slow",
        "  and reset, credentials run out, PACS are full, slow, deaf or dead, a hospital floods, dead letters are redriven twice, and transfers",
        "  and objections come and go. The checker (`drill/checker/`) imports nothing of the product: it knows what was acknowledged to whom",
        "  from its own ledger, and looks through the doors. `--seed` plays a drill again, `--reduce` looks for fewer faults that break it.",
        "  A short form is part of `make test`. Events are late by a third of the drill, ten minutes at the most, the table's stream by 4 s.",
        "* `make survivors`: mutations at random, by seed, in the rules and the forwarder's spool (`tests/mutants/sampler.py`).",
        "* `make mutants`: breaks each promise on purpose in a copy, and lists which were caught.",
        "",
        "The last full results, with date, seed, command and machine, stand in [results/](results/), each put there by",
        "`python -m tests.results NAME [OPTION …] > docs/results/NAME.md`: [drill](results/drill.md), [mutants](results/mutants.md),",
        "[survivors](results/survivors.md), hostile input for the readers ([fuzz](results/fuzz.md)), at the [doors](results/doors.md), from the",
        "API's description ([openapi](results/openapi.md)), the [TLS](results/tls.md) doors. Those of `make bench` are in",
        "[performance.md](performance.md).",
        "",
    ]
    for number, promise in PROMISES.items():
        lines += [
            f"## {number}. {promise}",
            "",
            f"In the drill: {DRILLED[number]}.",
            "",
            "| broken on purpose | in | caught by |",
            "|---|---|---|",
        ]
        for mutant in MUTANTS:
            if mutant.promise == number:
                tests = " ".join(mutant.tests).replace("|", "\\|")
                lines.append(f"| {mutant.name} | `{mutant.file}` | `{tests}` |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    print(text(), end="")
