"""How the hospitals' forwarders are, in words: each one's last sign of life, what is wrong there, and what to do about it.

What a trouble means and what the hospital does about it are the texts of the forwarder's own page; what the hospital cannot mend
is the operator's, and stands here.
"""

from typing import Any

from forwarder.alerts import advise, texts

_REPORT = "ask for its line of the log, and report it with the version"
_TRY = "`python -m infra.operate canary` tries the archive from outside; docs/runbook.md, by the alarm that rings"
HERE = {
    "server": _TRY,
    "connection-refused": _TRY,
    "credentials": "`python -m infra.authority FOLDER list` says whether its certificate holds; docs/certificates.md renews it",
    "credentials-not-renewed": "`python -m infra.authority FOLDER list` says whether its certificate holds;"
    " docs/certificates.md renews it",
    "refused": "the command of docs/onboarding.md, 2, with --dry-run says whether its role is there and registered; without, it"
    " does what is missing",
    "unknown-institution": "register its role: the command of docs/onboarding.md, 2",
    "certificate-ends": "sign the request that it sends: docs/onboarding.md, *Later*",
    "delivery-unforeseen": _REPORT,
    "part-stumbles": _REPORT,
}
"""What the operator does, where the hospital alone does not get on."""
_SILENT = (
    "Nothing was heard for ten minutes: its machine, its line or its credentials. What it has is safe in its spool.",
    "Call it: the forwarder's page, and `contenitore-forwarder check` on its machine, say which. Start the service if it stands.",
    "if several are silent at once, the archive does not hear them: " + _TRY,
)
_NEVER = "Its forwarder was not started yet, or does not reach the archive: docs/onboarding.md, 3; `contenitore-forwarder check`."
_OTHER_CONTRACT = (
    "Both go on, with what both know; the older side is the next to be updated: docs/deploy.md (archive), docs/forwarder.md."
)


def told(sign: dict[str, Any]) -> list[str]:
    """A forwarder's last sign in a line, and below it what is wrong and what to do: at the hospital, and here."""
    if sign["age_seconds"] is None:
        return [f"{sign['institution']}  no sign of life yet", f"    {_NEVER}"]
    lines = [_line(sign)]
    if sign["silent"]:
        lines += _advised("silent", *_SILENT)
    if sign["contract"] != sign["archive_contract"]:
        lines.append(f"    contract: {_OTHER_CONTRACT}")
    for trouble in sign["troubles"]:
        meaning = texts("en").get(f"trouble.{trouble}")
        if meaning is None:
            lines.append(f"    {trouble}: only docs/forwarder.md of its version, {sign['version']}, says what this is")
        else:
            lines += _advised(trouble, meaning, advise(trouble), HERE.get(trouble, ""))
    return lines


def _advised(name: str, meaning: str, there: str, here: str) -> list[str]:
    return [f"    {name}: {meaning}", f"        at the hospital: {there}", *([f"        here: {here}"] if here else [])]


def _line(sign: dict[str, Any]) -> str:
    line = {True: "line open", False: "line closed", None: "line not tried"}[sign["line_open"]]
    oldest, days, free = sign["oldest_waiting_seconds"], sign["certificate_days"], sign["disk_free_bytes"]
    waiting = f"{sign['waiting'] or 0:.0f} waiting" + (f", the oldest for {oldest:.0f} s" if oldest is not None else "")
    version = f"version {sign['version']}"
    if sign["contract"] != sign["archive_contract"]:
        version += f" (contract {sign['contract']}, the archive's is {sign['archive_contract']})"
    parts = [sign["institution"], "SILENT" if sign["silent"] else "alive", f"{sign['age_seconds']} s ago", version, waiting, line]
    if free is not None:
        parts.append(f"disk {free / 1e9:.1f} GB free")
    if days is not None:
        parts.append(f"certificate for {days:.0f} days")
    return "  ".join([*parts, ", ".join(sign["troubles"]) or "no troubles"])
