"""The environment in which asv times a commit: see `checkout`."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import checkout
from asv.environment import Environment

RECORDED = ("numba", "numpy")
"""Packages whose versions are part of an environment's name: times in another are another line of the history."""


class CommitEnvironment(Environment):
    """A commit of ours with the packages of the environment that asv runs in."""

    tool_name = "commit"

    def __init__(self, conf: Any, python: str, requirements: dict[str, str], tagged_env_vars: Any) -> None:
        self._requirements = requirements | {name: version(name) for name in RECORDED}
        super().__init__(conf, python, self._requirements, tagged_env_vars)
        self._global_env_vars["NUMBA_CACHE_DIR"] = checkout.compiled(Path(self._path))

    @classmethod
    def matches(cls, python: str) -> bool:
        """Python of the version that asv runs on, "3.11", is the one there is."""
        return platform.python_version().startswith(f"{python}.")

    def check_presence(self) -> bool:
        """Whether it has been made."""
        return checkout.python(Path(self._path)).exists()

    def _setup(self) -> None:
        checkout.make_environment(Path(self._path))

    def install_project(self, conf: Any, repo: Any, commit_hash: str) -> None:
        """Put the commit into it."""
        checkout.install(commit_hash, Path(self._path))
        self._set_commit_hash(commit_hash)
        self._set_installed_commit_hash(commit_hash)

    def run(self, args: list[str], **kwargs: Any) -> Any:
        """Run its Python."""
        return self.run_executable("python", args, **kwargs)
