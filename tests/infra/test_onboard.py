"""Onboarding, against an emulated AWS and a small API that keeps a registry, both over HTTP."""

import json
import os
import threading
import warnings
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from moto.server import ThreadedMotoServer

from infra import authority, onboard
from infra.templates import CITY

ISSUER = "2.16.840.1.113883.2.9.99.4.4.1"
ROOT_PRINCIPAL = "arn:aws:iam::210987654321:root"
ROLE = "arn:aws:iam::123456789012:role/contenitore-institution-besta"
ANCHOR = "arn:aws:rolesanywhere:eu-south-1:123456789012:trust-anchor/11111111-2222-3333-4444-555555555555"

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse:UserWarning")


@dataclass
class Api:
    """What the stub has registered, and the requests it got as (method, path, signed)."""

    url: str = ""
    registered: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, bool]] = field(default_factory=list)
    refuses: bool = False
    denied: str = ""


@pytest.fixture
def api() -> Iterator[Api]:
    state = Api()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            authorization = self.headers.get("Authorization", "")
            signed = "/eu-south-1/execute-api/aws4_request" in authorization and "X-Amz-Date" in self.headers
            state.requests.append((self.command, self.path, signed))
            institution = self.path.rsplit("/", 1)[-1]
            if not signed:
                self._answer(403, {"message": "Missing Authentication Token"})
            elif state.denied:
                self._answer(403, {"Message": state.denied})  # as IAM says it, at API Gateway
            elif self.command == "GET":
                self._answer(200, {"institutions": [{"id": k} | v for k, v in state.registered.items()]})
            elif state.refuses:
                problem = {"type": "urn:contenitore:problem:conflict", "detail": "Another has this role_arn."}
                self._answer(409, problem)
            elif self.command == "PUT":
                state.registered[institution] = json.loads(body)
                self._answer(200, json.loads(body))
            elif state.registered.pop(institution, None) is None:
                self._answer(404, {"type": "urn:contenitore:problem:not-found"})
            else:
                self._answer(200, {})

        do_GET = do_PUT = do_DELETE = _serve

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """An emulated AWS with the city's stack in it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tried to parse", UserWarning)
        _client("cloudformation", url).create_stack(
            StackName="contenitore",
            TemplateBody=CITY.read_text("utf-8"),
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
    yield url
    server.stop()


@pytest.fixture
def endpoints(tmp_path: Path, aws: str, api: Api) -> Path:
    """endpoints.json as a local city writes it, with the profile `operator`."""
    (tmp_path / "config").write_text(f"[profile operator]\nregion = eu-south-1\nendpoint_url = {aws}\n")
    (tmp_path / "credentials").write_text("[operator]\naws_access_key_id = AK\naws_secret_access_key = SK\n")
    files = {
        "api": api.url,
        "region": "eu-south-1",
        "aws_config_file": str(tmp_path / "config"),
        "aws_shared_credentials_file": str(tmp_path / "credentials"),
    }
    (tmp_path / "endpoints.json").write_text(json.dumps(files))
    return tmp_path / "endpoints.json"


@pytest.fixture(autouse=True)
def _nothing_of_this_machine_nor_of_another_test(aws: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        yield
        _client("cloudformation", aws).delete_stack(StackName="contenitore-institution-besta")


def _client(service: str, url: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="eu-south-1",
        aws_access_key_id="AK",
        aws_secret_access_key="SK",
    )


def _roles(aws: str) -> set[str]:
    return {role["RoleName"] for role in _client("iam", aws).list_roles()["Roles"]}


def _onboard(endpoints: Path, *arguments: str) -> int:
    given = [
        "besta", "--name", "Istituto Besta", "--issuer-oid", ISSUER, "--endpoints", str(endpoints),
    ]  # fmt: skip
    return onboard.main([*given, *arguments])


def test_an_institution_gets_its_role_and_is_registered(
    endpoints: Path, aws: str, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _onboard(endpoints, "--principal-arn", ROOT_PRINCIPAL, "--ae-title", "BESTA", "--ae-title", "BESTA2") == 0
    role = _client("iam", aws).get_role(RoleName="contenitore-institution-besta")["Role"]
    assert role["Arn"] == ROLE
    boundary = role["PermissionsBoundary"]["PermissionsBoundaryArn"]
    assert boundary == "arn:aws:iam::123456789012:policy/contenitore-institution-boundary"
    assert api.registered == {
        "besta": {
            "name": "Istituto Besta",
            "role_arn": ROLE,
            "patient_id_issuer": ISSUER,
            "ae_titles": ["BESTA", "BESTA2"],
        }
    }
    assert all(signed for _, _, signed in api.requests)
    said = capsys.readouterr().out
    assert "contenitore-institution-besta: created" in said
    assert f"registered with {ROLE}" in said


def test_what_the_numbering_is_called_is_registered_and_left_alone_where_it_is_not_given(endpoints: Path, api: Api) -> None:
    assert (
        _onboard(endpoints, "--role-arn", ROLE, "--issuer-name", "ADT1", "--issuer-name", "RIS", "--corrections", "conflict") == 0
    )
    assert api.registered["besta"]["issuer_names"] == ["ADT1", "RIS"]
    assert api.registered["besta"]["corrections"] == "conflict"
    assert _onboard(endpoints, "--role-arn", ROLE) == 0
    assert [method for method, _, _ in api.requests] == ["GET", "PUT", "GET"]
    assert _onboard(endpoints, "--role-arn", ROLE, "--issuer-name", "1.2.3") == 2


def test_repeating_it_does_nothing_and_says_so(endpoints: Path, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    assert _onboard(endpoints, "--principal-arn", ROOT_PRINCIPAL) == 0
    capsys.readouterr()
    assert _onboard(endpoints, "--principal-arn", ROOT_PRINCIPAL) == 0
    assert "Nothing to do." in capsys.readouterr().out
    assert [method for method, _, _ in api.requests] == ["GET", "PUT", "GET"]


def test_a_dry_run_shows_the_plan_and_changes_nothing(
    endpoints: Path, aws: str, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _onboard(endpoints, "--principal-arn", ROOT_PRINCIPAL, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "create   stack contenitore-institution-besta" in said
    assert f"assumed by {ROOT_PRINCIPAL}" in said
    assert f"register {api.url}/institutions/besta" in said
    assert "Dry run" in said
    assert "contenitore-institution-besta" not in _roles(aws)
    assert api.registered == {}


def test_a_changed_name_is_registered_without_touching_the_stack(
    endpoints: Path, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _onboard(endpoints, "--principal-arn", ROOT_PRINCIPAL) == 0
    capsys.readouterr()
    assert _onboard(endpoints, "--principal-arn", ROOT_PRINCIPAL, "--name", "IRCCS Besta") == 0
    said = capsys.readouterr().out
    assert "keep     stack" in said
    assert "created" not in said
    assert api.registered["besta"]["name"] == "IRCCS Besta"


def test_a_changed_trust_updates_the_stack(endpoints: Path, aws: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _onboard(endpoints, "--principal-arn", ROOT_PRINCIPAL) == 0
    capsys.readouterr()
    anchor = "arn:aws:rolesanywhere:eu-south-1:123456789012:trust-anchor/0f1e2d3c"
    assert _onboard(endpoints, "--trust-anchor-arn", anchor, "--certificate-cn", "forwarder.besta") == 0
    assert "contenitore-institution-besta: updated" in capsys.readouterr().out
    stack = _client("cloudformation", aws).describe_stacks(StackName="contenitore-institution-besta")["Stacks"][0]
    parameters = {entry["ParameterKey"]: entry["ParameterValue"] for entry in stack["Parameters"]}
    assert (parameters["TrustAnchorArn"], parameters["CertificateCommonName"]) == (anchor, "forwarder.besta")


def test_a_registration_that_was_refused_is_completed_by_repeating(
    endpoints: Path, aws: str, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.refuses = True
    assert _onboard(endpoints, "--principal-arn", ROOT_PRINCIPAL) == 1
    assert "Another has this role_arn." in capsys.readouterr().err
    assert "contenitore-institution-besta" in _roles(aws)
    api.refuses = False
    assert _onboard(endpoints, "--principal-arn", ROOT_PRINCIPAL) == 0
    assert api.registered["besta"]["role_arn"] == ROLE


def test_what_iam_says_is_shown(endpoints: Path, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.denied = "User: arn:aws:sts::123456789012:assumed-role/x/y is not authorized to perform: execute-api:Invoke"
    assert _onboard(endpoints, "--principal-arn", ROOT_PRINCIPAL) == 1
    assert f"403 {api.denied}" in capsys.readouterr().err


def test_a_stack_that_was_only_reviewed_is_created_by_repeating(endpoints: Path, aws: str, api: Api) -> None:
    """As after a first try that died between the change set and its execution."""
    _client("cloudformation", aws).create_change_set(
        StackName="contenitore-institution-besta",
        ChangeSetName="interrupted",
        ChangeSetType="CREATE",
        TemplateBody='{"Resources": {"Role": {"Type": "AWS::SNS::Topic"}}}',
    )
    assert _onboard(endpoints, "--principal-arn", ROOT_PRINCIPAL) == 0
    assert "contenitore-institution-besta" in _roles(aws)
    assert "besta" in api.registered


def test_where_nobody_is_named_the_citys_own_account_decides_who_acts_as_the_institution(endpoints: Path, aws: str) -> None:
    assert _onboard(endpoints) == 0
    role = _client("iam", aws).get_role(RoleName="contenitore-institution-besta")["Role"]
    (statement,) = [entry for entry in role["AssumeRolePolicyDocument"]["Statement"] if entry]
    assert statement["Principal"] == {"AWS": ["arn:aws:iam::123456789012:root"]}


def test_a_local_city_is_found_by_its_aws_files(endpoints: Path, api: Api) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_CONFIG_FILE", str(endpoints.with_name("config")))
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(endpoints.with_name("credentials")))
        environment.setenv("AWS_PROFILE", "operator")
        assert onboard.main(["besta", "--name", "Istituto Besta", "--issuer-oid", ISSUER]) == 0
    assert api.registered["besta"]["role_arn"] == ROLE


def test_a_role_that_exists_is_registered_without_a_stack(endpoints: Path, aws: str, api: Api) -> None:
    role = "arn:aws:iam::123456789012:role/gateway/besta-ris"
    assert _onboard(endpoints, "--role-arn", role) == 0
    assert api.registered["besta"]["role_arn"] == role
    assert "contenitore-institution-besta" not in _roles(aws)


@pytest.fixture(scope="module")
def city_that_names_accounts(aws: str) -> str:
    """The name of a city's stack that lets roles of two other accounts in."""
    _client("cloudformation", aws).create_stack(
        StackName="named",
        TemplateBody=CITY.read_text("utf-8"),
        Parameters=[{"ParameterKey": "MemberAccounts", "ParameterValue": "222222222222,333333333333"}],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    return "named"


def test_a_role_of_another_account_is_refused_unless_the_city_names_the_account(
    endpoints: Path, api: Api, city_that_names_accounts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    role = "arn:aws:iam::444444444444:role/besta"
    for more, wanted in (
        ([], "MemberAccounts=444444444444\n"),
        (["--dry-run"], "MemberAccounts=444444444444\n"),
        (["--city", city_that_names_accounts], "MemberAccounts=222222222222,333333333333,444444444444\n"),
    ):
        assert _onboard(endpoints, "--role-arn", role, *more) == 2
        said = capsys.readouterr()
        assert "the AWS account 444444444444, and the API lets no role of that account in" in said.err
        assert said.err.endswith(wanted)
    assert api.requests == [], "nothing was asked and nothing registered"


def test_a_role_of_a_named_account_is_registered_and_its_account_told_what_it_has_to_allow(
    endpoints: Path, api: Api, city_that_names_accounts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    role = "arn:aws:iam::333333333333:role/besta"
    assert _onboard(endpoints, "--city", city_that_names_accounts, "--role-arn", role) == 0
    assert api.registered["besta"]["role_arn"] == role
    said = capsys.readouterr().out
    assert "in the account 333333333333 the role's own policy must allow execute-api:Invoke on" in said
    assert "arn:aws:execute-api:eu-south-1:123456789012:local/api/*" in said


def test_an_institution_is_taken_out_and_its_role_only_when_asked(
    endpoints: Path, aws: str, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _onboard(endpoints, "--principal-arn", ROOT_PRINCIPAL) == 0
    assert _onboard(endpoints, "--remove") == 0
    assert api.registered == {}
    assert "contenitore-institution-besta" in _roles(aws)
    capsys.readouterr()
    assert _onboard(endpoints, "--remove", "--delete-stack") == 0
    said = capsys.readouterr().out
    assert "besta: was not registered" in said
    assert "contenitore-institution-besta: deleted" in said
    assert "contenitore-institution-besta" not in _roles(aws)
    assert _onboard(endpoints, "--remove", "--delete-stack") == 0
    assert "there is no such stack" in capsys.readouterr().out


@dataclass
class RolesAnywhere:
    """What the stub has of revocation lists, by trust anchor; refused while somebody lacks the right."""

    url: str = ""
    lists: dict[str, bytes] = field(default_factory=dict)
    refuses: bool = False


@pytest.fixture
def roles_anywhere(endpoints: Path) -> Iterator[RolesAnywhere]:
    """The two calls that a first publishing makes (ListCrls, ImportCrl), found by the operator's profile."""
    state = RolesAnywhere()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            status, answer = 200, json.dumps({"crls": []})
            if state.refuses:
                right = f"User: operator is not authorized to perform: rolesanywhere:{self.command}"
                status, answer = 403, json.dumps({"message": right})
            elif self.command == "POST":
                state.lists[body["trustAnchorArn"]] = b64decode(body["crlData"])
                status, answer = 201, json.dumps({"crl": {"crlId": "1"}})
            self.send_response(status)
            self.send_header("x-amzn-ErrorType", "AccessDeniedException")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        do_GET = do_POST = _serve

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    with endpoints.with_name("config").open("a") as config:
        config.write(f"services = here\n[services here]\nrolesanywhere =\n  endpoint_url = {state.url}\n")
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def certified(endpoints: Path, tmp_path: Path, api: Api) -> Iterator[list[str]]:
    """Besta is in, with a certificate; the options with which it is taken out, certificate and role with it."""
    ca, csr = tmp_path / "ca", tmp_path / "forwarder.csr"
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    csr.write_bytes(request.public_bytes(serialization.Encoding.PEM))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(authority.PASSPHRASE, "a passphrase of the city")
        assert authority.main([str(ca), "init"]) == 0
        trust = ["--trust-anchor-arn", ANCHOR, "--authority", str(ca)]
        assert _onboard(endpoints, *trust, "--csr", str(csr), "--out", str(tmp_path / "besta")) == 0
        yield ["--remove", "--delete-stack", *trust]


def test_who_is_taken_out_is_no_member_and_has_no_role_though_the_revocation_cannot_be_published(
    endpoints: Path, aws: str, api: Api, roles_anywhere: RolesAnywhere, certified: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    roles_anywhere.refuses = True
    assert _onboard(endpoints, *certified) == 1
    assert api.registered == {}
    assert "contenitore-institution-besta" not in _roles(aws)
    told = capsys.readouterr()
    assert "forwarder.besta: 1 certificates revoked" in told.out
    assert "besta is no member any more" in told.err
    assert "not published" in told.err
    assert "not authorized to perform: rolesanywhere:GET" in told.err
    assert "The same command again does what is left." in told.err
    roles_anywhere.refuses = False
    assert _onboard(endpoints, *certified) == 0
    listed = x509.load_pem_x509_crl(roles_anywhere.lists[ANCHOR])
    assert len(list(listed)) == 1


def test_a_stack_that_stays_keeps_no_revocation_back(
    endpoints: Path, api: Api, roles_anywhere: RolesAnywhere, certified: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as stays:

        def fails(_: object, name: str) -> None:
            raise onboard.StackFailed(f"{name}: Role: must delete policies first")

        stays.setattr(onboard.stacks, "delete", fails)
        assert _onboard(endpoints, *certified) == 1
    assert api.registered == {}
    assert list(roles_anywhere.lists) == [ANCHOR]
    assert "the stack contenitore-institution-besta is there still: " in capsys.readouterr().err
    assert _onboard(endpoints, *certified) == 0


def test_nothing_is_touched_where_the_authority_does_not_open(
    endpoints: Path, api: Api, certified: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(authority.PASSPHRASE, "another one")
        assert _onboard(endpoints, *certified) == 2
    assert "passphrase" in capsys.readouterr().err
    assert "besta" in api.registered


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--principal-arn", "*"], "--principal-arn must be"),
        (["--trust-anchor-arn", "arn:aws:rolesanywhere:eu-south-1:1:trust-anchor/x"], "go together"),
        (["--certificate-cn", "forwarder.besta"], "go together"),
        (["--trust-anchor-arn", "x", "--certificate-cn", "y"], "--trust-anchor-arn must be"),
        (["--delete-stack"], "--delete-stack needs --remove"),
        (["--remove", "--trust-anchor-arn", ANCHOR], "needs --authority"),
        (["--remove", "--trust-anchor-arn", "x", "--authority", "ca"], "--trust-anchor-arn must be"),
        (["--principal-arn", ROOT_PRINCIPAL, "--issuer-oid", "SAN MATTEO"], "OID"),
        (["--principal-arn", ROOT_PRINCIPAL, "--ae-title", "A" * 17], "AE title"),
        (["--role-arn", "besta"], "role_arn"),
        (["--principal-arn", ROOT_PRINCIPAL, "--city", "pavia"], "no stack pavia"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_touched(
    endpoints: Path,
    aws: str,
    api: Api,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    assert _onboard(endpoints, *arguments) == 2
    assert complaint in capsys.readouterr().err
    assert api.requests == []
    assert "contenitore-institution-besta" not in _roles(aws)


@pytest.mark.parametrize("institution", ["Besta", "b", "a" * 41, "besta/../x"])
def test_an_id_that_the_api_would_not_take_is_refused(
    endpoints: Path, capsys: pytest.CaptureFixture[str], institution: str
) -> None:
    arguments = [institution, "--name", "X", "--issuer-oid", ISSUER, "--principal-arn", ROOT_PRINCIPAL]
    assert onboard.main([*arguments, "--endpoints", str(endpoints)]) == 2
    assert capsys.readouterr().err
