"""The configuration: one TOML file, every key checked at start.

A key that is unknown, missing, of the wrong type or out of bounds is a ConfigError that names it.
"""

# ruff: noqa: RUF009  # `option` makes dataclass fields, which is what dataclass defaults are

from __future__ import annotations

import dataclasses
import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from forwarder.errors import ConfigError

Check = Callable[[Any], str | None]
"""What is wrong with a value, in words, or None."""


def _between(low: float, high: float) -> Check:
    return lambda value: None if low <= value <= high else f"should be between {low:g} and {high:g}"


def _one_of(*allowed: str) -> Check:
    return lambda value: None if value in allowed else "should be one of " + ", ".join(f"“{a}”" for a in allowed)


def _ae_title(value: str) -> str | None:
    """PS3.5 6.2: at most 16 characters of the default repertoire, not only blanks, no backslash."""
    good = bool(value.strip()) and len(value) <= 16 and value.isascii() and value.isprintable()
    return None if good and "\\" not in value else "should be an AE title: 1 to 16 printable ASCII characters"


def _time(value: str) -> str | None:
    hours, _, minutes = value.partition(":")
    good = (
        value.isascii()
        and hours.isdigit()
        and minutes.isdigit()
        and int(hours) * 60 + int(minutes) <= 24 * 60
        and int(minutes) < 60
    )
    return None if good else "should be a time like “08:30”"


def _address(value: str) -> str | None:
    return None if value.startswith(("http://", "https://")) else "should begin with https://"


def _proxy(value: str) -> str | None:
    good = not value or (value.startswith(("http://", "https://")) and urlsplit(value).hostname)
    return None if good else "should be an address such as http://proxy.example.org:3128"


def _issuer(value: str) -> str | None:
    return None if not value else _address(value)


def _folder(value: str) -> str | None:
    return None if value.strip() else "should be the path of a folder"


def _network(value: str) -> str | None:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        return "should be an address or a network, such as “10.1.2.0/24”"
    return None


def _hours(value: str) -> str | None:
    start, dash, end = value.partition("-")
    return None if dash and not _time(start) and not _time(end) else "should be hours like “22:00-06:00”"


def _mark(value: str) -> str | None:
    return None if len(value) <= 40 and value.isprintable() and "\\" not in value else "should be at most 40 printable characters"


def _hl7_field(value: str) -> str | None:
    good = re.fullmatch(r"[A-Z][A-Z0-9]{2}-[1-9]\d?(\.[1-9]\d?)?", value)
    return None if good else "should be a field such as “OBR-18” or “IPC-1.1”"


def _segment(value: str) -> str | None:
    return None if re.fullmatch(r"(NTE|Z[A-Z0-9]{2})?", value) else "should be NTE, a segment such as “ZDS”, or empty"


def _destinations(found: dict[str, str]) -> str | None:
    good = all(code.strip() and re.fullmatch(r"([a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?)?", name) for code, name in found.items())
    return None if good else 'should name institutions by their id, as in {"MAUG" = "maugeri"}; an empty id: none of the city'


def _origin(value: str) -> str | None:
    """An origin (RFC 6454) as browsers name it; not “*”, since a browser brings a person's identity along by itself."""
    parts = urlsplit(value)
    good = parts.scheme in ("http", "https") and parts.hostname and value == f"{parts.scheme}://{parts.netloc}"
    return None if good else "should be an origin such as “https://viewer.hospital.example”"


def _public_url(value: str) -> str | None:
    return None if not value else _origin(value)


def _header_name(value: str) -> str | None:
    return None if re.fullmatch(r"[A-Za-z0-9-]{0,60}", value) else "should be the name of a header, such as “X-Remote-User”"


def _mail_address(value: str) -> str | None:
    good = not value or re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}", value)
    return None if good else "should be a mail address, such as “registry@hospital.example”"


def option(default: Any, text: str, check: Check | None = None, *, required: bool = False) -> Any:
    """One key: its default (or, if required, a value for the example), what it means, what it may be."""
    metadata = {"text": text, "check": check, "required": required}
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class ArchiveConfig:
    """The city's archive."""

    api: str = option("https://archive.example.org", "Address of the archive.", _address, required=True)
    profile: str = option("", "AWS profile (credential_process for Roles Anywhere); empty: the standard chain.")
    region: str = option("eu-south-1", "AWS region of the archive.")
    ca_file: str = option("", "PEM file of a private certificate authority to trust, for the hospital's proxy.")
    proxy: str = option("", "Address of an HTTP proxy, such as http://proxy.example.org:3128.", _proxy)
    timeout_seconds: int = option(60, "Patience with one answer.", _between(1, 900))
    feed_seconds: int = option(
        10, "The longest pause between two questions after what changed; more often costs the city more.", _between(1, 60)
    )


@dataclass(frozen=True)
class SpoolConfig:
    """Where instances wait, on a disk of this machine (not a network share)."""

    folder: str = option("/var/lib/contenitore-forwarder", "The spool's folder.", _folder, required=True)
    reserve_mb: int = option(
        1024, "Below this free space (MB) the PACS is answered 0xA700, to try later.", _between(1, 10_000_000)
    )
    history_days: int = option(30, "How long it is remembered that an instance was delivered.", _between(1, 3650))


@dataclass(frozen=True)
class TlsConfig:
    """The same over TLS (BCP 195 profile, PS3.15 B.12). Both ends show a certificate."""

    port: int = option(0, "Port for TLS (DICOM's is usually 2762); 0: none.", _between(0, 65535))
    certificate: str = option("", "PEM file of this machine's certificate (and chain).")
    key: str = option("", "PEM file of its private key.")
    ca_file: str = option("", "PEM file of the authorities whose certificates the senders show.")


@dataclass(frozen=True)
class DicomConfig:
    """What the PACS speaks to."""

    ae_title: str = option("CONTENITORE", "AE title of this forwarder.", _ae_title)
    address: str = option("0.0.0.0", "Network interface to listen on; 0.0.0.0: all.")  # noqa: S104  # the PACS is elsewhere
    port: int = option(11112, "Port without TLS; 0: none.", _between(0, 65535))
    allowed_callers: list[str] = option([], "Calling AE titles that may connect; empty: any.", _ae_title)
    check_called: bool = option(False, "Refuse associations that call another AE title than ours.")
    max_associations: int = option(32, "Associations at once.", _between(1, 500))
    idle_seconds: int = option(120, "An association that says nothing for so long is closed.", _between(5, 86400))
    extra_sop_classes: list[str] = option([], "UIDs of private storage SOP classes to accept too.")
    tls: TlsConfig = field(default_factory=TlsConfig)


@dataclass(frozen=True)
class AdtConfig:
    """ADT opens and accepts transfers by itself. Needs hl7.allowed_addresses and hl7.patient_authority."""

    enabled: bool = option(False, "Whether ADT is taken.")
    destinations: dict[str, str] = option(
        {},
        "By code in the fields below, the institution's id; an empty id: known, none of the city.",
        _destinations,
    )
    open: str = option(
        "always", "Whether a discharge opens always, or only with the patient's consent.", _one_of("always", "consent")
    )
    consent_field: str = option("ZCO-1", "Where the consent stands, for “consent”.", _hl7_field)
    consent_values: list[str] = option(["Y", "S", "SI", "1"], "What says yes there.")
    discharge_fields: list[str] = option(
        ["PV1-37", "PV1-36"], "Where a discharge (A03, A16) names where the patient goes.", _hl7_field
    )
    transfer_fields: list[str] = option(["PV1-3.4"], "The same for A02.", _hl7_field)
    pending_fields: list[str] = option(["PV1-42.4"], "The same for A15.", _hl7_field)
    pending_opens: bool = option(False, "Whether an announced discharge or transfer (A16, A15) opens at once.")
    admitted_from_fields: list[str] = option(
        ["PV1-14"], "Where an admission (A01) says where the patient comes from.", _hl7_field
    )
    visit_fields: list[str] = option(["PV1-19", "PID-18"], "Where the visit's number stands; the first one counts.", _hl7_field)
    codice_fiscale_types: list[str] = option(
        ["NNITA", "NN", "NI", "CF"], "Types (component 5) by which a codice fiscale is known in PID-3, besides its authority."
    )
    codice_fiscale_fields: list[str] = option(["PID-19"], "Where else it stands.", _hl7_field)
    accept_days: int = option(
        30, "An admission accepts a transfer that was opened at most so many days before.", _between(1, 365)
    )
    early_days: int = option(3, "Or after it, where the messages came the other way round.", _between(0, 30))
    max_age_days: int = option(7, "What happened longer ago opens and accepts nothing.", _between(1, 365))
    per_hour: int = option(
        30, "Acts (opening, accepting) in an hour; what is beyond waits for a person, and is an alarm.", _between(1, 1000)
    )


@dataclass(frozen=True)
class OrdersConfig:
    """Orders tell which exam is about to be made. Needs hl7.allowed_addresses and hl7.patient_authority, as ADT does."""

    enabled: bool = option(False, "Whether orders (ORM^O01, OMG^O19, OMI^O23) are taken.")
    modality_fields: list[str] = option(["IPC-5", "OBR-24"], "Where the modality stands; the first that is valued.", _hl7_field)
    modalities: dict[str, str] = option(
        {"RX": "DX", "RAD": "DX", "TC": "CT", "RM": "MR", "NMR": "MR", "ECO": "US", "RUS": "US"},
        "By what stands there, the modality as DICOM has it; other codes of two letters count as they are.",
    )
    same_days: int = option(30, "For how long the same exam at another hospital is told.", _between(1, 3650))
    acknowledgement: str = option(
        "ack", "How an order is answered: ack (ACK), or response (ORR^O02, ORG^O20, ORI^O24).", _one_of("ack", "response")
    )
    answer_segment: str = option(
        "",
        "Segment of the acknowledgement that tells the RIS of it: NTE, or one beginning with Z; empty: none.",
        _segment,
    )
    answer_seconds: float = option(2.0, "For how long the acknowledgement waits for the archive.", _between(0.1, 20))


@dataclass(frozen=True)
class Hl7Config:
    """What the RIS speaks to: reports by HL7 v2 over MLLP. [archive] and [spool] are those of the images."""

    address: str = option("0.0.0.0", "Network interface to listen on; 0.0.0.0: all.")  # noqa: S104  # the RIS is elsewhere
    port: int = option(0, "Port without TLS, usually 2575; 0: none.", _between(0, 65535))
    charset: str = option(
        "UNICODE UTF-8", "Character set where MSH-18 is empty.", _one_of("ASCII", "UNICODE UTF-8", "8859/1", "8859/15")
    )
    accession_fields: list[str] = option(
        ["OBR-18"], "Where the accession number stands, for reports without Study Instance UID; the first counts.", _hl7_field
    )
    patient_authority: str = option("", "Only numbers of this assigning authority (PID-3.4) count; empty: any.")
    patient_fields: list[str] = option(
        ["PID-3"],
        "Where the patient's numbers stand (PID-2, PID-3, PID-4, PID-18, PID-19).",
        _one_of("PID-2", "PID-3", "PID-4", "PID-18", "PID-19"),
    )
    patient_zeros: str = option(
        "kept", "Whether zeros before a patient's number count: kept, or ignored.", _one_of("kept", "ignored")
    )
    processing_id: str = option("P", "Take only messages with this processing id (MSH-11).", _one_of("P", "T", "D"))
    allowed_addresses: list[str] = option([], "Addresses or networks that may connect; empty: any.", _network)
    allowed_senders: list[str] = option([], "Senders (MSH-3, or MSH-3@MSH-4) whose messages are taken; empty: any.")
    wait_days: int = option(30, "How long a report waits for its study; then it is put aside.", _between(1, 3650))
    max_message_mb: int = option(8, "Larger messages are refused.", _between(1, 64))
    max_segments: int = option(20_000, "Messages with more segments are refused.", _between(10, 1_000_000))
    max_connections: int = option(16, "Connections at once.", _between(1, 500))
    idle_seconds: int = option(3600, "A connection that says nothing for so long is closed.", _between(5, 86400))
    message_seconds: int = option(60, "A message that is not whole after so long is broken off.", _between(1, 3600))
    adt: AdtConfig = field(default_factory=AdtConfig)
    orders: OrdersConfig = field(default_factory=OrdersConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)


@dataclass(frozen=True)
class PeerConfig:
    """A DICOM node of the hospital: `check` calls it, storage commitment results go to it, it may query and retrieve."""

    ae_title: str = option("PACS", "Its AE title.", _ae_title, required=True)
    host: str = option("pacs.example.org", "Its host.", required=True)
    port: int = option(104, "Its port.", _between(1, 65535), required=True)
    tls: bool = option(False, "Whether it wants TLS (with the certificate of [dicom.tls]).")
    query: bool = option(True, "Whether it may query and retrieve what the archive shows this hospital.")
    certificate: str = option("", "Name in the certificate that it shows when it queries over TLS; empty: its address counts.")


@dataclass(frozen=True)
class PacsConfig:
    """The hospital's own PACS, into which exams of other hospitals are brought ([deliver])."""

    ae_title: str = option("PACS", "Its AE title.", _ae_title)
    host: str = option("", "Its host; empty: none.")
    port: int = option(104, "Its port.", _between(1, 65535))
    tls: bool = option(False, "Whether it wants TLS (with the certificate of [dicom.tls]).")
    associations: int = option(4, "Associations at once at the most; where it refuses one, fewer.", _between(1, 32))
    issuer: str = option(
        "", "What it writes as Issuer of Patient ID for its own numbers; empty: what it answers, else the hospital's OID."
    )
    commitment: bool = option(True, "Whether it is asked for storage commitment, where it accepts that; else by C-FIND.")


@dataclass(frozen=True)
class DeliverConfig:
    """What of an accepted transfer is brought into [pacs], under the hospital's own number. Never what an emergency opened."""

    enabled: bool = option(False, "Whether exams of other hospitals are brought into [pacs].")
    modalities: list[str] = option([], "Only exams with one of these modalities, such as CR, DX; empty: all.")
    max_age_days: int = option(3650, "Only exams that are not older.", _between(1, 36500))
    max_studies: int = option(20, "Exams of one patient at the most: the newest.", _between(1, 1000))
    hours: list[str] = option(["00:00-24:00"], "When; “22:00-06:00” goes past midnight.", _hours)
    reports: str = option(
        "sr",
        "Reports as they are (sr), as a PDF, as a picture, each where the PACS takes the one before not; or not at all (none).",
        _one_of("sr", "pdf", "picture", "none"),
    )
    recall: str = option(
        "list",
        "What was corrected, linked otherwise, withdrawn or objected to since: listed, or also rejected in [pacs] (IHE IOCM).",
        _one_of("list", "reject"),
    )
    mark: str = option("", "What the study description begins with; {hospital}: where it is from.", _mark)


@dataclass(frozen=True)
class WatchConfig:
    """A folder whose files are taken in, for what cannot speak DICOM."""

    folder: str = option("", "The folder; empty: none.")
    every_seconds: float = option(2.0, "How often to look.", _between(0.05, 3600))
    settled_seconds: float = option(5.0, "A file is whole when it has not changed for so long.", _between(0, 3600))
    after: str = option("delete", "What to do with a file that was taken in.", _one_of("delete", "keep"))


@dataclass(frozen=True)
class LimitConfig:
    """A bandwidth limit for a part of the day; where none applies the line is used freely."""

    start: str = option("08:00", "From.", _time, required=True)
    end: str = option("18:00", "To; earlier than “start” means past midnight.", _time, required=True)
    mbit: float = option(50.0, "Megabits per second.", _between(0.1, 100_000), required=True)


@dataclass(frozen=True)
class UrgentConfig:
    """What overtakes: studies that match all that is given, the newest first."""

    modality: list[str] = option([], "Modalities, such as CR, DX.")
    calling: list[str] = option([], "Calling AE titles.", _ae_title)


@dataclass(frozen=True)
class SendConfig:
    """The way out."""

    lossless: bool = option(True, "Compress uncompressed images losslessly (JPEG-LS), each one checked.")
    parallel: int = option(16, "Greatest number of uploads at once; the line decides below it.", _between(1, 128))
    linger_seconds: float = option(0.3, "How long to gather instances into one question.", _between(0, 60))
    limits: list[LimitConfig] = field(default_factory=list)
    urgent: list[UrgentConfig] = field(default_factory=list)


@dataclass(frozen=True)
class PageConfig:
    """The status page, its JSON and the Prometheus metrics. No patient data, no password: keep it inside."""

    address: str = option("127.0.0.1", "Network interface; 0.0.0.0 shows the page to the hospital's network.")
    port: int = option(8104, "Port.", _between(1, 65535))


@dataclass(frozen=True)
class WebConfig:
    """The hospital's door for people and viewers, at [page]'s address: staff pages and DICOMweb. Off without [identity]."""

    public_url: str = option(
        "", "Address under which people reach this door, where a reverse proxy stands before it; empty: as they ask.", _public_url
    )
    certificate: str = option("", "PEM file of this machine's certificate (and chain), for HTTPS; empty: none.")
    key: str = option("", "PEM file of its private key.")
    allowed_origins: list[str] = option([], "Origins of web viewers that may read DICOMweb from a browser (CORS).", _origin)
    ris_secret_file: str = option(
        "", "File with a secret by which a RIS signs requests for images, where there is no single sign-on; empty: none."
    )
    cache_mb: int = option(
        1024, "Disk for images that were read, so that the second reading is local; 0: none.", _between(0, 10_000_000)
    )


@dataclass(frozen=True)
class OidcConfig:
    """OpenID Connect: people sign in at the hospital's identity provider, viewers bring its tokens."""

    issuer: str = option("", "The provider's issuer, such as https://sso.hospital.example/realms/staff; empty: none.", _issuer)
    client_id: str = option("", "The client's id at the provider.")
    client_secret_file: str = option("", "File with the client's secret; empty: a public client.")
    roles_claim: str = option("roles", "Claim with the roles; dots go into objects, as in “realm_access.roles”.")
    user_claim: str = option("sub", "Claim that names the person in the audit trail.")
    opaque_tokens: bool = option(
        False, "Whether a viewer's token that is no JWT, and so names no client, is shown to the provider."
    )


@dataclass(frozen=True)
class IdentityConfig:
    """Who the people are. Without a roles header or claim nobody has a role."""

    header: str = option("", "Header in which a trusted reverse proxy names the person; empty: none.", _header_name)
    trusted: list[str] = option([], "Addresses or networks of that proxy; from others the headers are not believed.", _network)
    roles_header: str = option("", "Header with the person's roles, separated by commas; empty: no roles.", _header_name)
    session_minutes: int = option(30, "Without a request for so long, a person signs in again.", _between(1, 1440))
    session_hours: int = option(10, "After so long, a person signs in again.", _between(1, 168))
    oidc: OidcConfig = field(default_factory=OidcConfig)

    @property
    def configured(self) -> bool:
        """Whether anybody can be known by header or provider."""
        return bool(self.header or self.oidc.issuer)


@dataclass(frozen=True)
class MailConfig:
    """Mail of what waits for a person, to the addresses of a role: once, without patient data. Needs web.public_url."""

    host: str = option("", "SMTP server; empty: no mail.")
    port: int = option(25, "Its port.", _between(1, 65535))
    tls: str = option("starttls", "starttls, implicit (usually port 465), or none.", _one_of("starttls", "implicit", "none"))
    ca_file: str = option("", "PEM file of a private certificate authority of the server's; empty: the system's.")
    username: str = option("", "Account at the server; empty: none.")
    password_file: str = option("", "File with its password.")
    sender: str = option("", "Address from which it comes.", _mail_address)
    registry: list[str] = option([], "Who hears of transfers to accept and of numbers that are proposed.", _mail_address)
    radiology: list[str] = option([], "Who hears of what radiology has to do; today nothing.", _mail_address)
    privacy: list[str] = option([], "Who hears of emergencies to review.", _mail_address)
    admin: list[str] = option([], "Who hears of what was put aside or is to be recalled.", _mail_address)
    after_minutes: int = option(10, "What is done within so many minutes is not written of.", _between(0, 10_080))


@dataclass(frozen=True)
class LogConfig:
    """Logs: one JSON object a line on standard error, without patient data."""

    level: str = option("info", "How much.", _one_of("debug", "info", "warning", "error"))


@dataclass(frozen=True)
class Config:
    """The whole file."""

    archive: ArchiveConfig = field(default_factory=ArchiveConfig)
    spool: SpoolConfig = field(default_factory=SpoolConfig)
    dicom: DicomConfig = field(default_factory=DicomConfig)
    hl7: Hl7Config = field(default_factory=Hl7Config)
    peers: list[PeerConfig] = field(default_factory=list)
    pacs: PacsConfig = field(default_factory=PacsConfig)
    deliver: DeliverConfig = field(default_factory=DeliverConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    send: SendConfig = field(default_factory=SendConfig)
    page: PageConfig = field(default_factory=PageConfig)
    web: WebConfig = field(default_factory=WebConfig)
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    mail: MailConfig = field(default_factory=MailConfig)
    log: LogConfig = field(default_factory=LogConfig)


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
