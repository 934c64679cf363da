"""What is installed: the wheel's contents, and what `import rnn_gpu` costs and brings in."""

import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
IMPORT_SECONDS = 0.3
LAZY = {"cupy", "jax", "keras", "matplotlib", "numba", "rich", "safetensors", "tensorflow", "torch"}


def python(code: str, *options: str, cwd: Path) -> str:
    """What `code` prints in a fresh interpreter, away from the repository."""
    run = subprocess.run([sys.executable, *options, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def sources(folder: str) -> set[str]:
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT / folder).as_posix() for path in paths}


def test_wheel_fits_every_python_and_platform(wheel: Path) -> None:
    assert wheel.name == f"rnn_gpu-{version('rnn_gpu')}-py3-none-any.whl"


def test_wheel_holds_one_package(contents: set[str]) -> None:
    assert {name.split("/")[0] for name in contents} == {"rnn_gpu", f"rnn_gpu-{version('rnn_gpu')}.dist-info"}


def test_wheel_holds_every_source_file(contents: set[str]) -> None:
    package = {f"rnn_gpu/{path}" for path in sources("rnn_gpu")}
    kernels = {f"rnn_gpu/kernels/{path}" for path in sources("kernels")}
    assert {name for name in contents if name.startswith("rnn_gpu/")} == package | kernels
    assert "rnn_gpu/kernels/numpy_cpu/__init__.py" in contents


def test_wheel_holds_licence_and_type_marker(contents: set[str]) -> None:
    assert f"rnn_gpu-{version('rnn_gpu')}.dist-info/licenses/LICENSE" in contents
    assert "rnn_gpu/py.typed" in contents


def test_kernels_is_no_package_at_the_root() -> None:
    assert not (ROOT / "kernels" / "__init__.py").exists()


# -S leaves out the .pth files, and with them the editable installation.
def test_installed_wheel_imports(unpacked: Path, tmp_path: Path) -> None:
    path = [str(unpacked), str(Path(np.__file__).parents[1])]
    code = f"import sys; sys.path[:0] = {path}; import rnn_gpu.kernels.numpy_cpu as module; print(module.__file__)"
    assert Path(python(code, "-I", "-S", cwd=tmp_path)).is_relative_to(unpacked)


def test_installed_wheel_has_no_top_level_kernels(unpacked: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(unpacked)!r}); from importlib.util import find_spec as find; "
    found = "[name for name in ('rnn_gpu', 'kernels') if find(name)]"
    assert python(f"{code} print({found})", "-I", "-S", cwd=tmp_path) == "['rnn_gpu']"


def test_import_is_quick(tmp_path: Path) -> None:
    code = "from time import thread_time as now; start = now(); import rnn_gpu; print(now() - start)"
    seconds = [float(python(code, cwd=tmp_path)) for _ in range(5)]
    assert min(seconds) < IMPORT_SECONDS


def test_import_leaves_heavy_libraries_alone(tmp_path: Path) -> None:
    code = "import sys, rnn_gpu; print(*(name.split('.')[0] for name in sys.modules))"
    assert not LAZY & set(python(code, cwd=tmp_path).split())
