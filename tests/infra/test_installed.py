"""What a hospital installs, installed: the manual's commands under a real systemd, and the image in a real container.

The machine is a bare Debian in a folder, the archive a local city, the PACS DCMTK. Slow, since it is all real.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from pydicom import dcmread

from forwarder import build
from local.processes import free_port
from tests.harness import ROOT, RunningCity, wait_until
from tests.infra import machines
from tests.infra.machines import Machine, Podman
from tests.unit.dicom.building import real_files

MANUAL = ROOT / "docs" / "forwarder.md"
UNIT = "contenitore-forwarder"
SENT = ("test_files/CT_small.dcm", "test_files/MR_small.dcm")
TOOLS = ("mmdebstrap", "systemd-nspawn", "nsenter", "/usr/bin/storescu", "/usr/bin/echoscu")

PROBE = """
import ctypes, json, os, pathlib, signal, socket, time
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def write(folder):
    pathlib.Path(folder, "written").write_text("x")
def see_others():
    if any(name.isdigit() and os.stat("/proc/" + name).st_uid == 0 for name in os.listdir("/proc")):
        return
    raise PermissionError
def list_home():
    if not os.listdir("/root"):
        raise PermissionError
acts = {
    "write the spool": lambda: write("/var/lib/contenitore-forwarder"),
    "write a temporary file": lambda: write("/tmp"),
    "bind port 104": lambda: socket.socket().bind(("127.0.0.1", 104)),
    "read the configuration": lambda: pathlib.Path("/etc/contenitore/forwarder.toml").read_text(),
    **{"write " + folder: lambda folder=folder: write(folder) for folder in (
        "/etc", "/etc/contenitore", "/usr", "/opt/contenitore", "/var/lib", "/var/log", "/root", "/home", "/boot", "/sys",
        "/proc/sys/kernel", "/sys/fs/cgroup")},
    "see processes of others": see_others,
    "look into root's home": list_home,
    "mount": lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "make a namespace": lambda: call("unshare", 0x10000000),
    "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "open a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "become root": lambda: os.setuid(0),
    "make a device": lambda: os.mknod("/tmp/device", 0o20600, os.makedev(1, 1)),
    "open a disk": lambda: os.close(os.open("/dev/vda", os.O_RDONLY)),
    "make a program of another user's": lambda: os.chmod("/tmp/written", 0o4755),
    "stop process 1": lambda: os.kill(1, signal.SIGTERM),
    "name the machine": lambda: socket.sethostname("x"),
    "restart the machine": lambda: call("reboot", 0),
    "load a module": lambda: call("delete_module", b"x", 0),
}
done = {}
for name, act in acts.items():
    try:
        act()
        done[name] = True
    except OSError as error:
        done[name] = False
print(json.dumps(done))
"""
ALLOWED = {"write the spool", "write a temporary file", "bind port 104", "read the configuration"}

pytestmark = pytest.mark.skipif(bool(machines.missing(*TOOLS)), reason=machines.missing(*TOOLS))


class Installed:
    """A forwarder that runs somewhere: its ports on this machine."""

    def __init__(self) -> None:
        self.dicom, self.page = free_port(), free_port()

    def status(self) -> dict[str, object]:
        found: dict[str, object] = requests.get(f"http://127.0.0.1:{self.page}/status.json", timeout=60).json()
        return found

    def healthy(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self.page}/health", timeout=60).status_code == 200
        except requests.ConnectionError:
            return False

    def echo(self) -> None:
        subprocess.run(["/usr/bin/echoscu", "127.0.0.1", str(self.dicom)], check=True, timeout=240)

    def receive(self, *names: str) -> None:
        """Sent by a PACS, and acknowledged."""
        files = [str(real_files()[name]) for name in names]
        subprocess.run(
            ["/usr/bin/storescu", "127.0.0.1", str(self.dicom), *files],
            check=True, timeout=240, env={"TCP_NODELAY": "1"}, capture_output=True,
        )  # fmt: skip

    def configuration(self, example: str, city: RunningCity, profile: str) -> str:
        """The example, with what the manual says is one's own to give, on ports that are free here."""
        lines = example.replace("# profile = ", "profile = ", 1).replace("# port = 11112", f"port = {self.dicom}")
        lines = lines.replace("# port = 8104", f"port = {self.page}")
        lines = re.sub(r'^api = ".*"', f'api = "{city.api}"', lines, flags=re.MULTILINE)
        lines = re.sub(r'^profile = ".*"', f'profile = "{profile}"', lines, count=1, flags=re.MULTILINE)
        assert str(self.dicom) in lines and str(self.page) in lines and city.api in lines and profile in lines
        return lines


def helper_answer(city: RunningCity, profile: str) -> str:
    """What a helper of IAM Roles Anywhere prints for the AWS library."""
    given = city.credentials(profile)
    return json.dumps(
        {"Version": 1, "AccessKeyId": given.access_key, "SecretAccessKey": given.secret_key, "SessionToken": given.token}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for machines, removed at the end, since it is large."""
    made = tmp_path_factory.mktemp("machines")
    yield made
    machines.remove(made)


@pytest.fixture(scope="module")
def debian(folder: Path) -> Path:
    reason = machines.make_debian(folder / "debian")
    if reason:
        pytest.skip(reason)
    return folder / "debian"


@pytest.fixture(scope="module")
def packages(folder: Path) -> Path:
    """`dist` as `make package` makes it, `wheels` with what it needs, and a `pip.conf` that finds them in a machine."""
    build.build(folder / "dist")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--python-version=3.11"]
    reason = machines.run([*command, f"--dest={folder / 'wheels'}", "-r", str(folder / "dist" / "requirements.txt")])
    if reason:
        pytest.skip(f"the package index cannot be reached: {reason[-200:]}")
    (folder / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    return folder


@pytest.fixture(scope="module")
def installed() -> Installed:
    return Installed()


@pytest.fixture(scope="module")
def machine(debian: Path, packages: Path, installed: Installed, city: RunningCity, folder: Path) -> Iterator[Machine]:
    """A machine on which somebody followed the manual to the letter."""
    binds = {packages / "dist": "/srv/forwarder", packages / "wheels": "/wheels"}
    environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with machines.booted(debian, f"contenitore-{installed.page}", binds, environment, folder / "boot.log") as booted:
        for command in machines.commands_of(MANUAL, "Install in ten minutes"):
            if command.startswith("chown"):  # the manual's step before it: what one writes by hand
                booted.write("/etc/contenitore/answer.json", helper_answer(city, "maugeri"))
                booted.write("/etc/contenitore/helper", "#!/bin/sh\ncat /etc/contenitore/answer.json\n")
                booted("chmod +x /etc/contenitore/helper")
                profile = "[profile hospital]\nregion = eu-south-1\ncredential_process = /etc/contenitore/helper\n"
                booted.write("/etc/contenitore/aws.ini", profile)
            if command.startswith("systemctl --no-pager status"):
                wait_until(installed.healthy, 120)
            booted(command, folder="/srv/forwarder")
            if "example-config" in command:
                example = booted("cat /etc/contenitore/forwarder.toml")
                booted.write("/etc/contenitore/forwarder.toml", installed.configuration(example, city, "hospital"))
        assert booted.shown(UNIT, "NRestarts") == "0"
        yield booted


def test_who_follows_the_manual_has_a_forwarder_that_runs(machine: Machine, installed: Installed) -> None:
    assert machine(f"systemctl is-enabled {UNIT}") == "enabled"
    assert machine(f"systemctl is-active {UNIT}") == "active"
    assert machine(f"test -f $(systemctl show --value -p Documentation {UNIT} | sed s/^file://) && echo there") == "there"
    assert machine("stat -c '%A %U:%G' /etc/contenitore /var/lib/contenitore-forwarder").splitlines() == [
        "drwxr-x--- root:contenitore", "drwx------ contenitore:contenitore",
    ]  # fmt: skip
    installed.echo()


def test_what_the_pacs_sends_arrives_compressed_and_can_be_found(
    machine: Machine, installed: Installed, city: RunningCity
) -> None:
    before = int(str(installed.status()["indexed"]))
    installed.receive(*SENT)
    wait_until(lambda: installed.status()["indexed"] == before + len(SENT))
    assert installed.status()["rejected"] == 0
    for name in SENT:
        study = str(dcmread(real_files()[name], stop_before_pixels=True).StudyInstanceUID)
        (instance,) = city.client("maugeri").get(f"/studies/{study}/manifest").json()["instances"]
        assert instance["transfer_syntax_uid"] == "1.2.840.10008.1.2.4.80"


def test_a_forwarder_that_is_killed_comes_again_with_the_same_spool(machine: Machine, installed: Installed) -> None:
    installed.receive("test_files/reportsi.dcm")
    before = int(str(installed.status()["received"]))
    first = machine.shown(UNIT, "MainPID")
    machine(f"kill -9 {first}")
    wait_until(lambda: machine.shown(UNIT, "MainPID") not in (first, "0") and installed.healthy(), 120)
    assert machine.shown(UNIT, "NRestarts") != "0"
    assert installed.status()["received"] == before >= 1
    wait_until(lambda: installed.status()["waiting"] == 0)
    assert installed.status()["indexed"] == before


def test_stopping_the_service_ends_it_cleanly_and_starting_goes_on(machine: Machine, installed: Installed) -> None:
    machine(f"systemctl stop {UNIT}")
    assert [machine.shown(UNIT, name) for name in ("ActiveState", "Result", "ExecMainStatus")] == ["inactive", "success", "0"]
    assert '"message": "stopping"' in machine(f"journalctl --no-pager -o cat -u {UNIT} -n 20")
    assert not installed.healthy()
    for command in ("status --once", "rejected list", "retry"):  # as root, who leaves nothing that is root's
        machine(f"contenitore-forwarder {command}")
    machine(f"systemctl start {UNIT}")
    wait_until(installed.healthy, 120)


def test_a_mistake_is_named_in_the_journal_and_when_it_is_mended_the_service_is_up_by_itself(
    machine: Machine, installed: Installed
) -> None:
    right = machine("cat /etc/contenitore/forwarder.toml")
    machine.write("/etc/contenitore/forwarder.toml", right.replace("\n[spool]\n", "\n[spool]\ntypo = 1\n"))
    machine.try_(f"systemctl restart {UNIT}")
    wait_until(lambda: "typo" in machine(f"journalctl --no-pager -o cat -u {UNIT} -n 20"), 120)
    machine.write("/etc/contenitore/forwarder.toml", right)
    wait_until(installed.healthy, 120)


def test_the_service_can_write_its_spool_and_do_nothing_that_it_has_no_use_for(machine: Machine) -> None:
    unit = machine(f"cat /etc/systemd/system/{UNIT}.service")
    unit = re.sub(r"^Exec\w+=.*$", "ExecStart=/opt/contenitore/bin/python /srv/probe.py", unit, flags=re.MULTILINE)
    unit = re.sub(r"^Restart\w*=.*\n", "", unit, flags=re.MULTILINE).replace("Type=exec", "Type=oneshot")
    machine.write("/srv/probe.py", PROBE)
    machine.write("/etc/systemd/system/probe.service", unit)
    machine("systemctl daemon-reload && systemctl start probe")
    done = json.loads(machine("journalctl --no-pager -o cat -u probe | grep '^{'"))
    assert {name for name, succeeded in done.items() if succeeded} == ALLOWED
    assert len(done) > 20


def test_systemd_finds_nothing_wrong_with_the_unit_and_little_that_is_exposed(machine: Machine) -> None:
    checked = machine.try_(f"systemd-analyze verify /etc/systemd/system/{UNIT}.service")
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    score = re.search(r"Overall exposure level.*?: ([\d.]+)", machine(f"systemd-analyze --no-pager security {UNIT}"))
    assert score is not None and float(score[1]) <= 1.5


# The container


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Podman]:
    absent = machines.missing("podman", "crun", "unshare")
    if absent:
        pytest.skip(absent)
    with machines.podman(folder / "podman") as made:
        yield made


@pytest.fixture(scope="module")
def image(engine: Podman, debian: Path, packages: Path) -> str:
    """The image of the Dockerfile; its base is a Debian with Python, by the name that the Dockerfile has for it."""
    base = re.findall(r"^ARG BASE=(\S+)$", (packages / "dist" / "Dockerfile").read_text(), re.MULTILINE)
    assert base == ["python:3.11-slim"]
    subprocess.run(["tar", "-C", str(debian), "-cf", str(packages / "debian.tar"), "."], check=True, timeout=120)
    engine("import", str(packages / "debian.tar"), "localhost/debian:12")
    (packages / "base").mkdir()
    (packages / "base" / "Dockerfile").write_text("FROM localhost/debian:12\nRUN python3 -m venv /usr/local\n")
    options = ["--isolation=chroot", "--pull=never", "--network=host", "--format=docker"]
    engine("build", *options, "-t", f"docker.io/library/{base[0]}", str(packages / "base"))
    mounts = ["-v", f"{packages / 'wheels'}:/wheels:ro", "-v", f"{packages / 'pip.conf'}:/etc/pip.conf:ro"]
    engine("build", *options, *mounts, "-t", "contenitore-forwarder", str(packages / "dist"))
    return "contenitore-forwarder"


def test_the_image_runs_sends_and_ends_as_it_should_and_a_new_container_goes_on_with_its_spool(
    engine: Podman, image: str, city: RunningCity, folder: Path
) -> None:
    assert "[archive]" in engine("run", "--rm", *_here(), image, "example-config")
    contained, etc = Installed(), folder / "etc"
    etc.mkdir(mode=0o750)
    example = engine("run", "--rm", *_here(), image, "example-config")
    (etc / "forwarder.toml").write_text(contained.configuration(example, city, "hospital"))
    (etc / "aws.ini").write_text(
        "[profile hospital]\nregion = eu-south-1\ncredential_process = cat /etc/contenitore/answer.json\n"
    )
    (etc / "answer.json").write_text(helper_answer(city, "mondino"))
    for path in (etc, *etc.iterdir()):
        shutil.chown(path, 10001)
    options = [*_here(), *_hardened(), "-v", "spool:/var/lib/contenitore-forwarder", "-v", f"{etc}:/etc/contenitore:ro"]

    engine("run", "-d", "--name", "one", *options, image)
    wait_until(contained.healthy)
    assert engine("exec", "one", "id", "-u") == "10001"
    assert engine.try_("exec", "one", "sh", "-c", "echo x > /etc/x").returncode != 0
    wait_until(lambda: engine.try_("healthcheck", "run", "one").returncode == 0)
    checked = engine("exec", "one", "contenitore-forwarder", "check")
    assert "BAD" not in checked and "good archive" in checked
    contained.echo()
    contained.receive(*SENT)
    rows = engine("exec", "one", "python3", "-c", _JOURNAL)
    assert int(rows) == len(SENT)
    wait_until(lambda: contained.status()["indexed"] == len(SENT))

    engine("stop", "--time", "30", "one")
    assert engine("inspect", "one", "--format", "{{.State.ExitCode}}") == "0"
    logged = engine.try_("logs", "one")
    assert '"message": "stopping"' in logged.stdout + logged.stderr
    engine("rm", "one")

    engine("run", "-d", "--name", "two", *options, image)
    wait_until(contained.healthy)
    assert contained.status()["received"] == len(SENT)
    contained.receive("test_files/reportsi.dcm")
    wait_until(lambda: contained.status()["indexed"] == len(SENT) + 1)


def test_a_container_whose_forwarder_does_not_answer_is_not_healthy(engine: Podman, image: str, folder: Path) -> None:
    etc = folder / "etc-of-nobody"
    etc.mkdir()
    example = engine("run", "--rm", *_here(), image, "example-config")
    (etc / "forwarder.toml").write_text(example)
    (etc / "forwarder.toml").chmod(0o644)
    options = [*_here(), *_hardened(), "-v", f"{etc}:/etc/contenitore:ro", "--entrypoint", "sleep"]
    engine("run", "-d", "--name", "idle", *options, image, "600")
    assert engine.try_("healthcheck", "run", "idle").returncode != 0


_JOURNAL = (
    "import sqlite3; c = sqlite3.connect('file:/var/lib/contenitore-forwarder/journal.sqlite3?mode=ro', uri=True); "
    "print(c.execute('select count(*) from instances').fetchone()[0])"
)


def _here() -> list[str]:
    """What this machine cannot do otherwise: networks and control groups of the container's own, higher limits."""
    return ["--network=host", "--cgroups=disabled", "--ulimit=nofile=8192:8192", "--ulimit=nproc=4096:4096"]


def _hardened() -> list[str]:
    """The options of `docker run` that the manual gives."""
    text = MANUAL.read_text(encoding="utf-8")
    options = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    assert " ".join(options) in text
    return options
