"""What the operator's commands have in common where they meet a person: options that are read, errors that are told, ends."""

import argparse
import json
import math
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ProfileNotFound,
)

from chalicelib.domain import identifiers
from chalicelib.domain.errors import BadRequest
from infra.registry import RegistryRefused

NOT_READ = 141
"""What a command exits with that nobody reads to the end (`| head -1`): as a shell has it, 128 and SIGPIPE."""
_WHO = "see --profile (stop, start and carry-over are an administrator's), --city, --region"
_WHERE = "is there a city, and the way to it open? see --endpoints, --region, --api"
_NOT_LET_IN = frozenset({
    "AccessDenied", "AccessDeniedException", "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId",
    "SignatureDoesNotMatch", "UnrecognizedClientException",
})  # fmt: skip
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)
_TABLE = re.compile(r"[\w.-]{3,255}", re.ASCII)


class UnusableFile(Exception):
    """A file is not what it is given as; the message names it, and says what it is to be."""


# Options that are read -----------------------------------------------------------------------------------------------


def institution(text: str) -> str:
    """An institution's id. One that is left empty (a variable of a script that is not set) means none, not every one."""
    try:
        return identifiers.institution_id(text, repr(text))
    except BadRequest as error:
        raise argparse.ArgumentTypeError(error.detail) from error


def address(text: str) -> str:
    """The address of an API."""
    if not re.match(r"https?://[^/\s]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the API's address: it begins with https:// (locally http://)")
    return text


def month(text: str) -> str:
    """A month that has begun."""
    if not _MONTH.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a month: YYYY-MM")
    if text > f"{datetime.now(UTC):%Y-%m}":
        raise argparse.ArgumentTypeError(f"{text} has not begun yet")
    return text


def table(text: str) -> str:
    """The name of a table."""
    if not _TABLE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a table's name: 3 to 255 letters, digits and . _ -")
    return text


def retention(text: str) -> float:
    """For how many years audit records are kept."""
    try:
        years = float(text)
    except ValueError:
        years = math.nan
    if not 0 < years <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not for how many years records are kept: AuditRetentionYears of the stack")
    return years


def whole_retention(text: str) -> int:
    """The same, in whole years."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of years")
    return int(retention(text))


def json_file(path: Path, what: str) -> dict[str, Any]:
    """The object in a file. Raises UnusableFile, OSError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UnusableFile(f"{path} is not {what}: there is no JSON object in it")
    return found


# Ends ----------------------------------------------------------------------------------------------------------------


def told(error: BaseException) -> str:
    """An error in words, and, where the words of AWS or Python do not say it, which option to look at."""
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ClientError) and error.response.get("Error", {}).get("Code") in _NOT_LET_IN:
        return f"{error}: {_WHO}"
    if isinstance(error, ProfileNotFound | NoCredentialsError):
        return f"{error}: {_WHO}"
    if isinstance(error, RegistryRefused) and error.status == 403:
        return f"{error}: {_WHO}, --api"
    if isinstance(error, EndpointConnectionError):
        return f"{error}: {_WHERE}"
    if isinstance(error, requests.RequestException):
        asked = error.request.url if error.request is not None else "the API's address"
        return f"{asked}: {type(error).__name__}: {_WHERE}"
    return str(error)


def unread() -> int:
    """Whoever read the output has gone: what is still to be written goes nowhere, and nothing is said of it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return NOT_READ
