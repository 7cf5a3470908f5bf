"""`python -m local up --state DIR [--ports N] [--no-demo]`: the whole city on this machine."""

from __future__ import annotations

import argparse
import importlib.util
import resource
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from local.city import City, Options
from local.httpd import PortTaken
from local.state import StateError
from local.terminal import split_output


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m local", description="The whole city on one machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start, and stay up until Ctrl-C")
    up.add_argument("--state", type=Path, required=True, metavar="DIR", help="where everything is kept")
    up.add_argument(
        "--ports", type=int, default=8080, metavar="N", help="API at N, S3 at N+1, page at N+2 (default 8080)"
    )
    up.add_argument("--no-demo", action="store_true", help="do not load the demo's own data")
    up.add_argument(
        "--base-path",
        default="",
        metavar="/PATH",
        help="serve the API below a path, as under a stage address",
    )
    up.add_argument("--app", default="app", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if not 0 <= chosen.ports <= 65533:
        parser.error("--ports must be between 0 and 65533")
    return _up(Options(chosen.state, chosen.ports, chosen.app, chosen.base_path), demo=not chosen.no_demo)


def _up(options: Options, demo: bool) -> int:
    _raise_file_limit()
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    city = City(options, tell=lambda text: print(f"  {text}", flush=True))
    try:
        endpoints = city.start()
    except (StateError, PortTaken) as error:
        print(f"The local city did not start. {error}", file=sys.stderr)
        return 1
    print(f"\n  The city is up.   API {endpoints['api']}   page {endpoints['viewer']}   S3 {endpoints['s3']}")
    print(
        f"  Profiles: {', '.join(city.profiles.institutions())}, operator   (AWS_CONFIG_FILE={endpoints['aws_config_file']})"
    )
    print(
        f"  Addresses in {options.state / 'endpoints.json'}, logs in {options.state / 'logs'}\n", flush=True
    )
    if (
        demo
        and not stop.is_set()
        and not (options.state / "demo.json").exists()
        and importlib.util.find_spec("local.demo")
    ):
        demo_module = importlib.import_module("local.demo")
        demo_module.run(endpoints, options.state)
    while not stop.wait(3600):
        pass
    print("  The city stops.", flush=True)
    city.stop()
    return 0


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(65536, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    with split_output():
        code = main()
    sys.stdout.flush()
    sys.exit(code)
