"""`rnn-gpu sample` as a user meets it."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest

from rnn_gpu import cli

SMALL = ["--hidden", "8", "--batch", "4", "--sequence", "5", "--epochs", "2", "--learning-rate", "0.02"]


@pytest.fixture(scope="module", autouse=True)
def _reference_backend():
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RNN_GPU_BACKEND", "numpy_cpu")
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with two small models: char and word."""
    folder = tmp_path_factory.mktemp("models")
    rng = random.Random(0)
    words = ("the cat sees a bird", "a dog hears the moon", "my aunt likes it [well]")
    text = folder / "text.txt"
    text.write_text("".join(rng.choice(words) + ".\n" for _ in range(80)))
    for unit in ("char", "word"):
        assert cli.main(["train", str(text), "--unit", unit, "--out", str(folder / unit), *SMALL]) == 0
    return folder


def run(capsys, *words):
    """Run the command: its status and what it wrote to stdout and stderr."""
    status = cli.main(["sample", *map(str, words)])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def test_it_goes_on_from_the_prompt_for_so_many_characters(capsys, models):
    status, out, err = run(capsys, models / "char", "--prompt", "the [", "--length", 100, "--seed", 1)
    assert (status, err) == (0, "")
    assert out.startswith("the [")
    assert len(out) == len("the [") + 100 + 1
    assert run(capsys, models / "char", "--prompt", "the [", "--length", 100, "--seed", 1)[1] == out
    assert run(capsys, models / "char", "--prompt", "the [", "--length", 100, "--seed", 2)[1] != out


def test_without_a_seed_each_sample_is_another(capsys, models):
    assert run(capsys, models / "char")[1] != run(capsys, models / "char")[1]


def test_temperature_zero_needs_no_seed(capsys, models):
    first, second = (run(capsys, models / "char", "--temperature", 0, "--length", 60) for _ in range(2))
    assert first == second
    assert len(first[1]) == 61


def test_words_are_put_together_and_unknown_ones_are_reported(capsys, models):
    status, out, err = run(capsys, models / "word", "--prompt", "the zebra", "--length", 30, "--seed", 0)
    if "<unk>" in json.loads((models / "word" / "config.json").read_text())["vocabulary"]:
        assert (status, err) == (0, "rnn-gpu sample: the model reads as <unk>: 'zebra'\n")
    else:
        assert (status, out) == (2, "")
        assert "--prompt: expected only words that the model knows, got 'zebra'" in err
    status, out, _ = run(capsys, models / "word", "--prompt", "the cat", "--length", 30, "--seed", 0)
    assert status == 0
    assert out.startswith("the cat")
    assert "<unk>" not in out
    assert " ." not in out


def test_characters_that_the_model_does_not_know_are_named(capsys, models):
    status, out, err = run(capsys, models / "char", "--prompt", "the Zebra €")
    assert (status, out) == (2, "")
    assert err == "rnn-gpu sample: error: --prompt: expected only characters that the model knows, got 'Z' '€'\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--temperature", "-1"], "--temperature: expected a number at least 0 and at most 1000000, got '-1'"),
        (["--temperature", "hot"], "--temperature: expected a number"),
        (["--length", "0"], "--length: expected an integer at least 1"),
        (["--seed", "-3"], "--seed: expected an integer at least 0"),
        (["--backend", "nope"], "--backend: expected one of"),
    ],
)
def test_bad_options_are_named(capsys, models, words, message):
    status, out, err = run(capsys, models / "char", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_what_is_not_a_model_is_refused(capsys, models, tmp_path):
    status, _, err = run(capsys, tmp_path)
    assert status == 2
    assert err == f"rnn-gpu sample: error: '{tmp_path}' holds no model: config.json is missing\n"
    assert run(capsys, models / "text.txt")[0] == 2


def test_a_truncated_model_is_refused(capsys, models, tmp_path):
    for path in (models / "char").iterdir():
        data = path.read_bytes()
        (tmp_path / path.name).write_bytes(data[:-10] if path.name.startswith("model-") else data)
    status, _, err = run(capsys, tmp_path)
    assert status == 2
    assert "is damaged: expected" in err
    assert err.count("\n") == 1


def test_a_reader_that_goes_away_is_no_error(models):
    process = subprocess.Popen(
        [sys.executable, "-m", "rnn_gpu.cli", "sample", str(models / "char"), "--length", "10000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert len(process.stdout.read(5)) == 5, "it streams: this is read long before the end"
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()
