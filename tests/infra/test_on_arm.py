"""The packages as Lambda runs them: unpacked on arm64, with the runtime's own interpreter, each handler called with an event.

The processor is QEMU's, the system Debian's of the same interpreter, the cloud an emulated one. `infra.elf` says what this
cannot: that the libraries of Amazon Linux are new enough.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import imagecodecs
import numpy as np
import pytest
import requests
from botocore.config import Config
from moto.server import ThreadedMotoServer
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from chalicelib.dicom.pixels import FAMILIES
from infra import package as packaging
from infra import templates
from tests.infra import arm, machines
from tests.infra.arm import Function
from tests.unit.dicom.building import real_files

OPERATOR = "arn:aws:sts::123456789012:assumed-role/contenitore-operator/someone"
HOSPITAL = "arn:aws:sts::123456789012:assumed-role/contenitore-institution-maugeri/forwarder"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "eu-south-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "TABLE_NAME": "archive",
    "BUCKET_NAME": "archive-images",
    "AUDIT_ANCHOR_BUCKET": "archive-anchors",
    "OPERATOR_ROLE_ARN": "arn:aws:iam::123456789012:role/contenitore-operator",
    "POWERTOOLS_SERVICE_NAME": "contenitore",
    "POWERTOOLS_LOG_LEVEL": "INFO",
}
CALLED = {
    "app." + name
    for name in (
        "app",
        "index_instances",
        "project_facts",
        "anchor_audit",
        "tell_expired",
        "sweep_uploads",
        "read_again",
        "assemble_bodies",
        "operate",
        "canary",
        "erase_due",
    )
}
"""The handlers that the first test calls: a new one has to be called there too."""
LOSSY = {"1.2.840.10008.1.2.4." + end for end in ("50", "51", "53", "55", "81", "91", "203")}
RLE, DEFLATED = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.99"
"""RLE is pydicom's own. A deflated object is read as a whole."""
PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")

pytestmark = [pytest.mark.skipif(bool(arm.missing()), reason=arm.missing()), pytest.mark.slow]


@pytest.fixture(scope="module")
def cloud() -> Iterator[dict[str, str]]:
    """An emulated cloud with a table and buckets; the environment of functions that use it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {**ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    described = templates.load(templates.CITY)["Resources"]["Table"]["Properties"]
    wanted = ("KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "BillingMode")
    _client("dynamodb", environment).create_table(TableName="archive", **{name: described[name] for name in wanted})
    for bucket in ("archive-images", "archive-anchors"):
        _client("s3", environment).create_bucket(
            Bucket=bucket,
            CreateBucketConfiguration={"LocationConstraint": "eu-south-1"},
            ObjectLockEnabledForBucket="anchors" in bucket,
        )
    yield environment
    server.stop()


def _client(service: str, environment: dict[str, str]) -> Any:
    return boto3.client(
        service, region_name="eu-south-1", endpoint_url=environment["AWS_ENDPOINT_URL"], aws_access_key_id="testing",
        aws_secret_access_key="testing", config=Config(retries={"max_attempts": 1}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def debian(packaged: packaging.Package, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Debian with the interpreter of the functions' runtime, its library compiled."""
    runtime = _runtime(packaged)
    if runtime not in arm.RELEASES:
        pytest.skip(f"no release of Debian has the interpreter of {runtime}")
    folder = tmp_path_factory.mktemp("debian") / "root"
    reason = arm.make_root(folder, runtime)
    if reason:
        pytest.skip(reason)
    arm.compile_all(folder, runtime)
    yield folder
    machines.remove(folder)


def _runtime(packaged: packaging.Package) -> str:
    (runtime,) = {packaged.template["Resources"][name]["Properties"]["Runtime"] for name in ("APIHandler", "RenderPixels")}
    return str(runtime)


@pytest.fixture(scope="module")
def archive(
    packaged: packaging.Package, debian: Path, cloud: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Function]:
    """The archive's functions on arm64, from deployment.zip."""
    folder = tmp_path_factory.mktemp("archive")
    runtime, root = _runtime(packaged), _copied(debian, folder / "root")
    arm.unpack(packaged.zip_file, root / "arm" / "var" / "task")
    arm.compile_all(root, runtime, "/var")
    with arm.function(arm.emulated(root, runtime), ["/var/task"], cloud, folder / "log") as made:
        yield made
    machines.remove(root)


@pytest.fixture(scope="module")
def decoder(
    packaged: packaging.Package, debian: Path, cloud: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Function]:
    """The function that decodes pixels on arm64, from pixels.zip; boto3 is the runtime's, so that it lies elsewhere."""
    folder = tmp_path_factory.mktemp("decoder")
    runtime, root = _runtime(packaged), _copied(debian, folder / "root")
    arm.unpack(packaged.zip_file.parent / "pixels.zip", root / "arm" / "var" / "task")
    lent = ("boto3/", "botocore/", "s3transfer/", "jmespath/", "urllib3/", "dateutil/", "six.py")
    arm.unpack(packaged.zip_file, root / "arm" / "var" / "runtime", lent)
    arm.compile_all(root, runtime, "/var")
    with arm.function(arm.emulated(root, runtime), ["/var/task", "/var/runtime"], cloud, folder / "log") as made:
        yield made
    machines.remove(root)


@pytest.fixture(scope="module")
def decoder_here(cloud: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    """The same function on this machine, as the local city runs it."""
    log = tmp_path_factory.mktemp("here") / "log"
    with arm.function(arm.native(), [str(packaging.ROOT)], cloud, log) as made:
        yield made


def _copied(folder: Path, target: Path) -> Path:
    subprocess.run(["cp", "-al", str(folder), str(target)], check=True)  # links: what differs is written anew
    return target


# The archive


def test_the_archive_takes_in_an_image_and_finds_it_again_on_arm64(archive: Function, cloud: dict[str, str]) -> None:
    content = real_files()["test_files/CT_small.dcm"].read_bytes()
    digest = hashlib.sha256(content).hexdigest()

    status, answer = _answer(archive("app.app", _request("GET", "/health")))
    assert (status, answer["status"]) == (200, "ok")
    assert _answer(archive("app.app", _request("POST", "/uploads", HOSPITAL, {"instances": []})))[0] == 403

    terms = {
        "name": "Maugeri", "role_arn": "arn:aws:iam::123456789012:role/contenitore-institution-maugeri",
        "patient_id_issuer": "2.16.840.1.113883.2.9.99.2.4.1", "ae_titles": ["MAUGERI"],
    }  # fmt: skip
    put = _request("PUT", "/institutions/maugeri", OPERATOR, terms, "/institutions/{institution}", {"institution": "maugeri"})
    assert _answer(archive("app.app", put))[0] == 201

    asked = _request("POST", "/uploads", HOSPITAL, {"instances": [{"sha256": digest, "size": len(content)}]})
    status, answer = _answer(archive("app.app", asked))
    (instance,) = answer["instances"]
    assert (status, instance["state"]) == (200, "absent")
    upload = instance["upload"]
    assert requests.put(upload["url"], content, headers=upload["headers"], timeout=60).status_code == 200

    message = {"Records": [{"s3": {"object": {"key": f"instances%2Fmaugeri%2F{digest}", "size": len(content)}}}]}
    queued = {"Records": [{"messageId": "m", "body": json.dumps(message), "eventSource": "aws:sqs"}]}
    assert archive("app.index_instances", queued) == {"batchItemFailures": []}

    study = str(dcmread(io.BytesIO(content)).StudyInstanceUID)
    keys = {"pk": {"S": f"F#STUDY#maugeri#{study}"}, "sk": {"S": "I#"}}
    streamed = {"Records": [{"dynamodb": {"SequenceNumber": "1", "Keys": keys}}]}
    assert archive("app.project_facts", streamed) == {"batchItemFailures": []}

    asked = _request("POST", "/uploads/status", HOSPITAL, {"sha256": [digest]})
    verdict = _answer(archive("app.app", asked))[1]["instances"][0]
    assert (verdict["state"], verdict["study_instance_uid"]) == ("indexed", study)
    found = _request("GET", "/dicomweb/studies", HOSPITAL)
    status, answer = _answer(archive("app.app", found))
    assert (status, [result["0020000D"]["Value"] for result in answer]) == (200, [[study]])
    tick = {
        "version": "0", "id": "i", "detail-type": "Scheduled Event", "source": "aws.events", "account": "123456789012",
        "time": "2026-11-25T08:00:00Z", "region": "eu-south-1", "resources": [], "detail": {},
    }  # fmt: skip
    assert archive("app.sweep_uploads", tick) == {"announced": 0, "removed": 0}
    assert archive("app.erase_due", tick) == {"institutions": 0, "orders": 0, "rules": 0, "waiting": 0, "failed": 0}
    assert archive("app.tell_expired", tick)["transfers"] == 0
    assert archive("app.read_again", tick) == {"objects": 0}
    assert archive("app.anchor_audit", tick)["chains"] >= 1
    (anchored,) = _client("s3", cloud).list_objects_v2(Bucket="archive-anchors")["Contents"]
    assert anchored["Key"].startswith("anchors/")

    assert archive("app.canary", tick) == {"state": "off"}

    assert [forwarder["silent"] for forwarder in archive("app.operate", {"job": "forwarders"})["forwarders"]] == [False]

    load = {"checksums": [[f"instances/maugeri/{digest}", 0, len(content)]]}
    assert archive("app.assemble_bodies", load) == [zlib.crc32(content)]


def test_every_handler_and_every_module_of_the_package_loads_on_arm64(archive: Function, packaged: packaging.Package) -> None:
    functions = [
        resource["Properties"]
        for resource in packaged.template["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    ]
    handlers = {function["Handler"] for function in functions if function["CodeUri"] == "./deployment.zip"}
    assert handlers == CALLED
    assert [handler for handler in sorted(handlers) if archive(handler, None) is not True] == []
    with zipfile.ZipFile(packaged.zip_file) as content:
        names = [name for name in content.namelist() if name.startswith("chalicelib/") and name.endswith(".py")]
    assert len(names) > 50
    for name in names:
        module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        assert archive(f"{module}.__name__", None) is False, module


def _request(
    method: str, path: str, caller: str | None = None, body: Any = None, resource: str | None = None, parameters: Any = None
) -> dict[str, Any]:
    """A request as API Gateway hands it over."""
    headers = {"Accept": "*/*", "Content-Type": "application/json", "Host": "api.example.org"}
    identity = {"userArn": caller, "sourceIp": "192.0.2.1", "userAgent": "test"}
    return {
        "resource": resource or path, "path": path, "httpMethod": method, "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()}, "queryStringParameters": None,
        "multiValueQueryStringParameters": None, "pathParameters": parameters, "stageVariables": None,
        "requestContext": {
            "resourcePath": resource or path, "httpMethod": method, "path": path, "stage": "api", "requestId": "r",
            "domainName": "api.example.org", "identity": identity,
        },
        "body": base64.b64encode(json.dumps(body).encode()).decode() if body is not None else None,
        "isBase64Encoded": body is not None,
    }  # fmt: skip


def _answer(answer: dict[str, Any]) -> tuple[int, Any]:
    body = base64.b64decode(answer["body"]) if answer.get("isBase64Encoded") else answer["body"]
    return answer["statusCode"], json.loads(body)


# The function that decodes pixels


def _images() -> dict[str, bytes]:
    """An instance or more of each transfer syntax that the function claims, by name; those that no package has are made here."""
    names = [
        "test_files/MR_small_implicit.dcm", "test_files/MR_small.dcm", "test_files/MR_small_bigendian.dcm",
        "test_files/image_dfl.dcm", "test_files/MR_small_RLE.dcm", "test_files/SC_rgb_rle_16bit_2frame.dcm",
        "test_files/SC_rgb_jpeg_dcmtk.dcm", "test_files/SC_rgb_small_odd_jpeg.dcm", "test_files/JPEG-lossy.dcm",
        "JPGLosslessP14SV1_1s_1f_8b.dcm", "JPEG-LL.dcm", "test_files/SC_rgb_jpeg_gdcm.dcm",
        "test_files/MR_small_jpeg_ls_lossless.dcm", "emri_small_jpeg_ls_lossless.dcm",
        "test_files/JPEGLSNearLossless_16.dcm", "test_files/SC_rgb_jls_lossy_line.dcm",
        "test_files/MR_small_jp2klossless.dcm", "test_files/J2K_pixelrep_mismatch.dcm", "test_files/GDCMJ2K_TextGBR.dcm",
        "test_files/JPEG2000.dcm", "test_files/693_J2KI.dcm",
    ]  # fmt: skip
    found = {name.rsplit("/", 1)[-1]: _named(real_files()[name].read_bytes()) for name in names}
    found["lossless-process-14.dcm"] = _with_syntax(dcmread(io.BytesIO(found["JPEG-LL.dcm"])), "57")  # SV1 is one of its kinds
    original = dcmread(io.BytesIO(found["MR_small.dcm"]))
    for end in ("53", "55"):  # retired processes, whose streams are progressive ones
        grey = io.BytesIO()
        Image.fromarray(original.pixel_array.astype(np.uint8)).save(grey, "JPEG", progressive=True)
        made = dcmread(io.BytesIO(found["MR_small.dcm"]))
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
        made.PixelData = encapsulate([grey.getvalue()])
        made["PixelData"].VR = "OB"
        made["PixelData"].is_undefined_length = True
        found[f"progressive-{end}.dcm"] = _with_syntax(made, end)
    for end, options in (("201", {"reversible": True}), ("202", {"reversible": True}), ("203", {"reversible": False})):
        coded = imagecodecs.htj2k_encode(original.pixel_array, **options)
        made = dcmread(io.BytesIO(found["MR_small.dcm"]))
        made.PixelData = encapsulate([coded])
        made["PixelData"].VR = "OB"
        made["PixelData"].is_undefined_length = True
        found[f"htj2k-{end}.dcm"] = _with_syntax(made, end)
    return found


def _named(content: bytes) -> bytes:
    """A file with the UIDs without which the archive takes none in."""
    dataset = dcmread(io.BytesIO(content))
    missing = [name for name in ("StudyInstanceUID", "SeriesInstanceUID") if name not in dataset]
    for name in missing:
        setattr(dataset, name, UID("2.25.1"))
    return _written(dataset) if missing else content


def _with_syntax(dataset: Dataset, end: str) -> bytes:
    dataset.file_meta.TransferSyntaxUID = UID(f"1.2.840.10008.1.2.4.{end}")
    return _written(dataset)


def _written(dataset: Dataset) -> bytes:
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def _syntax(content: bytes) -> str:
    return str(dcmread(io.BytesIO(content), stop_before_pixels=True).file_meta.TransferSyntaxUID)


@pytest.fixture(scope="module")
def decoded(
    decoder: Function, decoder_here: Function, cloud: dict[str, str]
) -> Callable[[str, bytes, dict[str, Any]], tuple[bytes, bytes]]:
    """Calls the function on both processors with the same object and job; what each made."""
    store = _client("s3", cloud)

    def run(name: str, content: bytes, job: dict[str, Any]) -> tuple[bytes, bytes]:
        store.put_object(Bucket="archive-images", Key=f"instances/maugeri/{name}", Body=content)
        made = []
        for place, function in (("arm", decoder), ("here", decoder_here)):
            target = f"cache/rendered/{place}/{name}"
            answer = function("pixels.handler.handler", {**job, "source": f"instances/maugeri/{name}", "target": target})
            assert answer["state"] == "done", (name, place, answer)
            made.append(store.get_object(Bucket="archive-images", Key=target)["Body"].read())
        return made[0], made[1]

    return run


CODECS = {syntax for syntax, family in FAMILIES.items() if family in ("jpeg", "jpeg-ls", "jpeg-2000")}


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is odd about the files
        return _images()


def test_images_of_every_transfer_syntax_are_tried(images: dict[str, bytes]) -> None:
    assert {_syntax(content) for content in images.values()} == {*CODECS, RLE, DEFLATED, *PLAIN}


def test_frames_decoded_on_arm64_are_those_decoded_here(
    images: dict[str, bytes], decoded: Callable[[str, bytes, dict[str, Any]], tuple[bytes, bytes]]
) -> None:
    """Bit for bit what is lossless, within one grey level what is not."""
    for name, content in images.items():
        there, here = decoded(name, content, {"op": "frame", "frame": 1})
        assert len(there) == len(here) > 0, name
        if _syntax(content) not in LOSSY:
            assert there == here, name
        else:
            head = dcmread(io.BytesIO(content), stop_before_pixels=True)
            kind = f"<{'i' if head.PixelRepresentation else 'u'}{head.BitsAllocated // 8}"
            assert _difference(np.frombuffer(there, kind), np.frombuffer(here, kind)) <= 1, name


def test_one_image_in_every_lossless_syntax_is_the_same_image_on_arm64(
    images: dict[str, bytes], decoded: Callable[[str, bytes, dict[str, Any]], tuple[bytes, bytes]]
) -> None:
    original = dcmread(io.BytesIO(images["MR_small.dcm"])).PixelData
    same = [name for name in images if name.startswith(("MR_small", "htj2k-201", "htj2k-202"))]
    assert len(same) == 8
    for name in same:
        assert decoded(name, images[name], {"op": "frame", "frame": 1})[0] == original, name


def test_pictures_drawn_on_arm64_are_those_drawn_here(
    images: dict[str, bytes], decoded: Callable[[str, bytes, dict[str, Any]], tuple[bytes, bytes]]
) -> None:
    for name, media_type in (("MR_small.dcm", "image/png"), ("JPEG-LL.dcm", "image/jpeg"), ("SC_rgb_jpeg_dcmtk.dcm", "image/png"),
                             ("htj2k-201.dcm", "image/jpeg"), ("SC_rgb_rle_16bit_2frame.dcm", "image/gif")):  # fmt: skip
        head = dcmread(io.BytesIO(images[name]), stop_before_pixels=True)
        job = {
            "op": "render", "media_type": media_type, "frame": 1, "quality": 90, "box": [0, 0, int(head.Columns), int(head.Rows)],
            "size": [96, 80], "flip": [True, False], "window": None, "annotations": ["Maugeri"],
        }  # fmt: skip
        drawn = [Image.open(io.BytesIO(made)).convert("RGB") for made in decoded(name, images[name], job)]
        assert {picture.size for picture in drawn} == {(96, 80)}
        assert len(drawn[0].getcolors(96 * 80) or ()) > 1, f"{name} is all of one colour"
        assert _difference(*(np.asarray(picture) for picture in drawn)) <= 1, name


def test_instances_transcoded_on_arm64_are_those_transcoded_here(
    images: dict[str, bytes], decoded: Callable[[str, bytes, dict[str, Any]], tuple[bytes, bytes]]
) -> None:
    for name in (
        "MR_small_bigendian.dcm",
        "emri_small_jpeg_ls_lossless.dcm",
        "MR_small_RLE.dcm",
        "htj2k-202.dcm",
        "image_dfl.dcm",
    ):
        there, here = decoded(name, images[name], {"op": "transcode"})
        assert there == here, name
        assert _syntax(there) == "1.2.840.10008.1.2.1"


def test_a_report_is_text_on_arm64(decoded: Callable[[str, bytes, dict[str, Any]], tuple[bytes, bytes]]) -> None:
    content = real_files()["test_files/reportsi.dcm"].read_bytes()
    there, here = decoded("report.dcm", content, {"op": "report", "media_type": "text/html"})
    assert there == here and there.startswith(b"<!doctype html>")


def test_a_damaged_image_is_refused_on_arm64_and_harms_nothing(
    images: dict[str, bytes], decoder: Function, cloud: dict[str, str]
) -> None:
    damaged = dcmread(io.BytesIO(images["MR_small_jp2klossless.dcm"]))
    damaged.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(4000)])
    _client("s3", cloud).put_object(Bucket="archive-images", Key="instances/maugeri/damaged", Body=_written(damaged))
    job = {"op": "frame", "frame": 1, "source": "instances/maugeri/damaged", "target": "cache/rendered/damaged"}
    assert decoder("pixels.handler.handler", job) == {
        "state": "refused",
        "reason": "its compressed frame has 0 columns and 0 rows, the data set says 64 and 64",
    }
    assert decoder("pixels.handler.handler", {**job, "target": "instances/maugeri/x"})["state"] == "refused"


def _difference(mine: Any, others: Any) -> int:
    return int(np.max(np.abs(mine.astype(np.int64) - others.astype(np.int64))))
