"""A model on disk: a folder with config.json and the safetensors files that it names.

A checkpoint is replaced as a whole or not at all. The tensors go to new files first; then config.json, which names
them, takes the place of the former one in a single step; only then are the former tensors removed. Whatever happens
on the way, a full disk or a crash included, config.json names complete files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from rnn_gpu.errors import ArgumentError, FileFormatError, RnnGpuError

__all__ = ["CONFIG", "FORMAT", "VERSION", "damaged", "holds_model", "prepare", "read_config", "read_tensors", "write"]

FORMAT = "rnn_gpu language model"
VERSION = 1
CONFIG = "config.json"

_FILE = re.compile(r"(?:model|training)-[0-9]{6,}\.safetensors")
_LEFTOVER = re.compile(rf"{_FILE.pattern}|{re.escape(CONFIG)}\.new")

Arrays = Mapping[str, NDArray[Any]]


def holds_model(folder: Path) -> bool:
    """Whether the folder has a config.json, of whatever kind."""
    return (folder / CONFIG).exists()


def prepare(folder: Path, argument: str) -> None:
    """Make the folder, with its parents, and try to write to it. Raises ArgumentError, named `argument`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
    except OSError as error:
        found = f"{str(folder)!r}: {error.strerror}"
        raise ArgumentError(argument, "a folder that can be written to", found) from error


def write(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Arrays]) -> None:
    """Replace the checkpoint in `folder`.

    config: what config.json is to hold, in values that JSON has, beside the entries "format", "version", "save" and
    "files", which are added. tensors: for "model" and "training", the arrays of each file.
    Raises OSError, with the former checkpoint intact and nothing else left behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = _last_save(folder) + 1
    files, new = {}, []
    try:
        for kind, arrays in tensors.items():
            path = folder / f"{kind}-{number:06}.safetensors"
            new.append(path)
            data = safetensors.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
            _write_file(path, data)
            files[kind] = {"name": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        whole = {"format": FORMAT, "version": VERSION, "save": number, "files": files, **config}
        path = folder / f"{CONFIG}.new"
        new.append(path)
        _write_file(path, (json.dumps(whole, indent=1, allow_nan=False) + "\n").encode())
        _sync_folder(folder)
        os.replace(path, folder / CONFIG)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise
    _sync_folder(folder)
    kept = {entry["name"] for entry in files.values()}
    for path in folder.iterdir():
        if _LEFTOVER.fullmatch(path.name) and path.name not in kept:
            path.unlink(missing_ok=True)


def read_config(folder: Path) -> dict[str, Any]:
    """Return what config.json holds. Raises FileFormatError unless it is that of a model of this format."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise FileFormatError(f"{str(folder)!r} holds no model: {CONFIG} is missing") from error
    except OSError as error:
        raise FileFormatError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{str(path)!r} is not JSON: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise FileFormatError(f"{str(path)!r} was not written by rnn-gpu train: its format is not {FORMAT!r}")
    if config.get("version") != VERSION:
        raise FileFormatError(
            f"{str(path)!r} has version {config.get('version')!r} of the format; this rnn_gpu reads version {VERSION}"
        )
    return config


def read_tensors(folder: Path, config: Mapping[str, Any], kind: str) -> dict[str, NDArray[Any]]:
    """Return the arrays, by name, of the file "model" or "training" that config.json names.

    Raises FileFormatError if it is missing, damaged or another one than was written together with config.json.
    """
    with damaged(folder / CONFIG):
        entry = config["files"][kind]
        name, size, sha256 = str(entry["name"]), entry["bytes"], entry["sha256"]
    if not _FILE.fullmatch(name):
        raise FileFormatError(f"{str(folder / CONFIG)!r} names a file that is not part of a model: {name!r}")
    path = folder / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"{str(path)!r}, which belongs to the model, cannot be read: {error.strerror}") from error
    if len(data) != size:
        raise FileFormatError(f"{str(path)!r} is damaged: expected {size} bytes, found {len(data)}")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise FileFormatError(f"{str(path)!r} is damaged: its contents are not what {CONFIG} says")
    try:
        arrays: dict[str, NDArray[Any]] = safetensors.load(data)
    except SafetensorError as error:
        raise FileFormatError(f"{str(path)!r} is not a safetensors file: {error}") from error
    return arrays


@contextlib.contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Report whatever turns out to be missing, or of the wrong kind, in what `path` holds as a FileFormatError."""
    try:
        yield
    except KeyError as error:
        raise FileFormatError(f"{str(path)!r} is damaged: {error.args[0]!r} is missing") from error
    except (TypeError, ValueError, AttributeError, RnnGpuError) as error:
        raise FileFormatError(f"{str(path)!r} is damaged: {error}") from error


def _last_save(folder: Path) -> int:
    """The number of the last save, 0 if there is none."""
    if not holds_model(folder):
        return 0
    number = read_config(folder).get("save")
    return number if isinstance(number, int) else 0


def _write_file(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the names of files in the folder survive a power cut, where the system lets one (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
