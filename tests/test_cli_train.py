"""`rnn-gpu train` as a user meets it."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import resource
import signal
import subprocess
import sys
from contextlib import nullcontext

import pytest

from rnn_gpu import cli
from rnn_gpu.cli.backend import quiet_blas
from rnn_gpu.cli.display import clock
from rnn_gpu.dispatch import BACKENDS

SMALL = ["--hidden", "8", "--batch", "4", "--sequence", "20", "--epochs", "2", "--learning-rate", "0.01"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of its own, which is the current one, with text.txt in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RNN_GPU_BACKEND", "numpy_cpu")
    rng = random.Random(0)
    words = ("the cat sees a bird", "a dog hears the moon", "my aunt likes it [well]")
    (tmp_path / "text.txt").write_text("".join(rng.choice(words) + ".\n" for _ in range(80)))
    return tmp_path


def run(capsys, *words):
    """Run the command: its status and what it wrote to stdout and stderr."""
    status = cli.main(["train", *map(str, words)])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def refused(capsys, *words):
    """Run the command, which must be refused: the one line on stderr."""
    status, out, err = run(capsys, *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("rnn-gpu train: error: ")
    return err.removeprefix("rnn-gpu train: error: ")


def command(*words, **options):
    """Start the command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "rnn_gpu.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **options,
    )  # fmt: skip


def history(model):
    config = json.loads((model / "config.json").read_text())
    return [(e["training"], e["validation"], e["learning_rate"]) for e in config["progress"]["epochs"]]


def test_it_trains_reports_writes_and_draws(capsys, folder):
    status, out, err = run(capsys, "text.txt", "--out", "model", *SMALL)
    assert (status, err) == (0, "")
    for expected in ("epoch 1 done", "epoch 2 done", "bits/char", "held out", "A sample", "rnn-gpu sample model"):
        assert expected in out
    config = json.loads((folder / "model" / "config.json").read_text())
    assert config["format"] == "rnn_gpu language model"
    assert config["settings"]["hidden"] == 8
    assert f"{config['result']['held_out']:.3f}" in out
    assert (folder / "model" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_words_are_measured_by_perplexity(capsys):
    status, out, _ = run(capsys, "text.txt", "--out", "model", "--unit", "word", *SMALL, "--sequence", "5")
    assert status == 0
    assert "perplexity" in out
    assert "bits/char" not in out


def test_without_matplotlib_it_says_how_to_get_the_picture(capsys, folder, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    status, out, _ = run(capsys, "text.txt", "--out", "model", *SMALL)
    assert status == 0
    assert "pip install 'rnn_gpu[plot]'" in out
    assert not (folder / "model" / "loss.png").exists()


def test_a_cell_of_the_users_own_from_the_current_folder(capsys, folder):
    (folder / "mine_ok.py").write_text(
        "from rnn_gpu.compiler.language import cell, sigmoid, tanh\n"
        "@cell(gates='zn', states='h')\n"
        "def minimal(Wx, U, h):\n"
        "    z = sigmoid(Wx.z + U.z(h))\n"
        "    return (1 - z) * h + z * tanh(Wx.n + U.n(h))\n"
        "number = 3\n"
    )
    path = list(sys.path)
    assert run(capsys, "text.txt", "--out", "model", "--cell", "mine_ok:minimal", *SMALL)[0] == 0
    assert sys.path == path
    assert "hidden" in refused(capsys, "--resume", "model", "--hidden", "9")
    assert run(capsys, "--resume", "model", "--epochs", "3")[0] == 0
    assert "one of its cells, minimal, after mine_ok:, got 'other', which it lacks" in refused(
        capsys, "text.txt", "--cell", "mine_ok:other"
    )
    assert "got 'number', which is of type int" in refused(capsys, "text.txt", "--cell", "mine_ok:number")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("import no_such_thing", ["ModuleNotFoundError", "no_such_thing"]),
        ("def f(:", ["SyntaxError"]),
        ("1 / 0", ["ZeroDivisionError"]),
        (
            "from rnn_gpu.compiler.language import cell\n"
            "@cell(gates='z', states='h')\ndef f(Wx, U, h):\n    return h + 'a'",
            ["cell 'f'", ":4)"],
        ),
        ("", ["a cell made with @cell", "'f', which it lacks"]),
    ],
)
def test_a_module_that_does_not_give_a_cell_says_why(capsys, folder, content, words):
    name = f"broken_{abs(hash(content))}"
    (folder / f"{name}.py").write_text(content)
    line = refused(capsys, "text.txt", "--cell", f"{name}:f")
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--hidden", "0"], "--hidden: expected an integer at least 1 and at most 1000000, got '0'"),
        (["--hidden", "x"], "--hidden: expected an integer"),
        (["--dropout", "1.5"], "--dropout: expected a number at least 0 and below 1, got '1.5'"),
        (["--clip", "nan"], "--clip: expected a number above 0, got 'nan'"),
        (["--unit", "byte"], "--unit: expected one of char, word, got 'byte'"),
        (["--cell", "lstn"], "--cell: expected the name of a cell"),
        (["--cell", "lstn"], "did you mean lstm"),
        (["--cell", "no_such_module:x"], "--cell: expected a module that can be imported, got 'no_such_module'"),
        (["--cell", ":x"], "--cell: expected a module"),
        (["--backend", "numpi_cpu"], f"--backend: expected one of {', '.join(BACKENDS)}, got 'numpi_cpu'"),
        (["--backend", "numpi_cpu"], "did you mean numpy_cpu"),
        (["--batch", "500"], "FILE: expected at least 10001 characters to train on"),
    ],
)
def test_bad_options_are_named_with_what_was_expected(capsys, folder, words, message):
    small = list(SMALL)
    if words[0] in small:
        at = small.index(words[0])
        del small[at : at + 2]
    assert message in refused(capsys, "text.txt", "--out", "model", *small, *words)
    assert not (folder / "model").exists()


def test_bad_files_are_named_with_what_was_expected(capsys, folder):
    (folder / "empty.txt").write_bytes(b"")
    (folder / "short.txt").write_text("too short")
    (folder / "binary.txt").write_bytes(b"abc\x80def")
    for file, expected in [
        ("missing.txt", "FILE: expected a text file in UTF-8, got 'missing.txt': No such file or directory"),
        ("empty.txt", "FILE: expected a text file in UTF-8, got 'empty.txt', which is empty"),
        ("short.txt", "FILE: expected a text of at least 40 characters, got 9"),
        ("binary.txt", "FILE: expected a text file in UTF-8, got 'binary.txt', whose byte 3 is 0x80"),
        (".", "FILE: expected a text file in UTF-8, got '.': Is a directory"),
    ]:
        assert refused(capsys, file, "--out", "model").startswith(expected)
    assert not (folder / "model").exists()


def test_a_folder_that_cannot_be_written_to_is_refused_before_training(capsys):
    assert "--out: expected a folder that can be written to" in refused(capsys, "text.txt", "--out", "text.txt", *SMALL)
    assert "--out: expected" in refused(capsys, "text.txt", "--out", "text.txt/sub", *SMALL)


def test_a_model_is_replaced_only_when_asked(capsys, folder):
    assert run(capsys, "text.txt", "--out", "model", *SMALL)[0] == 0
    before = (folder / "model" / "config.json").read_bytes()
    assert "--out: expected a folder without a model" in refused(capsys, "text.txt", "--out", "model", *SMALL)
    assert (folder / "model" / "config.json").read_bytes() == before
    assert run(capsys, "text.txt", "--out", "model", "--overwrite", *SMALL)[0] == 0
    (folder / "model" / "config.json").write_text('{"model_type": "another program\'s"}')
    assert "was not written by rnn-gpu train" in refused(capsys, "text.txt", "--out", "model", "--overwrite", *SMALL)


def test_without_out_the_folder_is_a_new_one_each_time(capsys, folder):
    for _ in range(3):
        assert run(capsys, "text.txt", *SMALL)[0] == 0
    assert sorted(path.name for path in folder.glob("rnn-lm*")) == ["rnn-lm", "rnn-lm-2", "rnn-lm-3"]


def test_resuming(capsys, folder):
    assert run(capsys, "text.txt", "--out", "whole", *SMALL, "--epochs", "4")[0] == 0
    assert run(capsys, "text.txt", "--out", "parts", *SMALL)[0] == 0
    assert "--cell: expected 'lstm', as in the model that is resumed, got 'gru'" in refused(
        capsys, "--resume", "parts", "--cell", "gru"
    )
    assert "--out: expected nothing beside --resume" in refused(capsys, "--resume", "parts", "--out", "other")
    assert "holds no model" in refused(capsys, "--resume", "nowhere")
    status, out, _ = run(capsys, "--resume", "parts")
    assert status == 0
    assert "Nothing is left to train: all epochs are done" in out
    assert run(capsys, "--resume", "parts", "--epochs", "4")[0] == 0
    assert history(folder / "parts") == history(folder / "whole")
    (folder / "text.txt").write_text("a" * 4000)
    assert "FILE: expected the text that the model was trained on" in refused(capsys, "--resume", "parts")


def interrupted(number, *words):
    """Send a signal to a training process after its first epoch: what it then wrote to stdout."""
    with command("train", "text.txt", *words) as process:
        next(line for line in process.stdout if line.startswith("epoch 1 done"))
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    return out


def test_ctrl_c_saves_and_tells_how_to_go_on(capsys, folder):
    long = [*SMALL, "--epochs", "6", "--hidden", "64"]
    assert "rnn-gpu train --resume 'my model'\n" in interrupted(signal.SIGINT, "--out", "my model", *long)
    assert 1 <= len(history(folder / "my model")) < 6
    assert run(capsys, "--resume", "my model")[0] == 0
    assert run(capsys, "text.txt", "--out", "whole", *long)[0] == 0
    assert history(folder / "my model") == history(folder / "whole")


def test_a_request_to_terminate_saves_too(folder):
    interrupted(signal.SIGTERM, "--out", "model", *SMALL, "--epochs", "1000")
    assert 1 <= len(history(folder / "model")) < 1000


def test_a_disk_that_takes_no_more_stops_training_and_keeps_the_former_model(capsys, folder):
    assert run(capsys, "text.txt", "--out", "model", *SMALL)[0] == 0
    before = {path.name: path.read_bytes() for path in (folder / "model").iterdir()}
    largest = max(map(len, before.values()))

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 8, largest // 8))

    with command("train", "--resume", "model", "--epochs", "3", preexec_fn=limit) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == (
        "rnn-gpu train: error: the model cannot be saved in 'model': File too large; the former save is intact\n"
    )
    assert {path.name: path.read_bytes() for path in (folder / "model").iterdir()} == before


def test_a_reader_that_goes_away_does_not_lose_the_model(folder):
    with command("train", "text.txt", "--out", "model", *SMALL, "--epochs", "400") as process:
        next(line for line in process.stdout if line.startswith("epoch 1 done"))
        process.stdout.close()
        process.wait(timeout=60)
        assert process.stderr.read() == ""
    assert process.returncode == 141
    assert 1 <= len(history(folder / "model")) < 400


def test_on_a_terminal_there_is_a_bar(folder):
    master, slave = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-m", "rnn_gpu.cli", "train", "text.txt", "--out", "model", *SMALL, "--hidden", "128"],
        stdout=slave, stderr=slave, env=environment,
    )  # fmt: skip
    os.close(slave)
    written = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # how a terminal reports that its last writer has gone
            break
        if not data:
            break
        written += data
    assert process.wait(timeout=60) == 0
    os.close(master)
    shown = written.decode()
    for expected in ("━", "chars/s", "bits/char", " left", "held out"):
        assert expected in shown


def test_clock():
    assert [clock(s) for s in (0, 59.6, 754, 3723)] == ["0:00", "1:00", "12:34", "1:02:03"]


@pytest.mark.parametrize(("backend", "quiet"), [("numpy_cpu", False), ("numba_cpu", True)])
def test_numpy_products_leave_the_processors_to_the_backend(monkeypatch, backend, quiet):
    threads = {"many": 4}

    def limits(count, user_api):
        assert user_api == "blas"
        threads["many"] = count
        return nullcontext()

    monkeypatch.setattr("rnn_gpu.cli.backend.threadpool_limits", limits)
    monkeypatch.delenv("RNN_GPU_BACKEND", raising=False)
    with quiet_blas(backend):
        assert threads["many"] == (1 if quiet else 4)
    monkeypatch.setenv("RNN_GPU_BACKEND", backend)
    threads["many"] = 4
    with quiet_blas(None):
        assert threads["many"] == (1 if quiet else 4)


def test_a_file_name_that_is_not_utf_8(capsys, folder):
    name = b"b\xe9.txt".decode("utf-8", "surrogateescape")
    (folder / "text.txt").rename(folder / name)
    assert cli.main(["train", name, *SMALL, "--out", "model"]) == 0
    assert cli.main(["sample", "model", "--length", "5"]) == 0


def test_words_that_never_stand_twice(capsys, folder):
    (folder / "unique.txt").write_text(" ".join(f"w{chr(97 + k // 26)}{chr(97 + k % 26)}" for k in range(600)))
    assert cli.main(["train", "unique.txt", "--unit", "word", *SMALL]) == 2
    assert "FILE: expected a text in which some token stands 2 times" in capsys.readouterr().err


def test_a_model_is_not_read_with_other_equations(capsys, folder, monkeypatch):
    text = """
from rnn_gpu.compiler.language import cell, sigmoid, tanh

@cell(gates="zn", states="h")
def mine(Wx, U, h):
    z = sigmoid(Wx.z + U.z(h))
    return {}
"""
    (folder / "first.py").write_text(text.format("(1 - z) * h + z * tanh(Wx.n + U.n(h))"))
    assert cli.main(["train", "text.txt", "--cell", "first:mine", *SMALL, "--out", "model"]) == 0
    (folder / "first.py").write_text(text.format("z * h + (1 - z) * tanh(Wx.n + U.n(h))"))
    monkeypatch.delitem(sys.modules, "first")
    capsys.readouterr()
    assert cli.main(["sample", "model", "--length", "5"]) == 2
    assert "was trained with another cell 'first:mine'" in capsys.readouterr().err
