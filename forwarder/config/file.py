"""The configuration's file, and the `site.toml` that is laid over it: every key checked at start.

A key that is unknown, missing, of the wrong type or out of bounds is a ConfigError that names it.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from forwarder.config.sections import Config
from forwarder.config.values import Check
from forwarder.errors import ConfigError

SITE = "site.toml"
"""A file beside the configuration that is laid over it: what a site changes, where something else writes the configuration."""


def load(path: Path) -> Config:
    """Read and check a configuration file, with the `site.toml` beside it, if any, laid over it. Raises ConfigError."""
    data = _tables(_text(path), path.name)
    site = path.with_name(SITE)
    if site.is_file() and site != path:
        data = laid_over(data, _tables(_text(site), SITE))
    return _checked(data)


def parse(text: str) -> Config:
    """Check a configuration. Raises ConfigError that names the key."""
    return _checked(_tables(text, "configuration"))


def laid_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid over it: tables merge, everything else, lists too, is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = laid_over(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return merged


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"The configuration “{path}” cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The configuration “{path}” is not UTF-8 text.") from error


def _tables(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The {name} is not TOML: {error}.") from error


def _checked(data: Mapping[str, Any]) -> Config:
    config: Config = _section(Config, data, "")
    _together(config)
    return config


def _section(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise ConfigError(f"“{where}” should be a section, [{where}].")
    hints = get_type_hints(kind)
    known = {key.name: key for key in dataclasses.fields(kind)}
    for name in data:
        if name not in known:
            raise ConfigError(f"The key “{dotted(where, name)}” is unknown.")
    values = {}
    for name, key in known.items():
        if name in data:
            values[name] = _value(hints[name], data[name], dotted(where, name), key.metadata.get("check"))
        elif dataclasses.is_dataclass(hints[name]):
            values[name] = _section(hints[name], {}, dotted(where, name))
        elif key.metadata.get("required"):
            raise ConfigError(f"The key “{dotted(where, name)}” is missing.")
    return kind(**values)


def _value(hint: Any, value: Any, where: str, check: Check | None) -> Any:
    if dataclasses.is_dataclass(hint):
        return _section(hint, value, where)
    if get_origin(hint) is list:
        (inner,) = get_args(hint)
        if not isinstance(value, list):
            raise ConfigError(f"The key “{where}” should be a list.")
        return [_value(inner, entry, f"{where}[{number}]", check) for number, entry in enumerate(value)]
    if get_origin(hint) is dict:
        _, inner = get_args(hint)
        if not isinstance(value, dict):
            raise ConfigError(f"The key “{where}” should be a table.")
        found = {str(name): _value(inner, entry, dotted(where, name), None) for name, entry in value.items()}
        if wrong := check(found) if check else None:
            raise ConfigError(f"The key “{where}” {wrong}.")
        return found
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        names = {str: "a text in quotes", int: "a whole number", float: "a number", bool: "true or false"}
        raise ConfigError(f"The key “{where}” should be {names[hint]}, and is {value!r}.")
    wrong = check(value) if check else None
    if wrong:
        raise ConfigError(f"The key “{where}” {wrong}, and is {value!r}.")
    return value


def _together(config: Config) -> None:
    """What one key alone cannot tell."""
    doors = {"dicom.tls": config.dicom.tls, "hl7.tls": config.hl7.tls}
    if not any((config.dicom.port, config.hl7.port, config.watch.folder, *(tls.port for tls in doors.values()))):
        raise ConfigError("Nothing would come in: “dicom.port”, “hl7.port”, “watch.folder” and both TLS ports are off.")
    files = {"archive.ca_file": config.archive.ca_file}
    for door, tls in doors.items():
        files |= {f"{door}.{name}": getattr(tls, name) for name in ("certificate", "key", "ca_file")}
        missing = next((name for name in ("certificate", "key", "ca_file") if tls.port and not getattr(tls, name)), None)
        if missing:
            raise ConfigError(f"The key “{door}.{missing}” is needed for TLS.")
    if config.deliver.enabled and not config.pacs.host:
        raise ConfigError("The key “pacs.host” is needed for “deliver.enabled”.")
    if config.pacs.tls and not config.dicom.tls.certificate:
        raise ConfigError("The key “dicom.tls.certificate” is needed for “pacs.tls”.")
    if any(peer.certificate for peer in config.peers) and not config.dicom.tls.port:
        raise ConfigError("The key “dicom.tls.port” is needed for “peers[].certificate”.")
    for section, enabled in (("adt", config.hl7.adt.enabled), ("orders", config.hl7.orders.enabled)):
        needed = {"allowed_addresses": "who may send it", "patient_authority": "whose numbers count"}
        for name, why in needed.items():
            if enabled and not getattr(config.hl7, name):
                raise ConfigError(f"The key “hl7.{name}” is needed for “hl7.{section}.enabled”: {why}.")
    files |= {
        "web.certificate": config.web.certificate,
        "web.key": config.web.key,
        "web.ris_secret_file": config.web.ris_secret_file,
        "identity.oidc.client_secret_file": config.identity.oidc.client_secret_file,
    }
    files |= {"mail.ca_file": config.mail.ca_file, "mail.password_file": config.mail.password_file}
    _who_is_known(config)
    _who_is_told(config)
    if config.watch.folder:
        inbox, spool = Path(config.watch.folder).resolve(), Path(config.spool.folder).resolve()
        if inbox.is_relative_to(spool) or spool.is_relative_to(inbox):
            raise ConfigError(
                "The key “watch.folder” should be a folder apart from “spool.folder”: what lies in it is taken away."
            )
    for where, path in files.items():
        if path and not Path(path).is_file():
            raise ConfigError(f"The key “{where}” names a file that does not exist: {path}")


def _who_is_known(config: Config) -> None:
    identity = config.identity
    if bool(config.web.certificate) != bool(config.web.key):
        raise ConfigError("The keys “web.certificate” and “web.key” are needed together.")
    if identity.header and not identity.trusted:
        raise ConfigError("The key “identity.trusted” is needed for “identity.header”: nobody else's word is taken.")
    if identity.roles_header and not identity.header:
        raise ConfigError("The key “identity.header” is needed for “identity.roles_header”.")
    if identity.oidc.issuer and not identity.oidc.client_id:
        raise ConfigError("The key “identity.oidc.client_id” is needed for “identity.oidc.issuer”.")


def _who_is_told(config: Config) -> None:
    mail = config.mail
    if not mail.host:
        return
    needed = {"mail.sender": mail.sender, "web.public_url": config.web.public_url}
    if mail.username:
        needed["mail.password_file"] = mail.password_file
    missing = next((name for name, value in needed.items() if not value), None)
    if missing:
        raise ConfigError(f"The key “{missing}” is needed for “mail.host”.")


def dotted(where: str, name: str) -> str:
    """A key as messages and the manual name it."""
    return f"{where}.{name}" if where else name
