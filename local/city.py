"""The local city put together: state, emulated cloud, functions, gateway, pumps, page."""

from __future__ import annotations

import json
import logging
import logging.handlers
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from chalice.utils import to_cfn_resource_name

from infra import templates
from local import terminal
from local.api_gateway import answers, gateway, resource_policy
from local.emulation import moto_patches
from local.faults import Faults
from local.lambda_runtime import functions
from local.state import State, write_atomically
from local.web import servers

if TYPE_CHECKING:
    from local.forwarders import Forwarders
    from local.iam.identities import RoleSession
    from local.lambda_runtime.workers import Workers
    from local.pacs import HospitalsPacs

ROOT = Path(__file__).parent.parent
API_THREADS = 200
"""Requests at once; each long poll holds one for up to 20 seconds."""
CLOUD_THREADS = 64
RENEWED_LATE = 3.0
"""Seconds without credentials, when they were made to expire."""
INVOKED_AT_ONCE = 2
"""Invocations by name of one function at once, since one may hold 32 MiB; the others wait, as none would in AWS."""


@dataclass(frozen=True)
class Options:
    """What `python -m local up` was asked for. `port` is N of the contract; 0 takes any three free ports.
    `member_accounts` is the city's parameter MemberAccounts."""

    port: int = 8080
    app: str = "app"
    base_path: str = ""
    forwarders: bool = True
    pacs: bool = False
    adt: bool = False
    member_accounts: tuple[str, ...] = ()


class City:
    """A running city. `start` returns when everything answers; `stop` within two seconds."""

    def __init__(self, options: Options, state: State, tell: Callable[[str], None] = print) -> None:
        self._options, self.state, self._tell = options, state, tell
        self._servers: list[servers.Server] = []
        self._pumps: list[Any] = []
        self._stopping = threading.Event()
        self._faults = Faults(state.directory)
        self._workers: Workers | None = None
        self._forwarders: Forwarders | None = None
        self._pacs: HospitalsPacs | None = None

    def start(self) -> dict[str, Any]:
        """Bring everything up; returns what `publish` will write. Raises PortTaken."""
        state = self.state
        (state.directory / "endpoints.json").unlink(missing_ok=True)
        _log_to(state.directory / "logs")
        self._bind()
        self._tell("starting the emulated cloud …")
        emulated = moto_patches.install(state)
        self._make_stacks()
        from local.iam.identities import Identities
        from local.iam.profiles import ADMINISTRATOR, OPERATOR, Profiles

        self.identities = Identities(state)
        self.identities.restore()
        self._tell("loading the archive …")
        self._load_functions(emulated)
        self._restore_objects()
        own = {OPERATOR: self.outputs["OperatorRoleArn"], ADMINISTRATOR: self._role(ADMINISTRATOR)}
        self.profiles = Profiles(state, self.identities, own, self._url(self._cloud))
        self.profiles.write()
        for part in (*self._servers, *self._pumps):
            part.start()
        threading.Thread(target=self._renew_profiles, daemon=True, name="profiles").start()
        from local import institutions

        institutions.found(state, self.outputs, self.api, self.profiles.identity(OPERATOR))
        return self._announce()

    # The parts ---------------------------------------------------------------------------------------

    def _bind(self) -> None:
        """Take the ports before anything else; what answers on them is set later."""
        port = self._options.port
        if port:
            servers.ports_are_free([port, port + 1, port + 2])
        ports = [port + offset if port else 0 for offset in range(3)]
        self._api = servers.Server(ports[0], API_THREADS, gateway.MAX_BODY_BYTES, answers.too_large, name="api")
        self._cloud = servers.Server(ports[1], CLOUD_THREADS, 6 * 1024**3, name="cloud")
        self._page = servers.Server(ports[2], 8, 1 << 16, name="page")
        self._servers = [self._api, self._cloud, self._page]

    @staticmethod
    def _url(server: servers.Server) -> str:
        return f"http://127.0.0.1:{server.port}"

    @property
    def api(self) -> str:
        """The API's address, with its base path."""
        return self._url(self._api) + self._options.base_path

    def _make_stacks(self) -> None:
        from local.cloudformation import stacks

        template = templates.load(templates.CITY)
        template["Outputs"]["ApiUrl"] = {"Value": self.api}  # in AWS outputs of the packaged template
        template["Outputs"]["CanaryRoleArn"] = {"Value": self._role("canary")}
        parameters = {"MemberAccounts": ",".join(self._options.member_accounts)}
        self.stack = stacks.create_city(self.state, templates.CITY_STACK, template, parameters)
        stacks.recreate_others(self.state, templates.CITY_STACK)
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in self.stack.outputs}

    def _load_functions(self, emulated: Any) -> None:
        """The functions under their own roles, the gateway before them, the pumps behind."""
        from local.cloud import Cloud
        from local.cloudformation import stacks
        from local.iam import permissions
        from local.iam.profiles import ADMINISTRATOR
        from local.lambda_runtime import direct, event_sources, workers
        from local.web.viewer_site import ViewerSite

        overrides = templates.overrides()
        variables = event_sources.environment("APIHandler", overrides, self.stack)
        variables["VIEWER_BASE_URL"] = self._url(self._page)
        variables["API_URL"] = self.api
        nobody = self._issue("functions")
        functions.set_environment(nobody, self._url(self._cloud), variables)
        limits = functions.FunctionLimits(ROOT / ".chalice" / "config.json")
        signers = {name: self._issue(name) for name in limits.names()}
        endpoint = self._url(self._cloud)
        functions.use_session({**signers, "": nobody}, direct.sender(self._cloud.answer, endpoint, self._faults))
        app, made = functions.load(self._options.app, limits)
        documents = {
            signers[name].role_name: [permissions.policy_file(file, self.stack)]
            for name in signers
            if (file := limits.policy_file(name)) is not None
        }
        pixels = self._issue("pixels")
        documents[pixels.role_name] = [permissions.policy_file(ROOT / ".chalice" / "policies" / "pixels.json", self.stack)]
        api_policy = resource_policy.document(
            app.routes, templates.load(templates.CITY), self._options.member_accounts, self.outputs["ApiId"]
        )
        rights = permissions.Permissions(documents, self._role(ADMINISTRATOR).rpartition("/")[2], api_policy)
        self._api.app = gateway.Gateway(
            app,
            made["api_handler"],
            self.identities,
            rights.may_invoke,
            self.outputs["ApiId"],
            base_path=self._options.base_path,
            on_success=self._heard,
            threads=API_THREADS,
        )
        decoder = overrides["Resources"]["RenderPixels"]["Properties"]
        self._workers = workers.Workers(
            ROOT,
            pixels,
            {
                "BUCKET_NAME": variables["BUCKET_NAME"],
                "AWS_REGION": moto_patches.REGION,
                "AWS_DEFAULT_REGION": moto_patches.REGION,
                "AWS_ENDPOINT_URL": endpoint,
            },
            float(decoder["Timeout"]),
        )
        self._cloud.app = Cloud(
            emulated,
            self.state,
            self.identities,
            rights,
            stacks.bucket_policies(self.stack),
            {
                variables["PIXELS_FUNCTION"]: self._workers.invoke,
                **{
                    name: workers.in_this_process(function, INVOKED_AT_ONCE)
                    for name, function in event_sources.invoked(made, overrides, self.stack).items()
                },
            },
            on_stack_change=lambda: stacks.remember_changes(self.state, templates.CITY_STACK),
            expire=self._expire,
        )
        self._page.app = ViewerSite(ROOT / "viewer", self._url(self._api), self.api, self._url(self._cloud))
        self._pumps = event_sources.pumps(app, made, overrides, self.stack, self.state, self._faults)

    def _issue(self, role: str) -> RoleSession:
        """Credentials of a function's role; the role itself is Chalice's to make in AWS, and here only a name, as it would be."""
        return self.identities.issue(self._role(role), role, 365 * 86400)

    @staticmethod
    def _role(name: str) -> str:
        """The ARN of a role that the city's own template does not make."""
        return f"arn:aws:iam::{moto_patches.ACCOUNT}:role/{templates.CITY_STACK}-{to_cfn_resource_name(name)}Role-LOCAL"

    def _restore_objects(self) -> None:
        from moto.s3.models import s3_backends

        from local.emulation.objects import load_versions
        from local.recovery import announce_unindexed

        backend = s3_backends[moto_patches.ACCOUNT]["aws"]
        load_versions(self.state, backend)
        announce_unindexed(backend.buckets[self.outputs["BucketName"]], self.outputs["TableName"])

    def _heard(self, method: str, path: str, answer: bytes) -> None:
        """Institutions that the API registered get a profile, and those that confirmed a new role one of that role."""
        parts = path.strip("/").split("/")
        if parts[0] != "institutions" or len(parts) != (3 if method == "POST" else 2):
            return
        if method in ("PUT", "POST"):
            self.profiles.register(unquote(parts[1]), json.loads(answer)["role_arn"])
        elif method == "DELETE":
            self.profiles.unregister(unquote(parts[1]))

    def _expire(self, profile: str) -> None:
        """A profile's credentials run out, and new ones come only seconds later."""
        self.profiles.expire(profile)
        late = threading.Timer(RENEWED_LATE, self.profiles.write, kwargs={"renew": True})
        late.daemon = True
        late.start()

    def _renew_profiles(self) -> None:
        from local.iam.profiles import RENEWED_EVERY

        while not self._stopping.wait(RENEWED_EVERY):
            self.profiles.write(renew=True)

    def _announce(self) -> dict[str, Any]:
        from local import institutions

        api = self.api
        endpoints: dict[str, Any] = {
            "api": api,
            "dicomweb": f"{api}/dicomweb",
            "s3": self._url(self._cloud),
            "viewer": self._url(self._page),
            "region": moto_patches.REGION,
            "aws_config_file": str(self.profiles.config_file),
            "aws_shared_credentials_file": str(self.profiles.credentials_file),
        }
        for address in (f"{api}/health", f"{endpoints['s3']}/_city/requests", endpoints["viewer"]):
            _wait_for(address)
        if self._options.forwarders:
            from local.forwarders import Forwarders

            if self._options.pacs:
                from local.pacs import HospitalsPacs

                self._pacs = HospitalsPacs(self.state.directory, institutions.PACS_TITLES)
            self._tell("starting the hospitals' forwarders …")
            places = {
                pacs.institution: (pacs.aet, "127.0.0.1", pacs.dicom_port) for pacs in (self._pacs.all if self._pacs else ())
            }
            self._forwarders = Forwarders(self.state.directory, endpoints, places, adt=self._options.adt)
            endpoints["forwarders"] = self._forwarders.start(institutions.AE_TITLES)
            if self._pacs is not None:
                self._tell("starting the hospitals' PACS …")
                endpoints["pacs"] = self._pacs.start(endpoints["forwarders"])
        return endpoints

    def publish(self, endpoints: dict[str, Any]) -> None:
        """Write `endpoints.json`: the last thing to do, since who sees it counts on all that was asked for."""
        if self._forwarders is not None:
            endpoints = endpoints | {"forwarders": self._forwarders.shown()}
        write_atomically(self.state.directory / "endpoints.json", json.dumps(endpoints, indent=2) + "\n")

    def stop(self) -> None:
        """End everything, also what was only begun, and close the state. What runs longer than a second is cut off, as
        in a function whose machine dies; what it had written stays."""
        self._stopping.set()
        if self._forwarders is not None:
            self._forwarders.stop()
        if self._pacs is not None:
            self._pacs.stop()
        (self.state.directory / "endpoints.json").unlink(missing_ok=True)
        for part in (*self._pumps, *self._servers):
            part.stop()
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline and any(part.busy for part in (*self._pumps, *self._servers)):
            time.sleep(0.02)
        if self._workers is not None:
            self._workers.stop()
        self.state.close()


def _wait_for(url: str, seconds: float = 20.0) -> None:
    """Return when something answers on the address, whatever it answers short of a failure of its own."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310
                return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"{url} does not answer")
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
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    logging.getLogger("moto").setLevel(logging.ERROR)  # warns at every start of what docs/local-city.md lists
    terminal.send_functions_to((directory / "functions.log").open("a", buffering=1, encoding="utf-8"))
