"""``python -m infra.onboard``: one command that brings an institution into the city, or takes it out.

It looks, says what it will do, deploys the institution's stack (infra/institution.yaml: one role that may
call the API and nothing else), and registers that role. All it does depends on what it found, so that
repeating it, after a failure half way too, does what remains and nothing else. In the local city the same
happens against the emulated cloud, found by its AWS files or by ``--endpoints``.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.config import VERSION
from chalicelib.domain.errors import BadRequest
from chalicelib.domain.institutions import parse, role_of
from infra import authority, command_line, handover, stacks, where
from infra.registry import Registration, RegistryClient, RegistryRefused
from infra.resource_policy import STAGE
from infra.stacks import StackFailed
from infra.templates import INSTITUTION

_PRINCIPAL = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(root|(role|user)/[\w+=,.@/-]+)")
_COMMON_NAME = re.compile(r"[\w .@-]{1,64}", re.ASCII)
_MAX_ROLE_NAME = 64


class UnusableOption(Exception):
    """What was asked cannot be done as asked; the message names the option."""


class NotAllDone(Exception):
    """The institution is out, but not all that was asked besides was done; the message says what is left."""


@dataclass(frozen=True)
class Trust:
    """Who may assume the institution's role: principals of its own account, certificates of one authority."""

    principals: tuple[str, ...] = ()
    trust_anchor: str = ""
    common_name: str = ""

    def __str__(self) -> str:
        who = list(self.principals)
        if self.trust_anchor:
            who.append(f"certificates with CN={self.common_name} of {self.trust_anchor}")
        return ", ".join(who)


@dataclass(frozen=True)
class Plan:
    """What is to be done. ``stack`` is None where a role that exists is registered."""

    institution: str
    stack: stacks.Wanted | None
    trust: Trust
    step: stacks.Step
    registration: Registration
    register: bool
    known: Registration | None = None

    @property
    def empty(self) -> bool:
        """Whether everything is already as asked."""
        return self.step == "nothing" and not self.register


def check_trust(trust: Trust) -> Trust:
    """The trust as it may stand in a role's policy. Raises Unusable naming the option."""
    for principal in trust.principals:
        if not _PRINCIPAL.fullmatch(principal):
            raise UnusableOption("--principal-arn must be the ARN of a role, a user or an account's root")
    if bool(trust.trust_anchor) != bool(trust.common_name):
        raise UnusableOption("--trust-anchor-arn and --certificate-cn go together: else any certificate would do")
    if trust.trust_anchor:
        _check_trust_anchor(trust.trust_anchor)
    if trust.common_name and not _COMMON_NAME.fullmatch(trust.common_name):
        raise UnusableOption("--certificate-cn must be 1 to 64 letters, digits, blanks and . _ @ -")
    return trust


def _check_trust_anchor(arn: str) -> None:
    """Raises Unusable naming the option."""
    if not authority.TRUST_ANCHOR.fullmatch(arn):
        raise UnusableOption("--trust-anchor-arn must be the ARN of a trust anchor of IAM Roles Anywhere")


def role_name(city: str, institution: str) -> str:
    """The institution's role and its stack are both called so. Raises Unusable if it is too long for IAM."""
    name = f"{city}-institution-{institution}"
    if len(name) > _MAX_ROLE_NAME:
        raise UnusableOption(f"{name} is longer than a role's name may be ({_MAX_ROLE_NAME}): choose a shorter id")
    return name


def wanted_stack(city: str, institution: str, trust: Trust, city_outputs: dict[str, str]) -> stacks.Wanted:
    """The institution's stack, from what the city's stack tells of itself."""
    return stacks.Wanted(
        name=role_name(city, institution),
        body=INSTITUTION.read_text(encoding="utf-8"),
        parameters={
            "InstitutionId": institution,
            "CityName": city,
            "ApiId": city_outputs["ApiId"],
            "InstitutionBoundaryArn": city_outputs["InstitutionBoundaryArn"],
            "PrincipalArns": ",".join(trust.principals),
            "TrustAnchorArn": trust.trust_anchor,
            "CertificateCommonName": trust.common_name,
        },
    )


def registration_of(
    institution: str, name: str, role_arn: str, issuer: str, ae_titles: list[str], **more: object
) -> Registration:
    """The body to register, checked by the rules that the API itself applies. Raises Unusable.

    `more` is issuer_names and corrections, each only where it was asked for: what a registration does not name stays.
    """
    body: Registration = {
        "name": name,
        "role_arn": role_arn,
        "patient_id_issuer": issuer,
        "ae_titles": ae_titles,
        **more,
    }
    try:
        checked = parse(institution, body)
    except BadRequest as error:
        raise UnusableOption(str(error)) from error
    body |= {"name": checked.name, "ae_titles": list(checked.ae_titles)}
    return body | ({"issuer_names": list(checked.issuer_names)} if "issuer_names" in more else {})


def differs(known: Registration | None, wanted: Registration) -> bool:
    """Whether the registry must be told. What it does not show (to whoever asks) counts as different."""
    return known is None or any(
        known.get(key) != value for key, value in wanted.items() if key != "role_arn" or not waits(known, wanted)
    )


def waits(known: Registration | None, wanted: Registration) -> bool:
    """Whether the role that is wanted was proposed already, and waits for the institution to confirm it."""
    return known is not None and known.get("proposed_role_arn") == wanted["role_arn"]


def describe(plan: Plan, api: str) -> str:
    """The plan as text, one line for each part."""
    body = plan.registration
    titles = f", AE titles {', '.join(body['ae_titles'])}" if body["ae_titles"] else ""
    lines = [f"{plan.institution}: {body['name']}, patient numbers of {body['patient_id_issuer']}{titles}"]
    if "issuer_names" in body:
        lines.append(f"           its own numbering is called {', '.join(body['issuer_names'])}")
    if "corrections" in body:
        lines.append(f"           corrections: {body['corrections']}")
    if plan.stack:
        lines.append(f"  {plan.step if plan.step != 'nothing' else 'keep':8} stack {plan.stack.name}")
        lines.append(f"           role {body['role_arn']}, assumed by {plan.trust}")
    else:
        lines.append(f"  {'keep':8} role {body['role_arn']}, which exists")
    if plan.known is not None and plan.known.get("role_arn") != body["role_arn"]:
        lines.append(f"           instead of {plan.known.get('role_arn')}, once the institution confirms it, or after 72 hours")
    lines.append(f"  {'register' if plan.register else 'keep':8} {api}/institutions/{plan.institution}")
    return "\n".join(lines)


def onboard(options: argparse.Namespace, session: Any, registry: RegistryClient, city: dict[str, str]) -> None:
    """Bring the institution in. Raises Unusable, StackFailed, RegistryRefused, and others' errors."""
    if options.name is None or options.issuer_oid is None:
        raise UnusableOption("--name and --issuer-oid are needed to bring an institution in")
    cloudformation = session.client("cloudformation")
    trust = Trust()
    wanted: stacks.Wanted | None = None
    step: stacks.Step = "nothing"
    role_arn: str = options.role_arn or ""
    account = _another_account(role_arn, city)
    if not role_arn:
        trust = _trust(options, city)
        wanted = wanted_stack(options.city, options.id, trust, city)
        role_arn = _role_arn(city, wanted.name)
    registration = registration_of(options.id, options.name, role_arn, options.issuer_oid, options.ae_title, **_asked(options))
    if account:
        _check_account(account, city, options.city)
    if wanted:
        step = stacks.plan(wanted, stacks.describe(cloudformation, wanted.name))
    known = registry.get(options.id)
    plan = Plan(
        institution=options.id,
        stack=wanted,
        trust=trust,
        step=step,
        registration=registration,
        register=differs(known, registration),
        known=known,
    )
    print(describe(plan, registry.api))
    if account:
        print(_its_own_side(account, city, session.region_name))
    if plan.empty:
        print("Nothing to do." if not waits(known, registration) else f"Nothing to do. {_waiting(options.id, known or {})}")
    if options.dry_run:
        print("Dry run: nothing was done.")
        return
    if not plan.empty:
        _bring_in(options, cloudformation, registry, plan)
    if options.out:
        deployed = stacks.outputs(stacks.describe(cloudformation, wanted.name) or {}) if wanted else {}
        _hand_over(options, registry.api, session.region_name, city, registration, trust, deployed)


def _bring_in(options: argparse.Namespace, cloudformation: Any, registry: RegistryClient, plan: Plan) -> None:
    """Deploy and register what the plan says. Raises StackFailed, RegistryRefused."""
    wanted, registration, role_arn = plan.stack, plan.registration, plan.registration["role_arn"]
    if wanted:
        done = stacks.deploy(cloudformation, wanted)
        print(f"{wanted.name}: {'unchanged' if done == 'nothing' else done + 'd'}")
        deployed = stacks.outputs(stacks.describe(cloudformation, wanted.name) or {})
        if "CertificateProfileArn" in deployed:
            print(f"The forwarder's credential helper names the profile {deployed['CertificateProfileArn']}")
    if plan.register:
        counts = registry.put(options.id, registration)
        print(f"{options.id}: registered with {counts.get('role_arn', role_arn)}")
        if counts.get("proposed_role_arn"):
            print(_waiting(options.id, counts))


def _waiting(institution: str, registration: Registration) -> str:
    """What is said of a new role that waits."""
    return (
        f"{registration.get('proposed_role_arn')} waits: the institution confirms it, signed by the role that it has "
        f"(python -m infra.onboard {institution} --confirm --role-arn {registration.get('proposed_role_arn')} "
        "--profile ITS-OWN --api URL), "
        f"or it counts from {registration.get('takes_effect_at')} on."
    )


def _hand_over(
    options: argparse.Namespace,
    api: str,
    region: str,
    city: dict[str, str],
    registration: Registration,
    trust: Trust,
    deployed: dict[str, str],
) -> None:
    """Issue the certificate that was asked for, and write what the hospital's IT is handed. Raises UnusableOption, OSError."""
    member = handover.Membership(
        options.id,
        registration["name"],
        registration["patient_id_issuer"],
        api,
        region,
        city["BucketName"],
        deployed.get("RoleArn") or registration["role_arn"] or "",
        tuple(registration["ae_titles"]),
        tuple(registration.get("issuer_names", ())),
        _adt_codes(options.adt_code),
        trust.trust_anchor,
        deployed.get("CertificateProfileArn", ""),
        trust.common_name,
    )
    try:
        issued = (
            handover.certificate(
                authority.Authority(options.authority),
                trust.common_name,
                options.csr.read_bytes(),
                authority.passphrase(),
                datetime.now(UTC),
            )
            if options.csr
            else None
        )
    except authority.UnusableRequest as error:
        raise UnusableOption(str(error)) from error
    for path in handover.write(options.out, member, issued):
        print(f"  handed   {path}")
    print(handover.report(member, issued))


def _adt_codes(given: list[str]) -> dict[str, str]:
    """`CODE=ID` each. Raises UnusableOption."""
    codes = dict(text.partition("=")[::2] for text in given)
    if not all(code and institution for code, institution in codes.items()):
        raise UnusableOption("--adt-code is CODE=ID: a code of this hospital's ADT, and the institution that it means")
    return codes


def _opened(options: argparse.Namespace) -> bytes:
    """The passphrase that opens the authority whose certificates are to be revoked. Raises UnusableOption."""
    try:
        given = authority.passphrase()
        authority.Authority(options.authority).check(given)
    except authority.UnusableRequest as error:
        raise UnusableOption(str(error)) from error
    return given


def _revoke(options: argparse.Namespace, session: Any, passphrase: bytes) -> None:
    """The certificates of one that is taken out are revoked, and where its trust anchor is named, that is told to AWS.

    Raises ClientError, BotoCoreError, after the list was written.
    """
    name = options.certificate_cn or _common_name(options.id)
    count, crl = handover.revoke(authority.Authority(options.authority), name, passphrase, datetime.now(UTC))
    (options.authority / "crl.pem").write_bytes(crl)
    print(f"{name}: {count} certificates revoked; {options.authority / 'crl.pem'} says so")
    if options.trust_anchor_arn:
        client = session.client("rolesanywhere")
        if where.is_local(client, where.endpoints(options.endpoints)):
            print(f"{options.trust_anchor_arn} is told nothing: {authority.IN_AWS_ONLY}")
            return
        authority.publish(client, options.trust_anchor_arn, "contenitore", crl)
        print(f"{options.trust_anchor_arn} refuses them from now on")


def _common_name(institution: str) -> str:
    return f"forwarder.{institution}"


def confirm(options: argparse.Namespace, registry: RegistryClient) -> None:
    """As the institution itself: let its new role count, the one that `--role-arn` names. Raises RegistryRefused."""
    counts = registry.confirm(options.id, options.role_arn)
    print(f"{options.id}: {counts['role_arn']} counts from now on")


def remove(options: argparse.Namespace, session: Any, registry: RegistryClient) -> None:
    """Take the institution out: its role is a stranger from now on. With --delete-stack the role goes too; with --authority its
    certificates are revoked. What fails of these two does not keep back the other.

    Raises UnusableOption, before anything is done; RegistryRefused; NotAllDone.
    """
    name = role_name(options.city, options.id)
    if options.dry_run:
        print(f"  remove   {registry.api}/institutions/{options.id}")
        if options.delete_stack:
            print(f"  delete   stack {name}")
        if options.authority:
            print(f"  revoke   certificates of {options.certificate_cn or _common_name(options.id)}")
            if options.trust_anchor_arn:
                print(f"  tell     {options.trust_anchor_arn}")
        print("Dry run: nothing was done.")
        return
    passphrase = _opened(options) if options.authority else b""
    was_registered = registry.delete(options.id)
    print(f"{options.id}: {'no longer registered' if was_registered else 'was not registered'}")
    left: list[str] = []
    if options.delete_stack:
        try:
            _delete_stack(session, name)
        except (StackFailed, ClientError, BotoCoreError) as error:
            left.append(f"the stack {name} is there still: {error}")
    if options.authority:
        try:
            _revoke(options, session, passphrase)
        except (ClientError, BotoCoreError) as error:
            left.append(f"that its certificates are revoked is not published: {error}")
    if left:
        raise NotAllDone(f"{options.id} is no member any more, but {'; '.join(left)}. The same command again does what is left.")


def _delete_stack(session: Any, name: str) -> None:
    """Raises StackFailed, ClientError, BotoCoreError."""
    cloudformation = session.client("cloudformation")
    if stacks.describe(cloudformation, name):
        stacks.delete(cloudformation, name)
        print(f"{name}: deleted")
    else:
        print(f"{name}: there is no such stack")


def _trust(options: argparse.Namespace, city: dict[str, str]) -> Trust:
    """Who may act as the institution. Where nobody is named: whoever the city's own account allows to."""
    principals = tuple(options.principal_arn)
    if not principals and not options.trust_anchor_arn and not options.certificate_cn:
        principals = (city["OperatorRoleArn"].rpartition("role/")[0] + "root",)
    common_name = options.certificate_cn or (_common_name(options.id) if options.trust_anchor_arn and options.csr else "")
    return check_trust(Trust(principals, options.trust_anchor_arn or "", common_name))


def _another_account(role_arn: str, city: dict[str, str]) -> str:
    """The AWS account of a role, where it is not the city's; else empty."""
    role, operator = role_of(role_arn), role_of(city["OperatorRoleArn"])
    return role[0] if role and operator and role[0] != operator[0] else ""


def _check_account(account: str, city: dict[str, str], stack: str) -> None:
    """Whether the API lets roles of another account in. Raises UnusableOption, with what would."""
    named = city.get("MemberAccounts", "")
    if account in named.split(","):
        return
    raise UnusableOption(
        f"--role-arn is of the AWS account {account}, and the API lets no role of that account in: its calls would all be "
        f"refused (403). Who deploys the city names the account first (docs/own-account.md, 2):\n"
        f"  aws cloudformation deploy --stack-name {stack} --template-file build/packaged.json --s3-bucket ARTIFACTS "
        f"--capabilities CAPABILITY_NAMED_IAM CAPABILITY_AUTO_EXPAND "
        f"--parameter-overrides MemberAccounts={','.join(filter(None, (named, account)))}"
    )


def _its_own_side(account: str, city: dict[str, str], region: str) -> str:
    """What the other account has to allow itself: the city cannot see it."""
    partition, own = city["OperatorRoleArn"].split(":")[1], city["OperatorRoleArn"].split(":")[4]
    return (
        f"           in the account {account} the role's own policy must allow execute-api:Invoke on "
        f"arn:{partition}:execute-api:{region}:{own}:{city['ApiId']}/{STAGE}/*"
    )


def _asked(options: argparse.Namespace) -> dict[str, object]:
    """What of the registration may be left as it is, where the command names it."""
    given = {"issuer_names": options.issuer_name, "corrections": options.corrections}
    return {key: value for key, value in given.items() if value is not None}


def _role_arn(city: dict[str, str], name: str) -> str:
    """The ARN of a role beside the operator's: same partition, same account."""
    return city["OperatorRoleArn"].rpartition("role/")[0] + f"role/{name}"


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.onboard", description="Bring an institution into the city.")
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("id", help="its id: 3 to 40 of a-z, 0-9 and hyphen")
    parser.add_argument("--name", help="its name, as people read it")
    parser.add_argument("--issuer-oid", help="the OID under which it numbers its patients")
    parser.add_argument("--ae-title", action="append", default=[], help="an AE title of its PACS (may be repeated)")
    parser.add_argument(
        "--issuer-name",
        action="append",
        help="what its systems write as Issuer of Patient ID for its own numbering (may be repeated; left out: as it is)",
    )
    parser.add_argument(
        "--corrections",
        choices=("accept", "conflict"),
        help="what becomes of its own instance that comes again with other patient or order data (left out: as it is)",
    )
    who = parser.add_argument_group(
        "who acts as the institution", "Where nobody is named: whoever the city's own AWS account allows to."
    )
    who.add_argument(
        "--principal-arn",
        action="append",
        default=[],
        help="a principal of its own account (may be repeated)",
    )
    who.add_argument("--trust-anchor-arn", help="the authority of its certificate (IAM Roles Anywhere)")
    who.add_argument("--certificate-cn", help="the common name of its certificate")
    who.add_argument(
        "--role-arn",
        help="a role that exists; no stack is deployed. One of another AWS account needs the city's parameter MemberAccounts."
        " With --confirm: the role that is confirmed",
    )
    handed = parser.add_argument_group("what the hospital's IT is handed")
    handed.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write configuration, credentials, unit, firewall list, report"
    )
    handed.add_argument("--csr", type=Path, metavar="FILE", help="the forwarder's certificate request; a new one renews")
    handed.add_argument(
        "--authority", type=Path, metavar="FOLDER", help="of infra.authority: signs --csr; with --remove: revokes"
    )
    handed.add_argument(
        "--adt-code",
        action="append",
        default=[],
        metavar="CODE=ID",
        help="by a code of its own ADT, the institution (repeatable)",
    )
    where.add_arguments(parser).add_argument(
        "--api", type=command_line.address, help="the API's address (default: what the city's stack says)"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done; only read")
    parser.add_argument("--confirm", action="store_true", help="as the institution itself: confirm its new role, which waits")
    parser.add_argument("--remove", action="store_true", help="take the institution out of the registry")
    parser.add_argument("--delete-stack", action="store_true", help="with --remove: delete its role, too")
    return parser


def _carry_out(options: argparse.Namespace) -> None:
    if options.csr and not (options.authority and options.out):
        raise UnusableOption("--csr needs --authority, which signs it, and --out, where the certificate goes")
    if options.delete_stack and not options.remove:
        raise UnusableOption("--delete-stack needs --remove: it takes the role of one that goes")
    if options.remove and options.trust_anchor_arn:
        if not options.authority:
            raise UnusableOption("--remove with --trust-anchor-arn needs --authority, which says what is revoked")
        _check_trust_anchor(options.trust_anchor_arn)
    endpoints = where.endpoints(options.endpoints)
    session = where.session(options, endpoints)
    city = {} if options.confirm else where.outputs(session, options.city)  # an institution reads no stack of the city
    api = options.api or endpoints.get("api") or city.get("ApiUrl")
    if not api:
        raise UnusableOption("the city's stack does not say where its API is: --api")
    credentials = session.get_credentials()
    if credentials is None:
        raise UnusableOption(f"the profile {options.profile} has no credentials")
    registry = RegistryClient(api, credentials.get_frozen_credentials(), session.region_name)
    if options.confirm:
        confirm(options, registry)
    elif options.remove:
        remove(options, session, registry)
    else:
        onboard(options, session, registry, city)


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when all is as asked, 1 when AWS or the API refused, 2 when it cannot be asked so."""
    options = _arguments().parse_args(arguments)
    try:
        _carry_out(options)
        sys.stdout.flush()
    except BrokenPipeError:
        return command_line.unread()
    except KeyboardInterrupt:
        print("onboard: stopped; the same command again does what remains", file=sys.stderr)
        return 1
    except (StackFailed, RegistryRefused, NotAllDone, BotoCoreError, ClientError, requests.RequestException) as error:
        print(f"onboard: {command_line.told(error)}", file=sys.stderr)
        return 1
    except (UnusableOption, command_line.UnusableFile, where.NoSuchCity, OSError) as error:
        print(f"onboard: {command_line.told(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
