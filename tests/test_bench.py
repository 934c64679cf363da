"""`rnn-gpu bench` as a user runs it, on a suite of tiny shapes."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest

import rnn_gpu
from rnn_gpu import cells, cli, files, get_threads, set_threads
from rnn_gpu.bench import blas, memory, ours
from rnn_gpu.bench.peers import PEERS, peer
from rnn_gpu.bench.shapes import Shape
from rnn_gpu.bench.suites import SUITES, Options, Suite
from rnn_gpu.bench.timing import Plan

TINY = Suite(
    backend="numpy_cpu",
    cells=(cells.rnn, cells.lstm),
    shapes=(Shape(3, 2, 4, 5), Shape(2, 1, 3, 4)),
    modes=("forward", "train"),
    growth=(Shape(3, 2, 4, 5),),
    growth_cells=(cells.lstm,),
    steps=(Shape(4, 1, 3, 5),),
    step_cells=(cells.lstm,),
    peers=("torch", "onnxruntime", "numpy_cpu"),
    plan=Plan(seconds=0.0, least=1, turn=1e-4),
    variants=(
        Options({"ragged": True}),
        Options({"frozen": True}, modes=("forward",)),
        Options({"resets": 0.5}),
        Options({"recompute": True}, modes=("train",)),
    ),
    variant_shapes=(Shape(4, 3, 2, 5),),
    variant_cells=(cells.lstm,),
    sweeps={"T": (1, 4), "B": (1, 2), "H": (3,)},
    sweep_shape=Shape(2, 2, 3, 3),
    sweep_cells=(cells.lstm,),
    sweep_plan=Plan(seconds=0.0, least=1, turn=1e-4),
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Few numbers, and no time lost."""
    monkeypatch.setitem(SUITES, "cpu", (TINY, replace(TINY, cells=(cells.rnn,))))
    monkeypatch.setattr("rnn_gpu.bench.timing._rest", lambda: None)
    monkeypatch.setattr("rnn_gpu.bench.timing.WARM_UP_S", 0.0)
    monkeypatch.setattr(blas, "SGEMM_SIZE", 16)
    monkeypatch.setattr(memory, "BYTES", 1 << 12)


@pytest.fixture
def bench(capsys):
    """Run the command: its status and what it wrote to stdout and stderr."""

    def run(*words):
        status = cli.main(["bench", *map(str, words)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, captured.out, captured.err

    return run


@pytest.fixture
def measured(bench, tmp_path):
    """Run the command with --json: status, output and what the file holds."""

    def run(*words):
        status, out, err = bench(*words, "--json", tmp_path / "bench.json")
        assert err == ""
        return status, out, json.loads((tmp_path / "bench.json").read_text())

    return run


def disturb(monkeypatch, backend, change):
    """Let this backend's results be changed ones of the NumPy backend's."""
    real = rnn_gpu.forward

    def forward(*arguments, backend, **options):
        result = real(*arguments, backend="numpy_cpu", **options)
        return result._replace(y=change(result.y)) if backend == wrong else result

    wrong = backend
    monkeypatch.setattr(ours, "forward", forward)


def test_the_whole_command(measured, tmp_path):
    status, out, report = measured("--plots", tmp_path / "pictures")
    assert status == 0
    assert report["complete"]
    assert not report["quick"]
    by_mode = {}
    for row in report["rows"]:
        if row["peer"] is None:
            assert row["resets"] or row["recompute"]
            continue
        by_mode.setdefault((row["mode"], row["frozen"], row["ragged"], row["peer"]), []).append(row)
        assert row["status"] == "ok"
        assert row["ratio"] == pytest.approx(row["peer_s"] / row["ours_s"])
        assert row["error"] <= row["bound"] < 1e-5
        assert row["peer_error"] < 1e-5
    assert {key: len(rows) for key, rows in by_mode.items()} == {
        ("forward", False, False, "torch"): 4,
        ("forward", False, False, "onnxruntime"): 4,
        ("train", False, False, "torch"): 4,
        ("step", False, False, "torch"): 1,
        ("step", True, False, "torch"): 1,
        ("forward", False, True, "torch"): 1,
        ("train", False, True, "torch"): 1,
        ("forward", True, False, "torch"): 1,
        ("forward", True, False, "onnxruntime"): 1,
    }
    assert [(row["resets"], row["recompute"], row["mode"]) for row in report["rows"] if row["peer"] is None] == [
        (0.5, False, "forward"),
        (0.5, False, "train"),
        (0.0, True, "train"),
    ]
    sizes = {axis: {row[axis] for row in rows} for axis, rows in report["sweeps"].items()}
    assert sizes == {"T": {1, 4}, "B": {1, 2}, "H": {3}}
    assert {(row["peer"], row["mode"]) for row in report["sweeps"]["H"]} == {
        ("torch", "forward"), ("onnxruntime", "forward"), ("torch", "train"),
    }  # fmt: skip
    assert [(entry["mode"], entry["grown_T"], entry["status"]) for entry in report["growth"]] == [
        ("forward", 12, "ok"),
        ("train", 12, "ok"),
    ]
    assert {(entry["cell"], entry["mode"]) for entry in report["first_calls"]} == {
        ("rnn", "forward"), ("rnn", "train"), ("lstm", "forward"), ("lstm", "train"), ("lstm", "step"),
    }  # fmt: skip
    assert report["sgemm_gflops"] > 0
    assert report["memory_gb_s"] > 0
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [picture.name for picture in pictures] == ["growth.png", "roofline.png", "speed.png"]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    for words in ("3,2,4,5", "torch", "onnxruntime", "geometric mean", "GFLOP/s", "bench.json", *map(str, pictures)):
        assert words in out


def test_the_machine_is_described(measured):
    _, _, report = measured("--quick", "--peers", "torch", "--threads", 1)
    machine = report["machine"]
    assert report["quick"]
    assert report["threads"] == 1
    assert machine["rnn_gpu"] == rnn_gpu.__version__
    assert machine["numpy"] == np.__version__
    assert machine["cores"] >= machine["usable_cores"] >= 1
    assert {"processor", "python", "numba", "torch", "onnxruntime", "date", "commit"} <= set(machine)


def test_a_part_can_be_measured(measured):
    words = ("--cells", "gru,mgu", "--shapes", "2,2,3,4", "2,1,3,4", "--modes", "forward", "--seconds", "0.001")
    _, _, report = measured(*words)
    assert {(row["cell"], row["peer"]) for row in report["rows"]} == {
        ("gru", "torch"),
        ("gru", "onnxruntime"),
        ("mgu", None),
    }
    assert {row["B"] for row in report["rows"]} == {1, 2}
    assert all(row["ours_s"] > 0 for row in report["rows"])
    assert report["growth"] == []
    assert report["sweeps"] == {}


def test_large_products_are_compared_with_sgemm(measured):
    _, out, report = measured("--cells", "rnn", "--shapes", "1,32,4,512", "--modes", "forward", "--peers", "torch")
    (product,) = report["products"]
    (row,) = report["rows"]
    assert product["gflops"] == pytest.approx(2 * 32 * 512 * (4 + 512) / row["ours_s"] * 1e-9)
    assert product["fraction"] == pytest.approx(product["gflops"] / product["sgemm_gflops"])
    assert "NumPy's" in out


@pytest.mark.parametrize("change", [lambda y: y + 1e-3, lambda y: y * np.nan, lambda y: y[:, :, :-1]])
def test_a_wrong_result_is_reported_and_given_no_speed(monkeypatch, measured, change):
    disturb(monkeypatch, "numba_cpu", change)
    monkeypatch.setattr(ours, "backward", None)
    words = ("--backend", "numba_cpu", "--cells", "lstm", "--modes", "forward", "--peers", "torch", "numpy_cpu")
    status, out, report = measured(*words)
    assert status == 1
    assert {row["status"] for row in report["rows"]} == {"wrong"}
    assert {row["peer"] for row in report["rows"]} == {"torch", "numpy_cpu"}
    assert {row[key] for row in report["rows"] for key in ("ours_s", "peer_s", "ratio")} == {None}
    assert [(entry["status"], entry["seconds"], entry["ratio"]) for entry in report["growth"]] == [
        ("wrong", None, None)
    ]
    assert report["summary"] == []
    assert {row["status"] for rows in report["sweeps"].values() for row in rows} == {"wrong"}
    assert out.count("no speed given") == 3 + 3 + 5  # cases and growth, variants, sweeps


def test_a_result_within_twice_the_plain_error_is_right(monkeypatch, measured):
    disturb(monkeypatch, "numba_cpu", lambda y: y)
    status, _, report = measured("--backend", "numba_cpu", "--cells", "lstm", "--modes", "forward")
    assert status == 0
    assert {row["peer"] for row in report["rows"]} == {"torch", "onnxruntime", "numpy_cpu"}


def test_a_peer_that_computes_something_else_is_given_no_speed(monkeypatch, measured):
    torch = peer("torch")
    real = torch.runner

    def runner(call, threads):
        made = real(call, threads)
        return replace(made, results=lambda ran: {"y": made.results(ran)["y"] + 0.1})

    monkeypatch.setattr(torch, "runner", runner, raising=False)
    status, out, report = measured("--cells", "rnn", "--modes", "forward")
    assert status == 0
    rows = {row["peer"]: row for row in report["rows"]}
    assert (rows["torch"]["status"], rows["torch"]["ratio"]) == ("peer wrong", None)
    assert rows["torch"]["peer_error"] > 0.01
    assert rows["onnxruntime"]["ratio"] > 0
    assert "torch is wrong" in out


def test_everyone_gets_the_threads_and_ours_are_put_back(monkeypatch, measured):
    seen = []
    torch = peer("torch")
    real = torch.runner
    monkeypatch.setattr(
        torch,
        "runner",
        lambda call, threads: seen.append((threads, get_threads())) or real(call, threads),
        raising=False,
    )
    set_threads(2)
    try:
        measured("--cells", "rnn", "--modes", "forward", "--threads", "3")
        assert set(seen) == {(3, 3)}
        assert get_threads() == 2
    finally:
        set_threads(None)


def test_an_interruption_shows_what_there_is(monkeypatch, measured):
    torch = peer("torch")
    real, calls = torch.runner, []

    def runner(call, threads):
        calls.append(call.case)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(call, threads)

    monkeypatch.setattr(torch, "runner", runner, raising=False)
    status, out, report = measured("--peers", "torch")
    assert status == 130
    assert not report["complete"]
    assert [(row["cell"], row["mode"]) for row in report["rows"]] == [("rnn", "forward"), ("rnn", "train")]
    assert "Interrupted" in out
    assert "rnn" in out


def test_a_peer_that_is_missing_is_noted(monkeypatch, measured):
    monkeypatch.setattr(type(peer("torch")), "unavailable", lambda self: "the package torch is not installed")
    _, out, report = measured("--cells", "rnn", "--modes", "forward")
    assert "Not measured: torch, as the package torch is not installed." in report["notes"]
    assert "Not measured: torch" in out
    assert {row["peer"] for row in report["rows"]} == {"onnxruntime", None}  # which has neither lengths nor resets


def test_a_missing_peer_asked_for_by_name_is_an_error(monkeypatch, bench):
    monkeypatch.setattr(type(peer("torch")), "unavailable", lambda self: "it is not installed")
    assert bench("--peers", "torch") == (
        2, "", "rnn-gpu bench: error: --peers: torch cannot be used here: it is not installed\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--suite", "cpus"], "--suite: expected one of cpu, torch, gpu, got 'cpus'; did you mean cpu or gpu?"),
        (["--cells", "lstm", "grru"], "'grru'; did you mean gru"),
        (["--modes", "trane"], "--modes: expected some of forward, train, step, got 'trane'; did you mean train?"),
        (["--peers", "tourch"], "--peers: expected some of torch, onnxruntime, numpy_cpu, got 'tourch'; did you mean"),
        (["--backend", "numba_cpus"], "--backend: expected one of"),
        (["--shapes", "1,2,3"], "--shapes: expected T,B,I,H, four whole numbers"),
        (["--shapes", "1,2,3,0"], "--shapes: expected T,B,I,H, four whole numbers"),
        (["--shapes", "1,2,3,x"], "got '1,2,3,x'"),
        (["--threads", "0"], "expected an integer at least 1 and at most 1024, got '0'"),
        (["--seconds", "-1"], "expected a number above 0"),
        (["--json", "/nowhere/b.json"], "--json: expected a file that can be written, got '/nowhere/b.json'"),
        (["--plots", "/dev/null"], "--plots: expected a folder, or a place for one, got '/dev/null'"),
        (["--cells"], "expected at least one argument"),
    ],
)
def test_what_is_asked_for_wrongly_is_one_line(bench, words, message):
    status, out, err = bench(*words)
    assert (status, out) == (2, "")
    assert message in err
    assert err.startswith("rnn-gpu bench: error: ")
    assert err.count("\n") == 1


def test_a_picture_needs_matplotlib(monkeypatch, bench, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "matplotlib" else object())
    status, out, err = bench("--plots", tmp_path)
    assert (status, out) == (2, "")
    assert "pip install 'rnn_gpu[plot]'" in err


def test_a_file_is_replaced_as_a_whole(monkeypatch, tmp_path):
    path = tmp_path / "results.json"
    files.write(path, b"first")
    files.write(path, b"second")
    assert path.read_bytes() == b"second"
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        files.write(path, b"third")
    assert path.read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["results.json"]


def test_help_names_every_peer_and_mode(bench):
    status, out, _ = bench("--help")
    assert status == 0
    for name in (*PEERS, "forward", "train", "step", "--json", "rnn-gpu bench --quick"):
        assert name in out
