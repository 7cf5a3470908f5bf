"""The page as it is published: files that never change are kept for good, and what names them is asked for anew."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import requests

from infra import page
from tests.harness import ROOT, RunningCity


def test_a_changed_file_changes_the_folder_that_all_others_are_named_by(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "viewer" / "site", tmp_path / "site")
    first = page.publish(tmp_path, tmp_path / "first")
    (tmp_path / "site" / "page" / "text" / "en.json").write_text("{}")
    second = page.publish(tmp_path, tmp_path / "second")
    assert first != second
    for name in page.NAMING:
        text = (tmp_path / "second" / name).read_text()
        named = re.findall(r"[\"'](/page/[^\"']+)", text)
        assert named
        assert all((tmp_path / "second" / path.lstrip("/")).is_file() for path in named), named
        assert first not in text


def test_the_city_serves_the_pages_files_for_good_and_asks_for_its_index_anew(city: RunningCity) -> None:
    site = city.endpoints["viewer"]
    index = requests.get(site, timeout=60)
    assert index.headers["Cache-Control"] == "no-cache"
    named = re.findall(r"(/page/[0-9a-f]{16}/[a-z-]+\.(?:js|css|svg))", index.text)
    assert len(named) > 30
    main = requests.get(site + named[-1], timeout=60)
    assert main.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert main.headers["Content-Encoding"] == "gzip"
    assert main.headers["Content-Security-Policy"].startswith("default-src 'none'")
    again = requests.get(site, headers={"If-None-Match": index.headers["ETag"]}, timeout=60)
    assert again.status_code == 304
    assert requests.get(f"{site}/page/{'0' * 16}/main.js", timeout=60).status_code == 404
