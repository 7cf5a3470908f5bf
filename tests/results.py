"""The last full result of what proves the promises, as a page: `python -m tests.results NAME [OPTION …] > docs/results/NAME.md`.

Runs the command of that name with the options, tells on standard error what it says meanwhile, and prints the page: the command,
the date, the seed, the machine with its load, and what was said on standard output. Exit as the command's.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime

import psutil

COMMANDS = {
    "drill": ("The drill", "drill"),
    "mutants": ("Promises broken on purpose", "tests.mutants"),
    "survivors": ("Mutations at random", "tests.mutants.sampler"),
    "fuzz": ("Hostile input for the readers", "tests.fuzz"),
    "doors": ("Hostile clients at every door", "tests.fuzz.doors"),
    "openapi": ("Requests made from docs/openapi.yaml", "tests.fuzz.openapi"),
    "tls": ("The forwarder's TLS doors", "tests.fuzz.tls"),
}
"""By the page's name: its title, and the module that is run. `bench.peers --write` writes its own, docs/performance.md."""
_SEED = re.compile(r"\bseed:? (\d+)", re.IGNORECASE)
_NOBODY_ELSES = re.compile(rf"{re.escape(tempfile.gettempdir())}\S*|/\S*/build/fuzz/")


def page(name: str, options: list[str], said: str, status: int, seconds: float, machine: str) -> str:
    """The page. What is said already is Markdown where it begins a table; places on this machine are left out."""
    title, module = COMMANDS[name]
    seed = _SEED.search(said) or _SEED.search(shlex.join(options).replace("--", ""))
    told = _NOBODY_ELSES.sub("…", said).rstrip()
    return "\n".join(
        [
            f"# {title}",
            "",
            f"`{shlex.join(['python', '-m', module, *options])}`, {datetime.now(UTC):%Y-%m-%d}, {seconds:.0f} s,"
            f" seed {seed[1] if seed else 'none'}: exit {status}.",
            machine,
            "",
            *([told] if "\n| " in told else ["```", told, "```"]),
            "",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.results", description="The last full result of a command, as a page.")
    parser.add_argument("name", choices=sorted(COMMANDS))
    parser.add_argument("options", nargs=argparse.REMAINDER, help="of that command")
    chosen = parser.parse_args(arguments)
    load, began = os.getloadavg()[0], time.monotonic()
    command = [sys.executable, "-m", COMMANDS[chosen.name][1], *chosen.options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        lines = []
        for line in running.stdout:
            lines.append(line)
            print(line, end="", file=sys.stderr, flush=True)
    machine = (
        f"{os.cpu_count()} processors, {psutil.virtual_memory().total / 2**30:.0f} GB, Python {platform.python_version()};"
        f" load {load:.1f} before and {os.getloadavg()[0]:.1f} after."
    )
    print(page(chosen.name, chosen.options, "".join(lines), running.returncode, time.monotonic() - began, machine), end="")
    return running.returncode


if __name__ == "__main__":
    sys.exit(main())
