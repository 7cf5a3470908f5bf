"""moto's CloudFormation loads every service that it could make resources of, EC2's lists of machines and regions among
them: a second of every start, for resources that no template here has."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

SERVICES = (
    "apigateway", "autoscaling", "batch", "datapipeline", "ec2", "ecr", "ecs", "efs", "elb", "elbv2", "emr", "iot", "kinesis",
    "rds", "redshift", "route53", "sagemaker", "ssm", "stepfunctions",
)  # fmt: skip


@contextmanager
def left_out() -> Iterator[None]:
    """What is imported within gets an empty package for each of the services, with an empty class for each of its names.

    A resource of theirs is then one that moto does not know, as are those of hundreds of services more. What is imported
    afterwards, such as one of the services that the administrator asks, is the service itself.
    """
    empty = _Empty()
    sys.meta_path.insert(0, empty)
    try:
        yield
    finally:
        sys.meta_path.remove(empty)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _Package)]:
            parent, _dot, last = name.rpartition(".")
            if getattr(sys.modules.get(parent), last, None) is sys.modules.pop(name):
                delattr(sys.modules[parent], last)


class _Empty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        moto, _dot, rest = fullname.partition(".")
        if moto == "moto" and rest.partition(".")[0] in SERVICES:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Package(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _Package(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})
