"""The lines that docs/forwarder.md has for reverse proxies, in the real ones: what a client brings along itself names nobody."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from local.processes import free_port
from tests.harness import wait_until
from tests.integration.door.doors import MONDINO, Doors

MODULES = "/usr/lib/apache2/modules"
PATH = "/usr/sbin:/usr/bin:/usr/local/bin"
SMUGGLED = ["X-Remote-User", "x-remote-user", "X_Remote_User"]
FORGED = {
    "X-Remote-Roles": "admin,privacy",
    "X_Remote_Roles": "admin",
    "X-Forwarded-User": "root",
    "X-Forwarded-For": "127.0.0.1",
}
MANUAL = (Path(__file__).parents[3] / "docs" / "forwarder.md").read_text()
ROSSI = ("m.rossi", "pw")


def lines(title: str) -> str:
    """The block of the manual below this comment."""
    found = re.search(rf"\n    # {title}[^\n]*\n((?:    [^#\n][^\n]*\n)+)", MANUAL)
    assert found, title
    return found[1]


def nginx(folder: Path, port: int, signs_in: str) -> list[str]:
    (folder / "users").write_text(f"{ROSSI[0]}:{{PLAIN}}{ROSSI[1]}\n")
    auth = f'auth_basic "staff"; auth_basic_user_file {folder}/users;' if signs_in else ""
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "conf").write_text(
        f"daemon off; user root; error_log {folder}/errors; pid {folder}/pid; events {{}}\n"
        f"http {{ access_log off; {temporary}\n{lines('nginx: in http')}"
        f"server {{ listen 127.0.0.1:{port}; {auth}\n{lines('nginx: in each location')} }} }}"
    )
    return ["nginx", "-c", f"{folder}/conf"]


def apache2(folder: Path, port: int, signs_in: str) -> list[str]:
    modules = [
        "mpm_event",
        "authn_core",
        "authn_anon",
        "authz_core",
        "authz_user",
        "auth_basic",
        "headers",
        "proxy",
        "proxy_http",
    ]
    loaded = "".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so\n" for name in modules)
    auth = "Require all granted"
    if signs_in:  # by no file, which the server's own user could not read here
        auth = f"AuthType Basic\nAuthName staff\nAuthBasicProvider anon\nAnonymous {ROSSI[0]}\nAnonymous_MustGiveEmail off\n"
        auth += "Require valid-user"
    (folder / "conf").write_text(
        f"ServerRoot {folder}\nServerName localhost\nPidFile {folder}/pid\nErrorLog {folder}/errors\nListen 127.0.0.1:{port}\n"
        f"{loaded}User nobody\nGroup nogroup\n{lines('Apache')}<Location />\n{auth}\n</Location>\n"
    )
    return ["apache2", "-f", f"{folder}/conf", "-DFOREGROUND"]


def haproxy(folder: Path, port: int, signs_in: str) -> list[str]:
    (folder / "roles.map").write_text(f"{ROSSI[0]} registry,radiology\n")
    found = lines("HAProxy").replace("/etc/haproxy/roles.map", f"{folder}/roles.map")
    if not signs_in:
        found = re.sub(r" *http-request auth .*\n", "", found)
    (folder / "conf").write_text(
        "defaults\n mode http\n timeout connect 5s\n timeout client 600s\n timeout server 600s\n"
        f"userlist staff\n user {ROSSI[0]} insecure-password {ROSSI[1]}\n"
        f"frontend door\n bind 127.0.0.1:{port}\n{found} default_backend door\nbackend door\n server door 127.0.0.1:8104\n"
    )
    return ["haproxy", "-f", f"{folder}/conf"]


def caddy(folder: Path, port: int, signs_in: str) -> list[str]:
    if signs_in:
        hashed = subprocess.check_output(["caddy", "hash-password", "--plaintext", ROSSI[1]], text=True, env=environment(folder))
        signs_in = f"basicauth {{\n{ROSSI[0]} {hashed.strip()}\n}}\n"
    (folder / "conf").write_text(
        f"{{\n admin off\n auto_https off\n}}\n:{port} {{\n bind 127.0.0.1\n{signs_in}{lines('Caddy')}}}\n"
    )
    return ["caddy", "run", "--config", f"{folder}/conf", "--adapter", "caddyfile"]


def environment(folder: Path) -> dict[str, str]:
    return {"PATH": PATH, "HOME": str(folder)}


@contextmanager
def running(proxy: Callable[[Path, int, str], list[str]], folder: Path, page: str, signs_in: str) -> Iterator[str]:
    """The address of a proxy before the page; `signs_in` is empty where it signs nobody in."""
    port = free_port()
    folder = folder / (signs_in or "open")
    folder.mkdir()
    command = proxy(folder, port, signs_in)
    (folder / "conf").write_text((folder / "conf").read_text().replace("127.0.0.1:8104", page.removeprefix("http://")))
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment(folder), cwd=folder)
    try:

        def answers() -> bool:
            assert process.poll() is None, (folder / "output").read_text()
            try:
                return requests.get(f"http://127.0.0.1:{port}/health", auth=ROSSI, timeout=60).ok
            except requests.ConnectionError:
                return False

        wait_until(answers)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("proxy", [nginx, apache2, haproxy, caddy])
def test_the_manuals_lines_hand_on_the_proxys_word_alone(
    doors: Doors, tmp_path: Path, proxy: Callable[[Path, int, str], list[str]]
) -> None:
    if shutil.which(proxy.__name__, path=PATH) is None:
        pytest.skip(f"{proxy.__name__} is not installed")
    page = doors.endpoints(MONDINO)["page"]
    forged = [{name: "root"} | FORGED for name in SMUGGLED] + [{"Connection": "X-Remote-User, X-Remote-Roles"} | FORGED]
    with running(proxy, tmp_path, page, "basic") as address:
        for headers in [{}, *forged]:
            if "Connection" not in headers:
                answer = requests.get(address + "/transfers", headers=headers, auth=ROSSI, timeout=60)
                assert answer.status_code == 200 and "m.rossi" in answer.text
            assert requests.get(address + "/queue", headers=headers, auth=ROSSI, timeout=60).status_code in (401, 403)
            assert requests.get(address + "/dicomweb/studies?limit=1", headers=headers, timeout=60).status_code == 401
    with running(proxy, tmp_path, page, "") as address:
        for headers in forged:
            answer = requests.get(address + "/transfers", headers=headers, timeout=60)
            assert answer.status_code == 401 and "root" not in answer.text
