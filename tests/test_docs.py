"""The site made of the documents and the docstrings: it builds without a warning, and has all that is public."""

from __future__ import annotations

import importlib
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sphinx.util.inventory import InventoryFile

from rnn_gpu.bench.charts import CHARTS

ROOT = Path(__file__).parents[1]
PUBLIC = ("rnn_gpu", "rnn_gpu.weights", "rnn_gpu.stack", "rnn_gpu.torch", "rnn_gpu.errors", "rnn_gpu.compiler.language")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(folder)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    return folder


@pytest.fixture(scope="module")
def documented(site):
    """Full names of everything that the reference describes."""
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    return {name for kind, entries in inventory.data.items() if kind.startswith("py:") for name in entries}


class Page(HTMLParser):
    """The links and pictures of a page."""

    def __init__(self, path):
        super().__init__()
        self.targets = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.targets += [found[key] for key in ("href", "src") if found.get(key)]


@pytest.mark.parametrize("module", PUBLIC)
def test_what_is_public_is_in_the_reference(documented, module):
    names = importlib.import_module(module).__all__
    modules = {name for name in names if f"{module}.{name}" in sys.modules}
    elsewhere = {"Weights", "init_weights", "Symbol"}  # in the package's own page; and nobody makes a symbol
    missing = {name for name in set(names) - modules - elsewhere if f"{module}.{name}" not in documented}
    assert missing == set()
    assert {"rnn_gpu.Weights", "rnn_gpu.init_weights", "rnn_gpu.keras.LSTM"} <= documented


def test_arguments_become_a_list(site):
    page = (site / "api" / "functions.html").read_text(encoding="utf-8")
    assert '<span class="pre">lengths</span></code>: (B,) integers' in page
    assert "They are wanted on the host" in " ".join(page.split())


def test_every_page_leads_somewhere(site):
    pages = list(site.rglob("*.html"))
    assert {"index", "getting-started", "cells", "backends", "semantics", "performance"} <= {
        page.stem for page in pages
    }
    for page in pages:
        for target in Page(page).targets:
            path = target.partition("#")[0].partition("?")[0]
            if path and "://" not in path and not path.startswith("data:"):
                assert (page.parent / path).exists(), (page, target)


def test_pictures_are_there_with_the_command_that_made_them():
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert "rnn-gpu bench" in text
    for name in CHARTS:
        assert (ROOT / "docs" / "images" / f"{name}.png").stat().st_size < 300_000
        assert f"images/{name}.png" in text
