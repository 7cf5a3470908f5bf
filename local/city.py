"""The local city put together: state, emulated cloud, functions, gateway, pumps, page."""

from __future__ import annotations

import json
import logging
import logging.handlers
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra import templates
from local import emulator, functions, gateway, httpd, terminal
from local.state import State, write_atomically

ROOT = Path(__file__).parent.parent
FUNCTIONS_ROLE = f"arn:aws:iam::{emulator.ACCOUNT}:role/{templates.CITY_STACK}-functions"


@dataclass(frozen=True)
class Options:
    """What `python -m local up` was asked for. `port` is N of the contract; 0 takes any three free ports."""

    port: int = 8080
    app: str = "app"
    base_path: str = ""


class City:
    """A running city. `start` returns when everything answers; `stop` within two seconds."""

    def __init__(self, options: Options, state: State, tell: Callable[[str], None] = print) -> None:
        self._options, self.state, self._tell = options, state, tell
        self._servers: list[httpd.Server] = []
        self._pumps: list[Any] = []
        self._stopping = threading.Event()

    def start(self) -> dict[str, str]:
        """Bring everything up and write `endpoints.json`; returns its content. Raises PortTaken."""
        state, ports = self.state, self._options.port
        if ports:
            httpd.ports_are_free([ports, ports + 1, ports + 2])
        (state.directory / "endpoints.json").unlink(missing_ok=True)
        _log_to(state.directory / "logs")
        self._tell("starting the emulated cloud …")
        cloud_app = emulator.install(state)
        from local import stacks
        from local.identities import Identities
        from local.profiles import Profiles

        city_template = templates.load(templates.CITY)
        self.stack = stacks.create_city(state, templates.CITY_STACK, city_template, {})
        stacks.recreate_others(state, templates.CITY_STACK)
        self.identities = identities = Identities(state)
        identities.restore()
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in self.stack.outputs}
        api = _Later()
        self._serve_api(api)
        cloud = self._serve_cloud(cloud_app)
        self._serve_page()
        self.profiles = Profiles(state, identities, self.outputs["OperatorRoleArn"], cloud)
        self._tell("loading the archive …")
        self._load_functions(api, cloud)
        self._restore_objects()
        for pump in self._pumps:
            pump.start()
        for server in self._servers:
            server.start()
        self.profiles.write(renew=True)
        threading.Thread(target=self._renew_profiles, daemon=True, name="profiles").start()
        from local import institutions

        institutions.found(self)
        return self._announce()

    # The parts ---------------------------------------------------------------------------------------

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self._api_server.port}{self._options.base_path}"

    def _port(self, offset: int) -> int:
        return self._options.port + offset if self._options.port else 0

    def _serve_api(self, app: Any) -> None:
        self._api_server = httpd.Server(
            app,
            self._port(0),
            threads=96,
            max_body=gateway.MAX_BODY_BYTES + 1,
            too_large=gateway.TOO_LARGE,
            name="api",
        )
        self._servers.append(self._api_server)

    def _serve_cloud(self, cloud_app: Any) -> str:
        from local import stacks
        from local.cloud import Cloud

        policies = {}
        for resource in self.stack.template_dict["Resources"].values():
            if resource["Type"] == "AWS::S3::BucketPolicy":
                resolved = stacks.resolved(self.stack, resource["Properties"])
                policies[resolved["Bucket"]] = resolved["PolicyDocument"]
        self.cloud = Cloud(
            cloud_app,
            self.state,
            self.identities,
            {FUNCTIONS_ROLE.split("/")[-1], f"{templates.CITY_STACK}-operator"},
            policies,
            on_stack_change=lambda: stacks.remember_changes(self.state, templates.CITY_STACK),
        )
        self._cloud_server = httpd.Server(self.cloud, self._port(1), threads=64, max_body=6 * 1024**3, name="cloud")
        self._servers.append(self._cloud_server)
        return f"http://127.0.0.1:{self._cloud_server.port}"

    def _serve_page(self) -> None:
        from local.pages import Pages

        self._page_server = httpd.Server(Pages(ROOT / "viewer"), self._port(2), threads=8, max_body=1 << 16, name="page")
        self._servers.append(self._page_server)

    def _load_functions(self, api: _Later, cloud: str) -> None:
        from local import access, sources

        overrides = templates.overrides()
        variables = sources.environment("APIHandler", overrides, self.stack)
        identity = self.identities.issue(FUNCTIONS_ROLE, "contenitore-functions", 365 * 86400)
        functions.set_environment(identity, cloud, variables)
        app, made = functions.load(self._options.app, ROOT / ".chalice" / "config.json")
        self._gateway = gateway.Gateway(
            app,
            made["api_handler"],
            self.identities,
            access.may_invoke,
            self.outputs["ApiId"],
            base_path=self._options.base_path,
            on_success=self._heard,
        )
        api.app = self._gateway
        self._pumps = sources.pumps(app, made, overrides, self.stack, self.state)

    def _restore_objects(self) -> None:
        from moto.s3.models import s3_backends

        from local.objects import load_versions
        from local.recovery import announce_unindexed

        backend = s3_backends[emulator.ACCOUNT]["aws"]
        load_versions(self.state, backend)
        announce_unindexed(backend.buckets[self.outputs["BucketName"]], self.outputs["TableName"])

    def _heard(self, method: str, path: str, body: bytes) -> None:
        """Institutions that the API registered get a profile."""
        parts = path.strip("/").split("/")
        if len(parts) != 2 or parts[0] != "institutions":
            return
        if method == "PUT":
            self.profiles.register(parts[1], json.loads(body)["role_arn"])
        elif method == "DELETE":
            self.profiles.unregister(parts[1])

    def _renew_profiles(self) -> None:
        from local.profiles import RENEWED_EVERY

        while not self._stopping.wait(RENEWED_EVERY):
            self.profiles.write(renew=True)

    def _announce(self) -> dict[str, str]:
        api = self.api
        endpoints = {
            "api": api,
            "dicomweb": f"{api}/dicomweb",
            "s3": f"http://127.0.0.1:{self._cloud_server.port}",
            "viewer": f"http://127.0.0.1:{self._page_server.port}",
            "region": emulator.REGION,
            "aws_config_file": str(self.profiles.config_file),
            "aws_shared_credentials_file": str(self.profiles.credentials_file),
        }
        _wait_for(f"{api}/health")
        write_atomically(self.state.directory / "endpoints.json", json.dumps(endpoints, indent=2) + "\n")
        return endpoints

    def stop(self) -> None:
        """End everything, also what was only begun, and close the state."""
        self._stopping.set()
        (self.state.directory / "endpoints.json").unlink(missing_ok=True)
        for pump in self._pumps:
            pump.stop()
        for server in self._servers:
            server.stop(timeout=0.3)
        for pump in self._pumps:
            pump.join(timeout=0.3)
        self.state.close()


class _Later:
    """A place for an application whose port must be known before it exists."""

    app: Any = None

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.app(environ, start_response)


def _wait_for(url: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
                if answer.status == 200:
                    return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _log_to(directory: Path) -> None:
    """What the city and the functions log goes into files, by size; the terminal shows none of it."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    handler = logging.handlers.RotatingFileHandler(directory / "city.log", maxBytes=20 * 1024**2, backupCount=3, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("moto").setLevel(logging.ERROR)  # warns at every start of what docs/local-city.md lists
    terminal.send_functions_to((directory / "functions.log").open("a", buffering=1, encoding="utf-8"))
