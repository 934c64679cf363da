"""Make the environment that everything else runs in on a machine with a GPU; also one that nothing can be fetched from.

    python3 tests/gpu/environment.py FOLDER [--wheels DIR] [--extra cuda13]

What the Python that runs this has (torch, CuPy ...) is used, not installed again: the environment sees its packages.
Only what is missing is installed, from the folder of wheels where one is given, else from the index. Needs nothing but
Python's standard library. Ends with status 2, naming what is missing, where something is.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]

NEEDED = (
    "numpy",
    "numba",
    "ml-dtypes",
    "rich",
    "safetensors",
    "threadpoolctl",
    "pytest",
    "hypothesis",
    "scikit-build-core",
)
"""To run the package and its tests on a device; CuPy comes by the extra."""

CUPY = ("cupy-cuda13x", "cupy-cuda12x")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Make the environment for a machine with a GPU.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wheels", type=Path, help="install from this folder of wheels alone")
    parser.add_argument("--extra", help="the extra that brings CuPy (default: by the driver)")
    chosen = parser.parse_args(arguments)
    if chosen.wheels is not None and not chosen.wheels.is_dir():
        print(f"WHEELS: expected a folder of wheels, got {str(chosen.wheels)!r}", file=sys.stderr)
        return 2
    extra = chosen.extra or extra_for(driver())
    if extra is None:
        print("no NVIDIA driver was found: nvidia-smi does not run", file=sys.stderr)
        return 2
    python = make(chosen.folder)
    missing = missing_packages(installed())
    print(f"missing: {', '.join(missing) or 'nothing'}")
    wanted = wanted_of(missing, extra, chosen.wheels)
    source = index(chosen.wheels)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *source]
    if wanted and subprocess.run([*pip, *wanted], check=False).returncode != 0:
        where = f"in {chosen.wheels}" if chosen.wheels else "by pip; on a machine without a network, give WHEELS="
        print(f"missing: {', '.join(missing)}: not found {where}", file=sys.stderr)
        return 2
    done = subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], check=False)
    return 2 if done.returncode else 0


def wanted_of(missing: list[str], extra: str, wheels: Path | None) -> list[str]:
    """What pip is to install. Of wheels, CuPy alone: CUDA's libraries, gigabytes, are looked for on the machine."""
    cupy = f"cupy-{extra}x" if wheels else f"{ROOT}[{extra}]"
    return [cupy if name == "cupy" else name for name in missing]


def make(folder: Path, *, with_pip: bool = True) -> str:
    """The environment's Python. It sees the packages of the Python that runs this, be that of an environment too."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=with_pip)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    own.mkdir(parents=True, exist_ok=True)
    lines = [f"import site; site.addsitedir({path!r})" for path in paths()]  # so that .pth files there are read, too
    (own / "packages_of_the_system.pth").write_text("\n".join(lines) + "\n")
    return str(python)


def paths() -> list[str]:
    """Where this Python finds its packages."""
    found = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    return [path for path in found if os.path.isdir(path)]


def installed() -> set[str]:
    """Names of the packages that this Python sees, as `normal` has them."""
    return {normal(each.metadata["Name"]) for each in importlib.metadata.distributions() if each.metadata["Name"]}


def missing_packages(have: set[str]) -> list[str]:
    """Those that are needed and not there; "cupy" where there is none for any CUDA."""
    missing = [name for name in NEEDED if normal(name) not in have]
    return missing if have & set(CUPY) else [*missing, "cupy"]


def index(wheels: Path | None) -> list[str]:
    """pip's options for where to install from."""
    return [] if wheels is None else ["--no-index", "--find-links", str(wheels)]


def driver() -> int | None:
    """The major version of NVIDIA's driver, None where there is none."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.match(r"\d+", told.strip())
    return int(found[0]) if found else None


def extra_for(driver: int | None) -> str | None:
    """CUDA 13 needs a driver of 580 or later."""
    return None if driver is None else "cuda13" if driver >= 580 else "cuda12"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
