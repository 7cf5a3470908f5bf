"""The client of the contract: what the forwarder may ask the archive, and what each answer means."""

from __future__ import annotations

import json
import re
import secrets
import ssl
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError as TransportError
from urllib3.exceptions import ProxyError

from forwarder import __version__
from forwarder.alerts import Trouble
from forwarder.archive.signing import Signer
from forwarder.config import Config
from forwarder.errors import ArchiveError, ConfigError, Failure, SpoolError

BATCH = 500  # the contract's limit of instances in one call
BLOCK = 64 * 1024  # small, so that under a bandwidth limit no connection rests long enough to be closed
LARGEST_ANSWER = 16 * 1024 * 1024  # bytes; 500 presigned addresses have about one
PENDING = frozenset({"absent", "stored"})
"""States in which an instance waits for something. In every other, one that this version does not know included, it does not."""
STATE_NAME = re.compile(r"[a-z0-9-]{1,40}")
REFUSALS = frozenset({403, 404})
"""What the archive, and whatever stands before it, may answer: only the archive's own word decides anything."""
IDENTIFYING = re.compile(r"(?<=/patients/)[^/]+|(?<=/)[^/]*[^a-z/-][^/]*")
"""Segments of a path that name a patient, a study, a transfer or an object."""
PROBE = b"contenitore: whether the store can be reached\n"
ABOUT_THE_BYTES = frozenset(
    {
        "BadDigest",
        "EntityTooLarge",
        "EntityTooSmall",
        "InvalidDigest",
        "InvalidRequest",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    }
)
"""S3's error codes that speak of the object's bytes."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the forwarder has: bytes by their SHA-256 (hex) and size, and what the archive may like to know of them."""

    sha256: str
    size: int
    study_instance_uid: str | None = None
    original_sha256: str | None = None

    def as_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"sha256": self.sha256, "size": self.size}
        if self.study_instance_uid:
            entry["study_instance_uid"] = self.study_instance_uid
        if self.original_sha256:
            entry["original_sha256"] = self.original_sha256
        return entry


@dataclass(frozen=True, slots=True)
class Upload:
    """A presigned PUT: one use, exactly these headers, until `expires_at`."""

    url: str
    headers: Mapping[str, str]
    expires_at: str = ""


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """How an instance stands in the archive (the table of states in the contract)."""

    sha256: str
    state: str
    upload: Upload | None = None
    reason: str | None = None
    study_instance_uid: str | None = None
    sop_instance_uid: str | None = None
    issuer_name: str | None = None
    """The name in Issuer of Patient ID that keeps its number apart at the archive, since nobody registered it for us."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    data: bytes


@dataclass(slots=True)
class Calls:
    """How many requests were made: what a hospital's line and a city's bill are made of."""

    uploads: int = 0
    status: int = 0
    put: int = 0
    bytes_put: int = 0


def new_http(
    *, ca_file: str | None = None, proxy: str | None = None, connections: int = 16, timeout: float = 60.0
) -> urllib3.PoolManager:
    """A pool of kept-alive connections. Retries are none of its business: `forwarder.archive.retry` decides.

    Raises ConfigError for a CA file that is none.
    """
    options: dict[str, Any] = {
        "num_pools": 8,
        "maxsize": connections,
        "retries": False,
        "timeout": urllib3.Timeout(connect=10.0, read=timeout),
        "blocksize": BLOCK,
    }
    if ca_file:
        try:
            ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"The key “archive.ca_file” names a file without certificates: {ca_file}") from error
        options["ca_certs"] = ca_file
    if proxy:
        return urllib3.ProxyManager(proxy, **options)
    return urllib3.PoolManager(**options)


@dataclass
class Archive:
    """One hospital's view of the archive at `api` (its base URL, stage path included)."""

    api: str
    signer: Signer
    http: urllib3.PoolManager = field(default_factory=new_http)
    calls: Calls = field(default_factory=Calls)
    skew: float | None = None
    feed_seconds: float = 10.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.api)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"“{self.api}” is not the address of an archive: it should begin with https://")
        self.api = self.api.rstrip("/")

    def ask(self, offers: Sequence[Offer]) -> list[InstanceStatus]:
        """`POST /uploads` for 1–500 offers, in the order given. Raises ArchiveError."""
        self.calls.uploads += 1
        standings = self._instances("/uploads", {"instances": [offer.as_json() for offer in offers]}, len(offers))
        if any(standing.state == "absent" and standing.upload is None for standing in standings):
            raise ArchiveError("The archive's answer to POST /uploads names no address to upload to.", Failure.PROTOCOL)
        return standings

    def status(self, sha256s: Sequence[str]) -> list[InstanceStatus]:
        """`POST /uploads/status` for 1–500 digests, in the order given. Raises ArchiveError."""
        self.calls.status += 1
        return self._instances("/uploads/status", {"sha256": list(sha256s)}, len(sha256s))

    def remove(self, sha256: str) -> bool | None:
        """`DELETE /uploads/{sha256}`: have what is no DICOM removed at once. Raises ArchiveError.

        True: it is gone; False: the archive keeps it, since it is something else; None: it has nothing of ours by this digest.
        """
        path = f"/uploads/{sha256}"
        answer = self.call("DELETE", path, b"", {"Accept": "application/json"}, (204, 404, 409))
        return {204: True, 404: None}.get(answer.status, False)

    def put(self, upload: Upload, body: BinaryIO, size: int, on_bytes: Callable[[int], None] | None = None) -> None:
        """PUT `size` bytes from `body`. 412 means that the archive already has them, which is success.

        `on_bytes` hears of each block as it leaves (and may sleep, to hold the line to a limit). Raises ArchiveError.
        """
        self.calls.put += 1
        headers = {**upload.headers, "Content-Length": str(size)}
        response = self._send("PUT", upload.url, _blocks(body, size, on_bytes), headers)
        if response.status in (200, 201, 204):
            self.calls.bytes_put += size
        elif response.status != 412:
            raise _put_failed(upload.url, response)

    def probe(self) -> str:
        """Whether an instance could be uploaded, without uploading one: ask for an address, and put other bytes there than it
        is signed for, which the store refuses. Returns the store's host and port. Raises ArchiveError.
        """
        (standing,) = self.ask([Offer(secrets.token_hex(32), len(PROBE))])
        if standing.upload is None:
            raise ArchiveError("The archive says that it has an instance that cannot be.", Failure.PROTOCOL)
        url, headers = standing.upload.url, {**standing.upload.headers, "Content-Length": str(len(PROBE))}
        answer = self._send("PUT", url, PROBE, headers)
        if _between(answer.data.decode("utf-8", "replace"), "<Code>", "</Code>") not in ABOUT_THE_BYTES:
            raise _put_failed(url, answer)
        answer = self._send("GET", url, None, {})  # signed for PUT: what counts is that the store is who says no
        if not _is_the_store(answer):
            raise _put_failed(url, answer)
        return place_of(url)

    def _instances(self, path: str, body: Mapping[str, Any], expected: int) -> list[InstanceStatus]:
        answer = self._post(path, body).get("instances")
        if not isinstance(answer, list) or len(answer) != expected:
            raise ArchiveError(f"The archive's answer to POST {path} is not what the contract says.", Failure.PROTOCOL)
        try:
            return [_standing(entry) for entry in answer]
        except (KeyError, TypeError, AttributeError) as error:
            raise ArchiveError(f"The archive's answer to POST {path} lacks {error}.", Failure.PROTOCOL) from error

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        payload = json.dumps(body, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        return _json_object(self.call("POST", path, payload, headers))

    def call(
        self, method: str, path: str, payload: bytes, headers: Mapping[str, str], expected: Collection[int] = (200,)
    ) -> Answer:
        """A signed request; its answer if the status is one of those expected. Raises ArchiveError."""
        url = self.api + path
        for again in (True, False):
            offset = self.signer.clock.offset
            signed = self.signer.sign(method, url, payload, headers)
            response = self._send(method, url, payload or None, signed)
            if response.status in expected and not (response.status in REFUSALS and not _is_the_archive(response)):
                return response
            failure = failed(response, f"{method} {route_of(path)}")
            # A wrong clock and stale credentials are put right on the spot, once.
            if again and failure.failure is Failure.SKEW and self.signer.clock.offset != offset:
                continue
            if again and failure.failure is Failure.CREDENTIALS:
                self.signer.reload()
                continue
            raise failure
        raise AssertionError("unreachable")

    def _send(self, method: str, url: str, body: bytes | Iterator[bytes] | None, headers: Mapping[str, str]) -> Answer:
        agent = {"User-Agent": f"contenitore-forwarder/{__version__}"}
        try:
            response = self.http.request(
                method, url, body=body, headers={**agent, **headers}, redirect=False, preload_content=False
            )
            data = response.read(LARGEST_ANSWER + 1)
            if len(data) <= LARGEST_ANSWER:
                response.release_conn()
        except TransportError as error:
            text, trouble = _transport_trouble(url, error)
            raise ArchiveError(text, Failure.NETWORK, trouble=trouble, host=place_of(url)) from error
        except OSError as error:
            text = f"The line to {urlsplit(url).hostname} broke: {error}"
            raise ArchiveError(text, Failure.NETWORK, trouble=Trouble.LINE_BROKE, host=place_of(url)) from error
        if len(data) > LARGEST_ANSWER:
            response.close()
            raise ArchiveError(
                f"The answer of {urlsplit(url).hostname} is larger than any that the contract knows.", Failure.PROTOCOL
            )
        skew = self.signer.clock.learn(response.headers.get("Date"))
        self.skew = skew if skew is not None else self.skew
        return Answer(response.status, response.headers, data)


def _blocks(body: BinaryIO, size: int, on_bytes: Callable[[int], None] | None) -> Iterator[bytes]:
    """Exactly `size` bytes of `body`. SpoolError if there are fewer, or if the disk fails: not the line's fault."""
    left = size
    while left:
        try:
            block = body.read(min(BLOCK, left))
        except OSError as error:
            raise SpoolError(f"The file cannot be read: {error.strerror or error}") from error
        if not block:
            raise SpoolError("The file became shorter while it was sent.")
        left -= len(block)
        yield block
        if on_bytes:
            on_bytes(len(block))


def _transport_trouble(url: str, error: TransportError) -> tuple[str, Trouble]:
    """What a broken line means: a sentence for the administrator, and its name for the page."""
    host = urlsplit(url).netloc
    text = str(error)
    if isinstance(error, ProxyError):
        said = re.search(r"Tunnel connection failed: (\d{3})", text)
        if said:
            return f"The proxy does not let {host} through (it says {said[1]}).", Trouble.PROXY_REFUSES
        return "The proxy cannot be reached.", Trouble.PROXY_UNREACHABLE
    if "CERTIFICATE_VERIFY_FAILED" in text:
        hint = f"The certificate of {host} is not trusted here; a private CA is named by “ca_file”."
        return hint, Trouble.UNTRUSTED_CERTIFICATE
    if "NameResolution" in type(error).__name__ or "Failed to resolve" in text:
        return f"The name {urlsplit(url).hostname} cannot be resolved.", Trouble.UNKNOWN_NAME
    if "refused" in text:
        return f"Nothing answers at {host}: the connection was refused.", Trouble.CONNECTION_REFUSED
    if "timed out" in text or "Timeout" in type(error).__name__:
        return f"{host} did not answer in time.", Trouble.NO_ANSWER_IN_TIME
    return f"The line to {host} broke ({type(error).__name__}).", Trouble.LINE_BROKE


def _json_object(response: Answer) -> dict[str, Any]:
    try:
        value = json.loads(response.data)
    except ValueError as error:
        raise ArchiveError("The archive's answer is not JSON.", Failure.PROTOCOL) from error
    if not isinstance(value, dict):
        raise ArchiveError("The archive's answer is not a JSON object.", Failure.PROTOCOL)
    return value


def _standing(entry: Mapping[str, Any]) -> InstanceStatus:
    upload = entry.get("upload")
    state = str(entry["state"])
    return InstanceStatus(
        sha256=str(entry["sha256"]),
        state=state if STATE_NAME.fullmatch(state) else "unknown-state",
        upload=Upload(upload["url"], upload["headers"], str(upload.get("expires_at", ""))) if upload else None,
        reason=entry.get("reason"),
        study_instance_uid=entry.get("study_instance_uid"),
        sop_instance_uid=entry.get("sop_instance_uid"),
        issuer_name=entry.get("issuer_name"),
    )


def failed(response: Answer, what: str) -> ArchiveError:
    """The error that an unhappy answer stands for: which kind, and a sentence about it."""
    text = response.data[:4096].decode("utf-8", "replace")
    failure = classify(response.status, text)
    said = _their_words(text)
    message = f"{what} was answered with {response.status}" + (f": {said}" if said else ".")
    trouble = Trouble.UNKNOWN_INSTITUTION if response.status == 403 and ":unknown-institution" in text else None
    return ArchiveError(message, failure, _retry_after(response.headers.get("Retry-After")), trouble)


def route_of(path: str) -> str:
    """A path and query without what they name: for people, logs and pages."""
    return IDENTIFYING.sub("…", path.partition("?")[0])


def place_of(url: str) -> str:
    """The host and port of an address, as a firewall knows them."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _is_the_archive(response: Answer) -> bool:
    """Whether the archive itself says no to what is asked: a gateway and a proxy speak otherwise, and an institution that is not
    registered is nobody there (RFC 9457, the contract's types)."""
    return b'"urn:contenitore:problem:' in response.data and b":unknown-institution" not in response.data


def _is_the_store(response: Answer) -> bool:
    """Whether S3 itself answered: what stands between speaks otherwise."""
    return b"<Code>" in response.data or any(name.lower().startswith("x-amz-") for name in response.headers)


def _put_failed(url: str, response: Answer) -> ArchiveError:
    """The error of a PUT that the store, or what stands before it, did not take."""
    error, host = failed(response, "PUT of an instance"), place_of(url)
    if _is_the_store(response) or response.status in (429, *range(500, 600)):
        error.host = host
        return error
    text = f"{host}, where images are put, is not reached: a proxy or firewall answers in its place (status {response.status})."
    return ArchiveError(text, Failure.REFUSED, trouble=Trouble.STORE_BLOCKED, host=host)


def classify(status: int, body: str) -> Failure:
    """The kind of failure of an answer, by status and by the words that API Gateway, the archive and S3 use.

    An instance is only blamed in words that speak of its bytes: a proxy's or a policy's refusal concerns them all.
    """
    code = _between(body, "<Code>", "</Code>")  # S3 answers in XML
    if status in (429, 503) or code == "SlowDown":
        return Failure.THROTTLED
    if status >= 500:
        return Failure.SERVER
    if code:
        return _of_the_store(status, code, body)
    if status == 403 and ("Signature expired" in body or "not yet current" in body):
        return Failure.SKEW
    if status in (400, 403) and "security token included in the request is" in body:
        return Failure.CREDENTIALS
    if status in (401, 403, 407):
        return Failure.REFUSED
    if status == 409:
        return Failure.BUSY
    if status in (400, 413, 422) and body.lstrip().startswith("{"):
        return Failure.INSTANCE
    return Failure.PROTOCOL


def _of_the_store(status: int, code: str, body: str) -> Failure:
    if code == "RequestTimeTooSkewed":
        return Failure.SKEW
    if code == "ExpiredToken" or "Request has expired" in body:
        return Failure.EXPIRED_URL
    if code in ("RequestTimeout", "IncompleteBody"):
        return Failure.NETWORK
    if status == 409:
        return Failure.BUSY
    return Failure.INSTANCE if code in ABOUT_THE_BYTES else Failure.REFUSED


def archive_of(config: Config) -> Archive:
    """The archive as configured. Raises ConfigError."""
    section = config.archive
    http = new_http(
        ca_file=section.ca_file or None,
        proxy=section.proxy or None,
        connections=config.send.parallel + 2,
        timeout=float(section.timeout_seconds),
    )
    return Archive(section.api, Signer(section.profile or None, section.region), http, feed_seconds=float(section.feed_seconds))


def _between(text: str, start: str, end: str) -> str:
    begin, finish = text.find(start), text.find(end)
    return text[begin + len(start) : finish] if 0 <= begin < finish else ""


def _their_words(text: str) -> str:
    try:
        body = json.loads(text)
    except ValueError:
        return _between(text, "<Message>", "</Message>")
    if not isinstance(body, dict):
        return ""
    told = (body.get(key) for key in ("detail", "title", "message", "Message"))  # the gateway's, and IAM's with a capital
    return str(next(filter(None, told), ""))


def _retry_after(value: str | None) -> float | None:
    return float(value) if value and value.isascii() and value.isdigit() else None
