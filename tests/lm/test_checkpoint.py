"""Models on disk: replaced as a whole or not at all, and refused when damaged."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest

from rnn_gpu.errors import ArgumentError, FileFormatError
from rnn_gpu.lm import checkpoint

FIRST = {"model": {"a": np.arange(6.0).reshape(2, 3)}, "training": {"b": np.ones(4, np.float32)}}
SECOND = {"model": {"a": -np.ones((2, 3))}, "training": {"b": np.zeros(4, np.float32)}}


def read(folder):
    config = checkpoint.read_config(folder)
    return config["note"], {kind: checkpoint.read_tensors(folder, config, kind) for kind in ("model", "training")}


def assert_holds(folder, note, tensors):
    found_note, found = read(folder)
    assert found_note == note
    for kind, arrays in tensors.items():
        assert list(found[kind]) == list(arrays)
        for name, array in arrays.items():
            assert found[kind][name].dtype == array.dtype
            assert np.array_equal(found[kind][name], array)


def test_what_is_written_is_read_and_the_former_files_are_gone(tmp_path):
    (tmp_path / "loss.png").write_bytes(b"mine")
    (tmp_path / "model-of-mine.safetensors").write_bytes(b"mine")
    checkpoint.write(tmp_path, {"note": "é"}, FIRST)
    assert_holds(tmp_path, "é", FIRST)
    checkpoint.write(tmp_path, {"note": "two"}, SECOND)
    assert_holds(tmp_path, "two", SECOND)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json", "loss.png", "model-000002.safetensors", "model-of-mine.safetensors",
        "training-000002.safetensors",
    ]  # fmt: skip


class Disk:
    """Fails at the n-th of the calls that reach the disk, in one of the ways a disk fails."""

    def __init__(self, monkeypatch, fail_at, raises):
        self.calls, self.fail_at, self.raises = 0, fail_at, raises
        for name in ("fsync", "replace"):
            monkeypatch.setattr(checkpoint.os, name, self.wrap(getattr(os, name)))

    def wrap(self, function):
        def call(*arguments):
            self.calls += 1
            if self.calls == self.fail_at:
                raise self.raises
            return function(*arguments)

        return call


@pytest.mark.parametrize("fail_at", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("raises", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_at_any_point_leaves_the_former_checkpoint_and_nothing_else(tmp_path, monkeypatch, fail_at, raises):
    checkpoint.write(tmp_path, {"note": "one"}, FIRST)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with monkeypatch.context() as patched:
        disk = Disk(patched, fail_at, raises)
        with pytest.raises(type(raises)):
            checkpoint.write(tmp_path, {"note": "two"}, SECOND)
    assert disk.calls == fail_at
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    checkpoint.write(tmp_path, {"note": "three"}, SECOND)
    assert_holds(tmp_path, "three", SECOND)


def test_what_a_crash_left_behind_is_removed_by_the_next_save(tmp_path):
    checkpoint.write(tmp_path, {"note": "one"}, FIRST)
    (tmp_path / "model-000002.safetensors").write_bytes(b"half")
    (tmp_path / "config.json.new").write_bytes(b"{")
    assert_holds(tmp_path, "one", FIRST)
    checkpoint.write(tmp_path, {"note": "two"}, SECOND)
    assert_holds(tmp_path, "two", SECOND)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_failing_first_save_leaves_an_empty_folder(tmp_path, monkeypatch):
    Disk(monkeypatch, 3, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space"):
        checkpoint.write(tmp_path, {"note": "one"}, FIRST)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no model: config.json is missing"),
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "was not written by rnn-gpu train"),
        (b'{"model_type": "llama"}', "was not written by rnn-gpu train"),
        (json.dumps({"format": checkpoint.FORMAT, "version": 99}).encode(), "has version 99 .* reads version 1"),
    ],
)
def test_a_config_that_is_not_one_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        checkpoint.read_config(tmp_path)


def test_damaged_tensors_are_refused(tmp_path):
    checkpoint.write(tmp_path, {"note": "one"}, FIRST)
    config, path = checkpoint.read_config(tmp_path), tmp_path / "model-000001.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(FileFormatError, match=rf"is damaged: expected {len(data)} bytes, found {len(data) - 1}"):
        checkpoint.read_tensors(tmp_path, config, "model")
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(FileFormatError, match=r"is damaged: its contents"):
        checkpoint.read_tensors(tmp_path, config, "model")
    path.unlink()
    with pytest.raises(FileFormatError, match=r"cannot be read: No such file"):
        checkpoint.read_tensors(tmp_path, config, "model")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "config.json", "model-1.safetensors"])
def test_a_config_that_names_other_files_is_refused(tmp_path, name):
    config = {"files": {"model": {"name": name, "bytes": 1, "sha256": ""}}}
    with pytest.raises(FileFormatError, match="names a file that is not part of a model"):
        checkpoint.read_tensors(tmp_path, config, "model")


@pytest.mark.parametrize("files", [{}, {"files": None}, {"files": {"model": {}}}, {"files": {"model": 3}}])
def test_a_config_without_its_files_is_refused(tmp_path, files):
    with pytest.raises(FileFormatError, match=r"config.json' is damaged"):
        checkpoint.read_tensors(tmp_path, files, "model")


def test_preparing_a_folder_makes_it_and_leaves_nothing_in_it(tmp_path):
    checkpoint.prepare(tmp_path / "a" / "b", "out")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_that_cannot_be_made_or_written_to_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "sub"):
        with pytest.raises(ArgumentError, match=r"^out: expected a folder that can be written to, got "):
            checkpoint.prepare(folder, "out")

    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.tempfile, "TemporaryFile", full)
    with pytest.raises(ArgumentError, match="No space left on device"):
        checkpoint.prepare(tmp_path / "new", "out")
