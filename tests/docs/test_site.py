"""The documents as a site: built without a warning, with links between its pages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from corral_docs import site

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(120)
def test_the_site_is_built_without_a_warning_and_its_links_lead_to_its_pages(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout
    assert "WARNING" not in built.stdout
    pages = {place.removesuffix(".md") + ".html" for place in site.sources().values()}
    assert {str(page.relative_to(tmp_path)) for page in tmp_path.rglob("*.html")} == pages | {"404.html"}
    for page in pages:
        for target in re.findall(r'(?:href|src)="([^":#?]+\.(?:html|svg|md))(?:#[^"]*)?"', (tmp_path / page).read_text()):
            assert ((tmp_path / page).parent / target).exists(), f"{page}: {target}"


def test_links_of_the_repository_become_links_of_the_site() -> None:
    places = {"README.md": "index.md", "docs/guide.md": "guide.md", "schemas/PROTOCOL.md": "protocol/index.md"}
    text = "[a](../docs/guide.md#run) [`b`](PROTOCOL.md) `[c](PROTOCOL.md)` [d](corral_schemas/ops.py) [e](#here) ![f](../client/f.svg)"
    linked = site.linked(text, "schemas/PROTOCOL.md", "protocol/index.md", places)
    assert linked == "[a](../guide.md#run) [`b`](index.md) `[c](PROTOCOL.md)` d [e](#here) ![f](../client/f.svg)"
