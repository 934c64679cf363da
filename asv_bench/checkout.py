"""Environments that hold the package as of one commit, and for the rest see the packages of this one.

Nothing is built or downloaded: the files of the commit lie where its wheel would put them. The benchmarks' definitions,
`rnn_gpu.bench`, are those of the working tree for every commit, so that commits differ in what is measured alone.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("rnn_gpu", "kernels")
WORKING_TREE = "working tree"
_STAMP = "commit.txt"


def resolve(commit: str) -> str:
    """The commit's hash. Raises ValueError where the repository has none of that name."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise ValueError(f"this repository has no commit {commit!r}")
    return found.stdout.strip()


def make_environment(folder: Path) -> None:
    """An environment that sees the packages of the one in which this runs, but not its editable installations.

    Those are made by .pth files in a folder of packages, and Python does not read them in a folder that is itself
    named in a .pth file.
    """
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    (_packages(folder) / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")


def python(folder: Path) -> Path:
    """The environment's interpreter."""
    return folder / "bin" / "python"


def compiled(folder: Path) -> str:
    """Where Numba keeps what it compiles in the environment, also when another commit is put into it."""
    return str(folder / "compiled")


def install(commit: str, folder: Path) -> None:
    """Put the commit's package, or the working tree's, into the environment, in the place of the one there."""
    packages = _packages(folder)
    stamp = packages / _STAMP
    if commit == WORKING_TREE or not stamp.exists() or stamp.read_text() != commit:
        stamp.unlink(missing_ok=True)
        for part in PARTS:
            shutil.rmtree(packages / part, ignore_errors=True)
        _extract(commit, packages)
        (packages / "kernels").rename(packages / "rnn_gpu" / "kernels")
        stamp.write_text(commit)
    bench = packages / "rnn_gpu" / "bench"
    shutil.rmtree(bench, ignore_errors=True)
    shutil.copytree(ROOT / "rnn_gpu" / "bench", bench, ignore=shutil.ignore_patterns("__pycache__"))


def _extract(commit: str, folder: Path) -> None:
    if commit == WORKING_TREE:
        for part in PARTS:
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        return
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", commit, *PARTS]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


def _packages(folder: Path) -> Path:
    version = ".".join(map(str, sys.version_info[:2]))
    return folder / "lib" / f"python{version}" / "site-packages"
