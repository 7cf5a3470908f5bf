"""``python -m infra.operate``: the archive seen and mended by its operator, who is shown no image and no patient.

``reconcile`` and ``rebuild`` start jobs in a function of the stack, call after call until they are through, and print counts and
UIDs. ``letters`` shows what the archive could not do in many tries, with the cause, and has it tried again. ``erase`` takes two.
``stop``, ``carry-over`` and ``start`` are an administrator's, while the table is restored.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import requests
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.adapters.dynamodb import DynamoTable
from chalicelib.config import VERSION
from chalicelib.domain.erasures import DEFAULT_DAYS
from chalicelib.domain.errors import ContenitoreError
from chalicelib.domain.institutions import CANARY
from chalicelib.services.audit import acting
from chalicelib.services.audit.trail import Trail
from infra import carry_over as carrying
from infra import command_line, cost, standstill, where, workload
from infra import forwarders as signs
from infra import letters as set_aside
from infra.deployed import DeployedCity, OperationFailed
from infra.registry import RegistryClient, RegistryRefused

_PATIENT = Config(connect_timeout=5, read_timeout=330, retries={"total_max_attempts": 1})
_MANY = Config(retries={"mode": "standard", "total_max_attempts": 10}, max_pool_connections=carrying.SEGMENTS)
_DATED = ("region", "date", "source")


_CANARY = {
    "name": "Canary (no hospital: it tries the archive)",
    "patient_id_issuer": "2.25.301594275412906581537411203741820361177",
    "ae_titles": [],
}
"""Its registration. The OID is of the arc that needs no register (ITU-T X.667)."""
_TICK = {
    "version": "0", "id": "operator", "detail-type": "Scheduled Event", "source": "operator", "account": "", "time": "",
    "region": "", "resources": [], "detail": {},
}  # fmt: skip
"""What a function that runs by the clock is called with."""


# Jobs --------------------------------------------------------------------------------------------------------------


def reconcile(city: DeployedCity, options: argparse.Namespace) -> int:
    """What differs among objects, facts and views, and, with --mend, made good: 1 while something differs."""
    findings: list[dict[str, Any]] = []

    def told(answer: dict[str, Any]) -> None:
        for finding in answer["findings"]:
            findings.append(finding)
            if not options.json:
                print(_line(finding))

    asked = {"older_than": options.older_than, "mend": options.mend, "every_object": options.every_object}
    job = _job(city, options, "reconcile") | asked
    counted = city.through(job, told, options.start)
    told({"findings": _set_aside(city, options)})
    left = sum(not finding["mended"] for finding in findings)
    result = {**counted, "differ": len(findings), "mended": len(findings) - left}
    if options.json:
        print(json.dumps({"findings": findings, **result}))
    else:
        print(", ".join(f"{count} {name}" for name, count in result.items()))
    return 1 if left else 0


def rebuild(city: DeployedCity, options: argparse.Namespace) -> int:
    """All views anew from the facts, while the archive serves."""
    counted = city.through(_job(city, options, "rebuild"), lambda _: None, options.start)
    print(json.dumps({"studies": counted["studies"]}) if options.json else f"{counted['studies']} studies made anew")
    return 0


def _job(city: DeployedCity, options: argparse.Namespace, name: str) -> dict[str, Any]:
    by = str(city.session.client("sts").get_caller_identity()["Arn"]).rpartition("/")[2]
    return {"job": name, "by": by, **({"institution": options.institution} if options.institution else {})}


def _line(finding: dict[str, Any]) -> str:
    named = (f"study {finding['study_instance_uid']}" if finding.get("study_instance_uid") else "",
             f"instance {finding['sop_instance_uid']}" if finding.get("sop_instance_uid") else "",
             f"object {finding['sha256']}" if finding.get("sha256") else "")  # fmt: skip
    state = "mended" if finding["mended"] else "differs"
    return "  ".join([state, finding["institution"], finding["kind"], *filter(None, named)])


def forwarders(city: DeployedCity, options: argparse.Namespace) -> int:
    """Each hospital's forwarder as it said last, what is wrong there, and what to do about it."""
    shown = city.run({"job": "forwarders"})["forwarders"]
    if options.json:
        print(json.dumps({"forwarders": shown}))
        return 0
    for line in (line for sign in shown for line in signs.told(sign)):
        print(line)
    if not shown:
        print("No institution is registered yet: docs/onboarding.md")
    return 0


def canary(city: DeployedCity, options: argparse.Namespace) -> int:
    """The archive tried from outside, now: --join registers the institution that tries it. 1 where it failed or is off."""
    if options.join:
        addresses = where.endpoints(options.endpoints)
        api = addresses.get("api") or city.outputs["ApiUrl"]
        credentials = city.session.get_credentials().get_frozen_credentials()
        RegistryClient(api, credentials, city.session.region_name).put(
            CANARY, {**_CANARY, "role_arn": city.outputs["CanaryRoleArn"]}
        )
    client = city.session.client("lambda", config=_PATIENT)
    answer = client.invoke(FunctionName=f"{city.stack}-canary", Payload=json.dumps(_TICK).encode())
    flown: dict[str, Any] = json.loads(answer["Payload"].read())
    if answer.get("FunctionError") or "state" not in flown:
        flown = {"state": "failed"}
    hint = {
        "passed": "",
        "off": "  nobody has registered it: --join",
        "failed": "  its log says at which step (output CanaryLogName)",
    }
    text = "  ".join(f"{name} {value}" for name, value in flown.items() if name != "state")
    print(json.dumps(flown) if options.json else f"{flown['state']}{hint[flown['state']]}  {text}".rstrip())
    return 0 if flown["state"] == "passed" else 1


def usage(city: DeployedCity, options: argparse.Namespace) -> int:
    """What each institution stored and asked for in a month, and what that comes to."""
    prices = workload.prices(options.prices)
    job: dict[str, Any] = {"job": "usage", "month": options.month or f"{datetime.now(UTC):%Y-%m}"}
    used: dict[str, Counter[str]] = {}
    progress = None
    while True:
        answer = city.run({**job, "progress": progress} if progress else job)
        for page in answer["usage"]:
            used.setdefault(page.pop("institution"), Counter()).update(page)
        progress = answer["progress"]
        if progress is None:
            break
    shown: list[dict[str, Any]] = [
        {"institution": institution, **counts, "cost_usd": round(cost.of_institution(counts, prices, workload.counted()), 8)}
        for institution, counts in sorted(used.items())
    ]
    if options.json:
        print(json.dumps({"month": job["month"], "prices": {name: prices[name] for name in _DATED}, "usage": shown}))
        return 0
    print(f"{job['month']}, by the list prices of {prices['region']} on {prices['date']}")
    for entry in shown:
        stored = f"{entry['stored_instances']} stored, {entry['stored_bytes'] / 1e9:.3f} GB"
        came = f"{entry['instances']} came, {entry['bytes'] / 1e9:.3f} GB"
        print(
            "  ".join([str(entry["institution"]), came, stored, f"{entry['requests']} requests", f"{entry['cost_usd']:.4f} USD"])
        )
    return 0


# Letters -----------------------------------------------------------------------------------------------------------


def letters(city: DeployedCity, options: argparse.Namespace) -> int:
    """What was set aside, with its cause; with --redrive, what was to be indexed is tried again. 1 while letters are left.

    A part of the stream is not: its letter names no fact, and comparing views does not tell whom a fact was to tell.
    """
    client = city.session.client("sqs")
    instances = list(set_aside.read(client, city.outputs["InstancesDeadLetterQueueUrl"]))
    projections = list(set_aside.read(client, city.outputs["ProjectorDeadLetterQueueUrl"]))
    set_aside.show_again(client, projections if options.redrive else [*instances, *projections])
    causes = set_aside.causes_of(city, [named for letter in instances for named in letter.objects])
    shown: list[dict[str, Any]] = []
    for letter in instances:
        known = [f"{sha}: {causes.get((institution, sha), 'unknown')}" for institution, sha in letter.objects]
        cause = "; ".join(known) or "it is not what S3 sends"
        shown.append({"queue": "instances", "cause": cause, "objects": len(letter.objects)})
    shown += [{"queue": "projections", "cause": set_aside.given_up(letter.body), "objects": 0} for letter in projections]
    redriven = set_aside.redrive(city, client, instances) if options.redrive else 0
    if options.json:
        print(json.dumps({"letters": shown, "redriven": redriven}))
    else:
        for entry in shown:
            print(f"{entry['queue']}  {entry['cause']}")
        print(f"{len(shown)} letters, {redriven} tried again")
    return 0 if len(shown) == redriven else 1


def _set_aside(city: DeployedCity, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Letters of the indexer, as `reconcile` finds them: with --mend they are tried again, once what they tell of is mended."""
    client = city.session.client("sqs")
    every = list(set_aside.read(client, city.outputs["InstancesDeadLetterQueueUrl"]))
    mine = [letter for letter in every if letter.objects and options.institution in (None, letter.objects[0][0])]
    if options.mend:
        set_aside.redrive(city, client, mine)
    set_aside.show_again(client, [letter for letter in every if not (options.mend and letter in mine)])
    firsts = [letter.objects[0] for letter in mine]
    return [{"kind": "letter-set-aside", "institution": owner, "sha256": sha, "mended": options.mend} for owner, sha in firsts]


# Erasing -----------------------------------------------------------------------------------------------------------


def erase(city: DeployedCity, options: argparse.Namespace) -> int:
    """All of an institution that left: asked for by one operator, confirmed by another: 1 until all is gone.

    It asks where nothing stands, or where it is told what to ask for; it confirms with `--confirm`, and without what leaves the
    usual days to take it back. Else it shows.
    """
    registry = city.registry(options.api)
    if options.cancel:
        return _told(registry.erasure("DELETE", options.institution), options)
    if options.confirm is not None:
        return _told(_put(registry, {"confirm": options.confirm}, options), options)
    known = registry.erasure("GET", options.institution)
    if options.status:
        return _told(known, options)
    if _asks(options) or known is None or known["state"] in ("cancelled", "done"):
        said = {"reason": "the institution left" if options.reason is None else options.reason, "after_days": options.after_days}
        return _told(_put(registry, {name: value for name, value in said.items() if value is not None}, options), options)
    if known["state"] == "confirmed" and datetime.fromisoformat(known["due_at"]) <= datetime.now(UTC):
        city.tick("erase")
        return _told(registry.erasure("GET", options.institution), options)
    if known["state"] == "asked" and known["after_days"] >= DEFAULT_DAYS:
        return _told(_put(registry, {"confirm": known["confirm"]}, options), options)
    return _told(known, options)


def _asks(options: argparse.Namespace) -> bool:
    """Whether it is said what is asked for."""
    return options.reason is not None or options.after_days is not None


def _put(registry: RegistryClient, said: dict[str, Any], options: argparse.Namespace) -> dict[str, Any] | None:
    """Ask or confirm. Where that is refused, what stands is shown first. Raises RegistryRefused."""
    try:
        return registry.erasure("PUT", options.institution, said)
    except RegistryRefused as error:
        if error.status == 404:
            raise OperationFailed(
                f"{options.institution} never was an institution: `usage` names every one that is or was"
            ) from error
        if not options.json:
            _told(registry.erasure("GET", options.institution), options)
        raise


def _told(erasure: dict[str, Any] | None, options: argparse.Namespace) -> int:
    """Print how an erasure stands: who asked for what and when, who confirmed, when it goes, and what confirms it."""
    if options.json:
        print(json.dumps({"erasure": erasure}))
    elif erasure is None:
        print(f"{options.institution}: no erasure was ever asked for")
    else:
        asked = f"asked for by {erasure['asked_by']} at {erasure['asked_at']}, since {erasure['reason']!r}"
        confirmed = f"confirmed by {erasure['confirmed_by']} at {erasure['confirmed_at']}"
        waits = f"all of it goes {erasure['after_days']} days after another operator confirms it"
        said = {"asked": f"{asked}; {waits}: erase {options.institution} --confirm {erasure['confirm']}",
                "confirmed": f"{asked}; {confirmed}; due {erasure['due_at']}",
                "done": f"gone since {erasure['done_at']}", "cancelled": "taken back"}[erasure["state"]]  # fmt: skip
        counts = ", ".join(f"{count} {name}" for name, count in erasure["erased"].items() if name != "digest")
        print(f"{options.institution}: {said}; {counts}, chain {erasure['erased']['digest']}")
    return 0 if erasure is not None and erasure["state"] in ("done", "cancelled") else 1


# A restore -----------------------------------------------------------------------------------------------------------


def stop(city: DeployedCity, options: argparse.Namespace) -> int:
    """Nothing runs any more, so that the table can be replaced: until start."""
    return _stood("stopped", standstill.stop(city.session, city.stack, _a_moment), options)


def start(city: DeployedCity, options: argparse.Namespace) -> int:
    """Everything runs again: after stop."""
    return _stood("started", standstill.start(city.session, city.stack, _a_moment), options)


def _stood(what: str, functions: int, options: argparse.Namespace) -> int:
    print(json.dumps({what: functions}) if options.json else f"{what}: {functions} functions, with what calls them")
    return 0


def _a_moment() -> None:
    time.sleep(2)


def carry_over(city: DeployedCity, options: argparse.Namespace) -> int:
    """What ends or hides, carried over into the restored table: from the one of before, before anything runs again."""
    client = city.session.client("dynamodb", config=_MANY)
    name = city.outputs["TableName"]
    if options.before == name:
        raise OperationFailed("--from is the table of before under another name, restored from its backup")
    before, after = DynamoTable(client, options.before), DynamoTable(client, name)
    act = acting.scheduled(Trail(after, options.retention_years), "carry-over")
    _see_table(client, options.before, city)
    parts = [partial(carrying.scanned, client, options.before, segment) for segment in range(carrying.SEGMENTS)]
    counts = carrying.carry_over(carrying.Restored(before, after, act, datetime.now(UTC)), parts)
    anew = carrying.changed_since(before, after)
    by_institution: dict[str, dict[str, int]] = {}
    for (institution, what), count in sorted(counts.items()):
        by_institution.setdefault(institution, {})[what] = count
    if options.json:
        print(json.dumps({"carried_over": by_institution, "to_be_registered_anew": anew}))
        return 0
    for institution, found in by_institution.items():
        print(f"{institution}  " + ", ".join(f"{count} {what}" for what, count in found.items()))
    for institution in anew:
        print(f"{institution}  was registered, or changed, since: give its registration anew")
    print(f"{sum(counts.values())} carried over")
    return 0


def _see_table(client: Any, name: str, city: DeployedCity) -> None:
    """Raises OperationFailed where there is no such table."""
    try:
        client.describe_table(TableName=name)
    except client.exceptions.ResourceNotFoundException as error:
        raise OperationFailed(
            f"there is no table {name} in {city.session.region_name}: `aws dynamodb list-tables` names those that there are"
        ) from error


# The command -------------------------------------------------------------------------------------------------------

COMMANDS: dict[str, Callable[[DeployedCity, argparse.Namespace], int]] = {
    "canary": canary,
    "carry-over": carry_over,
    "erase": erase,
    "forwarders": forwarders,
    "letters": letters,
    "rebuild": rebuild,
    "reconcile": reconcile,
    "start": start,
    "stop": stop,
    "usage": usage,
}


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.operate", description=__doc__)
    parser.add_argument("--version", action="version", version=VERSION)
    where.add_arguments(parser)
    commands = parser.add_subparsers(dest="command", required=True)
    made = {name: commands.add_parser(name, help=(run.__doc__ or "").partition(":")[0]) for name, run in COMMANDS.items()}
    for command in made.values():
        where.add_arguments(command, again=True)
        command.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    for name in ("reconcile", "rebuild"):
        made[name].add_argument(
            "--institution", type=command_line.institution, metavar="ID", help="this one only (default: every institution)"
        )
        made[name].add_argument("--from", dest="start", type=_place, metavar="PLACE", help="where one stopped, as it said")
    made["reconcile"].add_argument(
        "--older-than", type=float, default=900, metavar="SECONDS", help="leave out what is younger (default: 900)"
    )
    made["reconcile"].add_argument(
        "--every-object", action="store_true", help="ask for the bytes of instances that came over 30 days ago, too"
    )
    made["reconcile"].add_argument("--mend", action="store_true", help="make good what differs")
    made["canary"].add_argument("--join", action="store_true", help="register the institution that tries the archive")
    made["usage"].add_argument("--month", type=command_line.month, metavar="YYYY-MM", help="default: this one")
    made["usage"].add_argument(
        "--prices", type=Path, metavar="FILE", default=workload.PRICES, help="prices as in infra/prices.json"
    )
    made["erase"].add_argument("institution", type=command_line.institution, metavar="ID", help="an institution that left")
    made["erase"].add_argument("--reason", help="why it is asked for, for the audit (default: the institution left)")
    made["erase"].add_argument(
        "--after-days", type=int, metavar="N", help="ask for it so many days after its confirmation, not before (default: 30)"
    )
    otherwise = made["erase"].add_mutually_exclusive_group()
    otherwise.add_argument("--confirm", metavar="DIGEST", help="confirm, as another operator, exactly what was shown with this")
    otherwise.add_argument("--status", action="store_true", help="how it stands, and nothing else")
    otherwise.add_argument("--cancel", action="store_true", help="take it back, as long as it has not begun")
    made["erase"].add_argument("--api", type=command_line.address, help="address of the API (default: from the stack)")
    made["carry-over"].add_argument(
        "--from", dest="before", type=command_line.table, required=True, metavar="TABLE", help="the table of before"
    )
    made["carry-over"].add_argument(
        "--retention-years",
        type=command_line.whole_retention,
        default=10,
        metavar="N",
        help="AuditRetentionYears of the stack (default: 10)",
    )
    made["letters"].add_argument("--redrive", action="store_true", help="have them tried again")
    return parser


def _place(text: str) -> str:
    """Where a job goes on, as `DeployedCity.through` says it."""
    if text.count(":") < 2:
        raise argparse.ArgumentTypeError("it is what a job that stopped said: STAGE:INSTITUTION:AFTER")
    return text


def main(arguments: list[str] | None = None) -> int:
    """The command. 0 when nothing is left to do, 1 when something is, 2 when the archive could not be asked."""
    parser = _arguments()
    options = parser.parse_args(arguments)
    if options.command == "erase" and _asks(options) and (options.confirm is not None or options.status or options.cancel):
        parser.error("--reason and --after-days ask for an erasure; --confirm, --status and --cancel do not")
    try:
        addresses = where.endpoints(options.endpoints)
        session = where.session(options, addresses)
        if options.command == "erase":
            options.api = options.api or addresses.get("api")
        city = DeployedCity(session, where.outputs(session, options.city), options.city)
        code = COMMANDS[options.command](city, options)
        sys.stdout.flush()
    except BrokenPipeError:
        return command_line.unread()
    except KeyboardInterrupt:
        print("operate: stopped; the same command again does the rest, or says how it stands", file=sys.stderr)
        return 2
    except (
        OperationFailed,
        ContenitoreError,
        RegistryRefused,
        command_line.UnusableFile,
        where.NoSuchCity,
        requests.RequestException,
        BotoCoreError,
        ClientError,
        OSError,
    ) as error:
        print(f"operate: {command_line.told(error)}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
