"""`python -m local up --state DIR [--ports N] [--no-demo]`: the whole city on this machine."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from chalicelib.config import VERSION
from local.city import City, Options
from local.state import State, StateError
from local.terminal import split_output
from local.web.servers import PortTaken


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m local", description="The whole city on one machine.")
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start, and stay up until Ctrl-C")
    up.add_argument("--state", type=Path, required=True, metavar="DIR", help="where everything is kept")
    up.add_argument("--ports", type=int, default=8080, metavar="N", help="API at N, S3 at N+1, page at N+2 (default 8080)")
    up.add_argument("--no-demo", action="store_true", help="do not load the demo's own data")
    up.add_argument(
        "--base-path",
        default="",
        metavar="/PATH",
        help="serve the API below a path, as under a stage address",
    )
    up.add_argument("--no-forwarders", action="store_true", help="the cloud only, no forwarder beside each hospital")
    up.add_argument("--pacs", action="store_true", help="a PACS beside the demo's two hospitals, also without the demo")
    up.add_argument(
        "--member-accounts",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="ACCOUNTS",
        help="AWS accounts whose roles may call the API, as the city's parameter of this name; separated by commas",
    )
    up.add_argument("--app", default="app", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if not 0 <= chosen.ports <= 65533:
        parser.error("--ports must be between 0 and 65533")
    forwarders = not chosen.no_forwarders and chosen.app == "app"
    demo = forwarders and not chosen.no_demo
    pacs = demo or (forwarders and chosen.pacs)
    options = Options(chosen.ports, chosen.app, chosen.base_path, forwarders, pacs, demo, chosen.member_accounts)
    return _up(chosen.state.resolve(), options, with_demo=not chosen.no_demo)


def _heard_already(_signal: int, _frame: FrameType | None) -> None:
    """And not SIG_IGN: one that came together with the first would be told on the terminal as ignored."""


class _Ended(BaseException):
    """SIGTERM or SIGINT, wherever the main thread is just then."""


def _up(directory: Path, options: Options, with_demo: bool) -> int:
    """Run a city until a signal ends it; the exit code."""
    _raise_file_limit()

    ended = False

    def end(_signal: int, _frame: FrameType | None) -> None:
        nonlocal ended
        ended = True
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _heard_already)
        raise _Ended

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        city = City(options, State(directory), tell=_tell)
        try:
            endpoints = city.start()
            _announce(city, endpoints, directory)
            if with_demo:
                _run_demo(endpoints, directory)
            city.publish(endpoints)
            while not ended:
                time.sleep(1.0)  # not signal.pause: a signal that comes right before it would not end it
        except BaseException as error:
            if not ended:
                raise
            raise _Ended from error  # what a signal breaks off may fail by that: a lock that was just being let go, for instance
        finally:
            city.stop()
    except (StateError, PortTaken) as error:
        print(f"The local city did not start. {error}", file=sys.stderr)
        return 1
    except _Ended:
        pass
    _tell("The city has stopped.")
    return 0


def _tell(text: str) -> None:
    print(f"  {text}", flush=True)


def _announce(city: City, endpoints: dict[str, Any], state: Path) -> None:
    print()
    _tell(f"The city is up.   API {endpoints['api']}   page {endpoints['viewer']}   S3 {endpoints['s3']}")
    _tell(f"Profiles: {', '.join(city.profiles.institutions())}  operator, administrator   in {endpoints['aws_config_file']}")
    _tell(f"Addresses in {state / 'endpoints.json'}, logs in {state / 'logs'}\n")


def _run_demo(endpoints: dict[str, Any], state: Path) -> None:
    """The demo. One that fails says so and leaves the city up."""
    from local.demo import story  # brings pydicom, which a city without it does not need

    try:
        story.run(endpoints, state)
    except Exception as error:
        logging.getLogger("city").exception("the demo failed")
        _tell(f"The demo failed: {type(error).__name__}. The city stays up; see {state / 'logs' / 'city.log'}.")


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(65536, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    with split_output():
        code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a long poll that still sleeps in a thread of the functions must not hold up the end
