"""The configuration's sections: each key with its default, what it means and what it may be."""

# ruff: noqa: RUF009  # `option` makes dataclass fields, which is what dataclass defaults are

from __future__ import annotations

from dataclasses import dataclass, field

from forwarder.config.values import (
    between,
    entity_title,
    folder_path,
    header_name,
    hl7_field,
    hl7_segment,
    hours_of_day,
    institutions_by_code,
    mail_address,
    network_address,
    one_of,
    option,
    optional_web_address,
    optional_web_origin,
    proxy_address,
    short_text,
    time_of_day,
    web_address,
    web_origin,
)


@dataclass(frozen=True)
class ArchiveConfig:
    """The city's archive."""

    api: str = option("https://archive.example.org", "Address of the archive.", web_address, required=True)
    profile: str = option("", "AWS profile (credential_process for Roles Anywhere); empty: the standard chain.")
    region: str = option("eu-south-1", "AWS region of the archive.")
    ca_file: str = option("", "PEM file of a private certificate authority to trust, for the hospital's proxy.")
    proxy: str = option("", "Address of an HTTP proxy, such as http://proxy.example.org:3128.", proxy_address)
    timeout_seconds: int = option(60, "Patience with one answer.", between(1, 900))
    feed_seconds: int = option(
        10, "The longest pause between two questions after what changed; more often costs the city more.", between(1, 60)
    )


@dataclass(frozen=True)
class SpoolConfig:
    """Where instances wait, on a disk of this machine (not a network share)."""

    folder: str = option("/var/lib/contenitore-forwarder", "The spool's folder.", folder_path, required=True)
    reserve_mb: int = option(
        1024, "Below this free space (MB) the PACS is answered 0xA700, to try later.", between(1, 10_000_000)
    )
    history_days: int = option(30, "How long it is remembered that an instance was delivered.", between(1, 3650))


@dataclass(frozen=True)
class TlsConfig:
    """The same over TLS (BCP 195 profile, PS3.15 B.12). Both ends show a certificate."""

    port: int = option(0, "Port for TLS (DICOM's is usually 2762); 0: none.", between(0, 65535))
    certificate: str = option("", "PEM file of this machine's certificate (and chain).")
    key: str = option("", "PEM file of its private key.")
    ca_file: str = option("", "PEM file of the authorities whose certificates the senders show.")


@dataclass(frozen=True)
class DicomConfig:
    """What the PACS speaks to."""

    ae_title: str = option("CONTENITORE", "AE title of this forwarder.", entity_title)
    address: str = option("0.0.0.0", "Network interface to listen on; 0.0.0.0: all.")  # noqa: S104  # the PACS is elsewhere
    port: int = option(11112, "Port without TLS; 0: none.", between(0, 65535))
    allowed_callers: list[str] = option([], "Calling AE titles that may connect; empty: any.", entity_title)
    check_called: bool = option(False, "Refuse associations that call another AE title than ours.")
    max_associations: int = option(32, "Associations at once.", between(1, 500))
    idle_seconds: int = option(120, "An association that says nothing for so long is closed.", between(5, 86400))
    extra_sop_classes: list[str] = option([], "UIDs of private storage SOP classes to accept too.")
    tls: TlsConfig = field(default_factory=TlsConfig)


@dataclass(frozen=True)
class AdtConfig:
    """ADT opens and accepts transfers by itself. Needs hl7.allowed_addresses and hl7.patient_authority."""

    enabled: bool = option(False, "Whether ADT is taken.")
    destinations: dict[str, str] = option(
        {},
        "By code in the fields below, the institution's id; an empty id: known, none of the city.",
        institutions_by_code,
    )
    open: str = option(
        "always", "Whether a discharge opens always, or only with the patient's consent.", one_of("always", "consent")
    )
    consent_field: str = option("ZCO-1", "Where the consent stands, for “consent”.", hl7_field)
    consent_values: list[str] = option(["Y", "S", "SI", "1"], "What says yes there.")
    discharge_fields: list[str] = option(
        ["PV1-37", "PV1-36"], "Where a discharge (A03, A16) names where the patient goes.", hl7_field
    )
    transfer_fields: list[str] = option(["PV1-3.4"], "The same for A02.", hl7_field)
    pending_fields: list[str] = option(["PV1-42.4"], "The same for A15.", hl7_field)
    pending_opens: bool = option(False, "Whether an announced discharge or transfer (A16, A15) opens at once.")
    admitted_from_fields: list[str] = option(["PV1-14"], "Where an admission (A01) says where the patient comes from.", hl7_field)
    visit_fields: list[str] = option(["PV1-19", "PID-18"], "Where the visit's number stands; the first one counts.", hl7_field)
    codice_fiscale_types: list[str] = option(
        ["NNITA", "NN", "NI", "CF"], "Types (component 5) by which a codice fiscale is known in PID-3, besides its authority."
    )
    codice_fiscale_fields: list[str] = option(["PID-19"], "Where else it stands.", hl7_field)
    accept: str = option(
        "code",
        "An admission accepts where the codice fiscale joins the two numbers, or only where the message names the sender too.",
        one_of("code", "named"),
    )
    accept_days: int = option(30, "An admission accepts a transfer that was opened at most so many days before.", between(1, 365))
    early_days: int = option(3, "Or after it, where the messages came the other way round.", between(0, 30))
    max_age_days: int = option(7, "What happened longer ago opens and accepts nothing.", between(1, 365))
    per_hour: int = option(
        30, "Acts (opening, accepting) in an hour; what is beyond waits for a person, and is an alarm.", between(1, 1000)
    )


@dataclass(frozen=True)
class OrdersConfig:
    """Orders tell which exam is about to be made. Needs hl7.allowed_addresses and hl7.patient_authority, as ADT does."""

    enabled: bool = option(False, "Whether orders (ORM^O01, OMG^O19, OMI^O23) are taken.")
    modality_fields: list[str] = option(["IPC-5", "OBR-24"], "Where the modality stands; the first that is valued.", hl7_field)
    modalities: dict[str, str] = option(
        {"RX": "DX", "RAD": "DX", "TC": "CT", "RM": "MR", "NMR": "MR", "ECO": "US", "RUS": "US"},
        "By what stands there, the modality as DICOM has it; other codes of two letters count as they are.",
    )
    same_days: int = option(30, "For how long the same exam at another hospital is told.", between(1, 3650))
    acknowledgement: str = option(
        "ack", "How an order is answered: ack (ACK), or response (ORR^O02, ORG^O20, ORI^O24).", one_of("ack", "response")
    )
    answer_segment: str = option(
        "",
        "Segment of the acknowledgement that tells the RIS of it: NTE, or one beginning with Z; empty: none.",
        hl7_segment,
    )
    answer_seconds: float = option(2.0, "For how long the acknowledgement waits for the archive.", between(0.1, 20))


@dataclass(frozen=True)
class Hl7Config:
    """What the RIS speaks to: reports by HL7 v2 over MLLP. [archive] and [spool] are those of the images."""

    address: str = option("0.0.0.0", "Network interface to listen on; 0.0.0.0: all.")  # noqa: S104  # the RIS is elsewhere
    port: int = option(0, "Port without TLS, usually 2575; 0: none.", between(0, 65535))
    charset: str = option(
        "UNICODE UTF-8", "Character set where MSH-18 is empty.", one_of("ASCII", "UNICODE UTF-8", "8859/1", "8859/15")
    )
    accession_fields: list[str] = option(
        ["OBR-18"], "Where the accession number stands, for reports without Study Instance UID; the first counts.", hl7_field
    )
    patient_authority: str = option("", "Only numbers of this assigning authority (PID-3.4) count; empty: any.")
    patient_fields: list[str] = option(
        ["PID-3"],
        "Where the patient's numbers stand (PID-2, PID-3, PID-4, PID-18, PID-19).",
        one_of("PID-2", "PID-3", "PID-4", "PID-18", "PID-19"),
    )
    patient_zeros: str = option(
        "kept", "Whether zeros before a patient's number count: kept, or ignored.", one_of("kept", "ignored")
    )
    processing_id: str = option("P", "Take only messages with this processing id (MSH-11).", one_of("P", "T", "D"))
    allowed_addresses: list[str] = option([], "Addresses or networks that may connect; empty: any.", network_address)
    allowed_senders: list[str] = option([], "Senders (MSH-3, or MSH-3@MSH-4) whose messages are taken; empty: any.")
    wait_days: int = option(30, "How long a report waits for its study; then it is put aside.", between(1, 3650))
    max_message_mb: int = option(8, "Larger messages are refused.", between(1, 64))
    max_segments: int = option(20_000, "Messages with more segments are refused.", between(10, 1_000_000))
    max_connections: int = option(16, "Connections at once.", between(1, 500))
    idle_seconds: int = option(3600, "A connection that says nothing for so long is closed.", between(5, 86400))
    message_seconds: int = option(60, "A message that is not whole after so long is broken off.", between(1, 3600))
    adt: AdtConfig = field(default_factory=AdtConfig)
    orders: OrdersConfig = field(default_factory=OrdersConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)


@dataclass(frozen=True)
class PeerConfig:
    """A DICOM node of the hospital: `check` calls it, storage commitment results go to it, it may query and retrieve."""

    ae_title: str = option("PACS", "Its AE title.", entity_title, required=True)
    host: str = option("pacs.example.org", "Its host.", required=True)
    port: int = option(104, "Its port.", between(1, 65535), required=True)
    tls: bool = option(False, "Whether it wants TLS (with the certificate of [dicom.tls]).")
    query: bool = option(True, "Whether it may query and retrieve what the archive shows this hospital.")
    certificate: str = option("", "Name in the certificate that it shows when it queries over TLS; empty: its address counts.")


@dataclass(frozen=True)
class PacsConfig:
    """The hospital's own PACS, into which exams of other hospitals are brought ([deliver])."""

    ae_title: str = option("PACS", "Its AE title.", entity_title)
    host: str = option("", "Its host; empty: none.")
    port: int = option(104, "Its port.", between(1, 65535))
    tls: bool = option(False, "Whether it wants TLS (with the certificate of [dicom.tls]).")
    associations: int = option(4, "Associations at once at the most; where it refuses one, fewer.", between(1, 32))
    issuer: str = option(
        "", "What it writes as Issuer of Patient ID for its own numbers; empty: what it answers, else the hospital's OID."
    )
    commitment: bool = option(True, "Whether it is asked for storage commitment, where it accepts that; else by C-FIND.")


@dataclass(frozen=True)
class DeliverConfig:
    """What of an accepted transfer is brought into [pacs], under the hospital's own number. Never what an emergency opened."""

    enabled: bool = option(False, "Whether exams of other hospitals are brought into [pacs].")
    modalities: list[str] = option([], "Only exams with one of these modalities, such as CR, DX; empty: all.")
    max_age_days: int = option(3650, "Only exams that are not older.", between(1, 36500))
    max_studies: int = option(20, "Exams of one patient at the most: the newest.", between(1, 1000))
    hours: list[str] = option(["00:00-24:00"], "When; “22:00-06:00” goes past midnight.", hours_of_day)
    reports: str = option(
        "sr",
        "Reports as they are (sr), as a PDF, as a picture, each where the PACS takes the one before not; or not at all (none).",
        one_of("sr", "pdf", "picture", "none"),
    )
    recall: str = option(
        "list",
        "What was corrected, linked otherwise, withdrawn or objected to since: listed, or also rejected in [pacs] (IHE IOCM).",
        one_of("list", "reject"),
    )
    mark: str = option("", "What the study description begins with; {hospital}: where it is from.", short_text)


@dataclass(frozen=True)
class WatchConfig:
    """A folder whose files are taken in, for what cannot speak DICOM."""

    folder: str = option("", "The folder; empty: none.")
    every_seconds: float = option(2.0, "How often to look.", between(0.05, 3600))
    settled_seconds: float = option(5.0, "A file is whole when it has not changed for so long.", between(0, 3600))
    after: str = option("delete", "What to do with a file that was taken in.", one_of("delete", "keep"))


@dataclass(frozen=True)
class LimitConfig:
    """A bandwidth limit for a part of the day; where none applies the line is used freely."""

    start: str = option("08:00", "From.", time_of_day, required=True)
    end: str = option("18:00", "To; earlier than “start” means past midnight.", time_of_day, required=True)
    mbit: float = option(50.0, "Megabits per second.", between(0.1, 100_000), required=True)


@dataclass(frozen=True)
class UrgentConfig:
    """What overtakes: studies that match all that is given, the newest first."""

    modality: list[str] = option([], "Modalities, such as CR, DX.")
    calling: list[str] = option([], "Calling AE titles.", entity_title)


@dataclass(frozen=True)
class SendConfig:
    """The way out."""

    lossless: bool = option(True, "Compress uncompressed images losslessly (JPEG-LS), each one checked.")
    parallel: int = option(16, "Greatest number of uploads at once; the line decides below it.", between(1, 128))
    linger_seconds: float = option(0.3, "How long to gather instances into one question.", between(0, 60))
    limits: list[LimitConfig] = field(default_factory=list)
    urgent: list[UrgentConfig] = field(default_factory=list)


@dataclass(frozen=True)
class PageConfig:
    """The status page, its JSON and the Prometheus metrics. No patient data, no password: keep it inside."""

    address: str = option("127.0.0.1", "Network interface; 0.0.0.0 shows the page to the hospital's network.")
    port: int = option(8104, "Port.", between(1, 65535))


@dataclass(frozen=True)
class WebConfig:
    """The hospital's door for people and viewers, at [page]'s address: staff pages and DICOMweb. Off without [identity]."""

    public_url: str = option(
        "",
        "Address under which people reach this door, where a reverse proxy stands before it; empty: as they ask.",
        optional_web_origin,
    )
    certificate: str = option("", "PEM file of this machine's certificate (and chain), for HTTPS; empty: none.")
    key: str = option("", "PEM file of its private key.")
    allowed_origins: list[str] = option([], "Origins of web viewers that may read DICOMweb from a browser (CORS).", web_origin)
    ris_secret_file: str = option(
        "", "File with a secret by which a RIS signs requests for images, where there is no single sign-on; empty: none."
    )
    cache_mb: int = option(
        1024, "Disk for images that were read, so that the second reading is local; 0: none.", between(0, 10_000_000)
    )


@dataclass(frozen=True)
class OidcConfig:
    """OpenID Connect: people sign in at the hospital's identity provider, viewers bring its tokens."""

    issuer: str = option(
        "", "The provider's issuer, such as https://sso.hospital.example/realms/staff; empty: none.", optional_web_address
    )
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

    header: str = option("", "Header in which a trusted reverse proxy names the person; empty: none.", header_name)
    trusted: list[str] = option(
        [], "Addresses or networks of that proxy; from others the headers are not believed.", network_address
    )
    roles_header: str = option("", "Header with the person's roles, separated by commas; empty: no roles.", header_name)
    session_minutes: int = option(30, "Without a request for so long, a person signs in again.", between(1, 1440))
    session_hours: int = option(10, "After so long, a person signs in again.", between(1, 168))
    oidc: OidcConfig = field(default_factory=OidcConfig)

    @property
    def configured(self) -> bool:
        """Whether anybody can be known by header or provider."""
        return bool(self.header or self.oidc.issuer)


@dataclass(frozen=True)
class MailConfig:
    """Mail of what waits for a person, to the addresses of a role: once, without patient data. Needs web.public_url."""

    host: str = option("", "SMTP server; empty: no mail.")
    port: int = option(25, "Its port.", between(1, 65535))
    tls: str = option("starttls", "starttls, implicit (usually port 465), or none.", one_of("starttls", "implicit", "none"))
    ca_file: str = option("", "PEM file of a private certificate authority of the server's; empty: the system's.")
    username: str = option("", "Account at the server; empty: none.")
    password_file: str = option("", "File with its password.")
    sender: str = option("", "Address from which it comes.", mail_address)
    registry: list[str] = option([], "Who hears of transfers to accept, of proposed numbers and of merges.", mail_address)
    radiology: list[str] = option([], "Who hears of what radiology has to do; today nothing.", mail_address)
    privacy: list[str] = option([], "Who hears of emergencies to review.", mail_address)
    admin: list[str] = option([], "Who hears of what was put aside, of ADT to decide on, and of recalls.", mail_address)
    after_minutes: int = option(10, "What is done within so many minutes is not written of.", between(0, 10_080))


@dataclass(frozen=True)
class LogConfig:
    """Logs: one JSON object a line on standard error, without patient data."""

    level: str = option("info", "How much.", one_of("debug", "info", "warning", "error"))


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
