"""Settings for the whole suite."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile

import pytest
from hypothesis import settings

# Read when Keras is imported; it writes a file to its folder.
os.environ["KERAS_BACKEND"] = "torch"
if "KERAS_HOME" not in os.environ:
    os.environ["KERAS_HOME"] = tempfile.mkdtemp(prefix="keras-")
    atexit.register(shutil.rmtree, os.environ["KERAS_HOME"])

# Tables are as wide as the terminal, and these tests may have none.
os.environ["COLUMNS"] = "200"

pytest.register_assert_rewrite("support")

# The same examples on every run: what fails once fails again.
settings.register_profile("deterministic", derandomize=True, deadline=None, database=None, max_examples=200)
settings.load_profile("deterministic")


def pytest_collection_modifyitems(config, items):
    """With `--dist loadgroup`, a cell's kernels that Numba compiles are compiled in one process."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        chosen = item.callspec.params if hasattr(item, "callspec") else {}
        if str(chosen.get("target")) == "numba_cuda" and "cell" in chosen:
            item.add_marker(pytest.mark.xdist_group(f"numba_cuda_{chosen['cell'].name}"))


def pytest_collection_finish(session):
    """Of millions of objects, the tests and what they import, none is garbage: it takes a second to find that out."""
    gc.collect()
    gc.freeze()
