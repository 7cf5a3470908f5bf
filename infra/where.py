"""Which city a command of the operator's is for: in AWS, or the local one, found by its AWS files or `--endpoints`."""

import argparse
import os
from pathlib import Path
from typing import Any

import boto3
import botocore.session

from infra import command_line, stacks
from infra.templates import CITY_STACK

REGION = "eu-south-1"
_ENDPOINTS = "a local city's endpoints.json"
_NEEDED = ("aws_config_file", "aws_shared_credentials_file")


class NoSuchCity(Exception):
    """There is no such city where one looked; the message names the option."""


def add_arguments(parser: argparse.ArgumentParser, *, again: bool = False) -> "argparse._ArgumentGroup":
    """The options that say where; answers their group, for more of them. `again`: behind a command, where they may stand too."""
    where = parser.add_argument_group("where")
    options: dict[str, dict[str, Any]] = {
        "--city": {"default": CITY_STACK, "help": f"the city's stack (default: {CITY_STACK})"},
        "--endpoints": {
            "type": Path,
            "help": "a local city's endpoints.json: its AWS files and its API (default: the one beside AWS_CONFIG_FILE)",
        },
        "--profile": {
            "default": os.environ.get("AWS_PROFILE", "operator"),
            "help": "the operator's AWS profile (default: AWS_PROFILE, else operator)",
        },
        "--region": {"help": f"the city's region (default: the profile's, else {REGION})"},
    }
    kept_from_before: dict[str, Any] = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS} if again else {}
    for name, option in options.items():
        where.add_argument(name, **(option | kept_from_before))
    return where


def endpoints(given: Path | None) -> dict[str, str]:
    """A local city's addresses: from the file given, else from the one beside its AWS files, if there is one.

    Raises UnusableFile, OSError.
    """
    if given is None:
        beside = Path(os.environ.get("AWS_CONFIG_FILE", os.devnull)).with_name("endpoints.json")
        if not beside.is_file():
            return {}
        given = beside
    found: dict[str, str] = command_line.json_file(given, _ENDPOINTS)
    if lacking := [name for name in _NEEDED if not isinstance(found.get(name), str)]:
        raise command_line.UnusableFile(f"{given} is not {_ENDPOINTS}: it does not say {', '.join(lacking)}")
    return found


def is_local(client: Any, addresses: dict[str, str]) -> bool:
    """Whether a client's calls go to a local city's emulated cloud, which has every service at one address."""
    return bool(client.meta.endpoint_url == addresses.get("s3"))


def session(options: argparse.Namespace, addresses: dict[str, str]) -> Any:
    """A session of the operator's profile, from the city's own AWS files where it has them."""
    core = botocore.session.Session(profile=options.profile)
    if addresses:
        core.set_config_variable("config_file", addresses["aws_config_file"])
        core.set_config_variable("credentials_file", addresses["aws_shared_credentials_file"])
    region = options.region or addresses.get("region") or core.get_config_variable("region") or REGION
    return boto3.Session(botocore_session=core, region_name=region)


def outputs(of: Any, name: str) -> dict[str, str]:
    """The outputs of the city's stack, by a session. Raises NotFound when there is none."""
    stack = stacks.describe(of.client("cloudformation"), name)
    if stack is None:
        raise NoSuchCity(f"there is no stack {name} in {of.region_name}: see --city, --region, --profile")
    return stacks.outputs(stack)
