"""Modules of this package, imported when something that they answer is first asked for: a cold start pays for no others."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def load(module: str) -> ModuleType:
    """A module of `chalicelib.api` by its name, with what it registers."""
    return import_module(f"chalicelib.api.{module}")
