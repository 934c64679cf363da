"""The benchmarks for a device, on a platform that is the host: what they measure, check, keep and go on with."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from rnn_gpu import cells, cli, dispatch
from rnn_gpu.bench.gpu import numbers, torch_peer
from rnn_gpu.bench.gpu.measure import Effort, measure
from rnn_gpu.bench.gpu.results import Results, Row
from rnn_gpu.bench.gpu.suites import PARTS, Part, cases_of
from rnn_gpu.bench.gpu.table import machine_in_words, markdown, summaries
from rnn_gpu.bench.ours import runner
from rnn_gpu.bench.shapes import Case, Shape
from rnn_gpu.cli import bench_gpu
from rnn_gpu.errors import FileFormatError

TINY = Part("Tiny", (cells.gru, cells.lstm), (6,), (3,), (5,), ("float32",))


class Host:
    """A platform of NumPy arrays."""

    name = "host"

    def __init__(self):
        self.prepared = []

    def put(self, array):
        return array

    def repeated(self, block, shape, dtype):
        return np.resize(block, shape).astype(dtype)

    def difference(self, found, right):
        found, right = np.asarray(found), np.asarray(right)
        return float(np.abs(found - right).max()), float(np.abs(right).max())

    def time(self, run):
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin

    def prepare(self, backend, cases, stop):
        self.prepared.append(len(cases))

    def synchronize(self):
        pass

    def peak_bytes(self, run):
        run()
        return 1


class Torch:
    """torch's layers on the CPU in the place of those on a device."""

    NAME = "torch"
    unavailable = staticmethod(lambda: None)
    refuses = staticmethod(torch_peer.refuses)

    @staticmethod
    def layer(call):
        return torch_peer.layer(call, "cpu")

    @staticmethod
    def unrolled(call):
        return torch_peer.unrolled(call, "cpu")


def results(**measured):
    return Results("host", {"part": "tiny", **measured}, {"date": "2026-01-01", "commit": "c0ffee", "torch": "2"})


def run(groups, backend="numpy_cpu", peer=Torch, into=None, *, done=True, platform=None, **options):
    into = into or results()
    assert done == measure(
        groups, platform or Host(), backend, peer, into, effort=Effort(seconds=0.0, least=2), **options
    )
    return into


ONE = Shape(5, 3, 6, 6)


def test_every_case_is_checked_and_timed():
    found = run(list(TINY.groups()))
    assert [(row.cell, row.mode) for row in found.rows] == [
        (cell, mode) for cell in ("gru", "lstm") for mode in ("forward", "keep", "train")
    ]
    for row in found.rows:
        assert row.status == "ok"
        assert row.ratio == pytest.approx(row.torch_s / row.ours_s)
        assert row.ours_step_us == pytest.approx(row.ours_s / 5 * 1e6)
        assert (row.ours_samples, row.torch_samples, row.peak_bytes) == (2, 2, 1)
        assert row.error <= row.bound < 1e-5
        assert row.first_call_s > 0


@pytest.mark.parametrize(
    "options",
    [{"ragged": True}, {"resets": 0.3}, {"projected": True}, {"tf32": True}],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("cell", [cells.gru, cells.lstm], ids=lambda cell: cell.name)
def test_options(cell, options):
    shape = ONE._replace(I=6 * len(cell.gates)) if "projected" in options else ONE
    (row,) = run([[Case(cell, shape, "train", **options)]]).rows
    compared = "projected" not in options
    assert row.status == ("ok" if compared else "unchecked")
    assert (row.torch_s is not None) == (compared and "resets" not in options)
    assert row.ours_s > 0


@pytest.mark.parametrize("options", [{}, {"ragged": True}], ids=str)
def test_torch_computes_the_same(options):
    case = Case(cells.lstm, ONE, "train", dtype="float64", **options)
    call = numbers.draw(Host(), case)
    mine, theirs = runner(call, "numpy_cpu"), torch_peer.layer(call, "cpu")
    found, expected = mine.results(mine.run()), theirs.results(theirs.run())
    assert set(found) == set(expected)
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], atol=1e-12, err_msg=name)


@pytest.mark.parametrize("cell", [cells.rnn, cells.gru, cells.lstm], ids=lambda cell: cell.name)
def test_the_loop_with_resets_computes_the_same(cell):
    call = numbers.draw(Host(), Case(cell, ONE, "train", dtype="float64", resets=0.4))
    assert call.resets.any()
    mine, theirs = runner(call, "numpy_cpu"), torch_peer.unrolled(call, "cpu")
    found, expected = mine.results(mine.run()), theirs.results(theirs.run())
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], atol=1e-12, err_msg=name)


def test_a_wrong_result_gets_no_speed(monkeypatch):
    backend = dispatch.BACKENDS["numpy_cpu"]
    real = backend.forward
    monkeypatch.setattr(
        type(backend), "forward", lambda self, *given: (done := real(*given))._replace(y=done.y + np.float32(1e-3))
    )
    found = run([[Case(cells.lstm, ONE, "forward")]])
    (row,) = found.rows
    assert (row.status, row.error_in, row.ours_s, row.ratio) == ("wrong", "y", None, None)
    assert not found.all_right


def test_what_cannot_run_is_said_and_the_rest_goes_on(monkeypatch):
    backend = dispatch.BACKENDS["numpy_cpu"]
    monkeypatch.setattr(type(backend), "refuses", lambda self, problem: "too wide" if problem.H == 7 else None)

    def forward(self, problem, inputs, real=backend.forward):
        if problem.H == 8:
            raise MemoryError("1 TiB")
        return real(problem, inputs)

    monkeypatch.setattr(type(backend), "forward", forward)
    groups = [[Case(cells.gru, Shape(5, 3, width, width), "forward")] for width in (7, 8, 9)]
    rows = run(groups).rows
    assert [row.status for row in rows] == ["refused", "out of memory", "ok"]
    assert rows[0].remark.endswith("numpy_cpu: too wide")
    assert rows[1].remark == "1 TiB"


def test_torch_alone():
    (row,) = run([[Case(cells.gru, ONE, "forward")]], backend=None).rows
    assert (row.ours_s, row.ratio) == (None, None)
    assert row.torch_step_us > 0


def test_ours_alone_is_unchecked():
    (row,) = run([[Case(cells.gru, ONE, "forward")]], peer=None).rows
    assert (row.status, row.torch_s) == ("unchecked", None)
    assert row.ours_s > 0


def test_a_stopped_run_is_gone_on_with(tmp_path):
    path, groups = tmp_path / "results" / "gpu.json", list(TINY.groups())
    first = results()
    run(groups, into=first, done=False, stop=lambda: len(first.rows) == 4, save=lambda: first.write(path))
    first.write(path)
    assert len(first.rows) == 4
    assert {(row.date, row.commit) for row in first.rows} == {("2026-01-01", "c0ffee")}

    later = {"date": "2026-01-02", "commit": "decaf"}
    second = Results.begin(path, "host", {"part": "tiny"}, later)
    assert second == replace(first, machine=later)
    announced, platform = [], Host()
    run(groups, into=second, platform=platform, progress=lambda what, done, total: announced.append((done, total)))
    assert announced == [(4, 6), (4, 6), (5, 6)]
    assert platform.prepared == [2]
    assert second.rows[:4] == first.rows
    assert [row.commit for row in second.rows[4:]] == ["decaf"] * 2
    assert "; measured 2026-01-01 to 2026-01-02 at commits c0ffee, decaf." in machine_in_words(second)


def test_other_measurements_begin_anew(tmp_path):
    path = tmp_path / "gpu.json"
    run(list(TINY.groups())[:1], into=(first := results(sources="a")))
    first.write(path)
    assert Results.begin(path, "host", {"part": "tiny", "sources": "a"}, {}).rows == first.rows
    assert Results.begin(path, "host", {"part": "tiny", "sources": "b"}, {}).rows == []
    assert Results.begin(path, "another", {"part": "tiny", "sources": "a"}, {}).rows == []
    assert Results.begin(tmp_path / "none.json", "host", {}, {}).rows == []
    assert Results.begin(None, "host", {}, {}).rows == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "another", "version": 1}', "not JSON"])
def test_a_file_of_something_else_is_left_alone(tmp_path, text):
    path = tmp_path / "gpu.json"
    path.write_text(text)
    with pytest.raises(FileFormatError, match="holds no results of"):
        Results.begin(path, "host", {}, {})
    assert path.read_text() == text


def test_numbers_that_are_not_finite_are_null(tmp_path):
    found = results()
    fields = Row.of(Case(cells.gru, ONE, "forward"))
    found.rows.append(Row(**fields, status="wrong", error=float("inf"), bound=float("nan")))
    found.write(tmp_path / "gpu.json")
    (row,) = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert (row["error"], row["bound"]) == (None, None)


def test_the_core_part_is_the_one_that_was_asked_for():
    cases = [case for group in cases_of(PARTS["core"], quick=False) for case in group]
    assert len(cases) == len(set(cases)) == 3 * 8 * 6 * 2 * 4 * 3
    quick = [case for group in cases_of(PARTS["core"], quick=True) for case in group]
    assert set(quick) < set(cases)
    assert {case.resets for group in PARTS["reset"].groups() for case in group} == {0.0, 0.01, 0.1}
    assert all(case.ragged for group in PARTS["varlen"].groups() for case in group)
    shapes = {case.shape.I for group in PARTS["flashrnn"].groups() for case in group if case.projected}
    assert 4 * 768 in shapes


def test_the_table_for_the_documents():
    found = run([*TINY.groups(), [Case(cells.mgu, ONE, "forward", resets=0.1)]])
    found.rows.append(Row(**Row.of(Case(cells.rnn, ONE, "train")), status="refused", remark="too wide"))
    text = markdown("Tiny", replace(found, complete=False), 9)
    lines = text.splitlines()
    assert lines[0] == "### Tiny"
    assert lines[2] == "host; torch 2; measured 2026-01-01 at commit c0ffee."
    assert "Measured so far: 8 of 9 cases." in lines
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 2 + len(found.rows)
    assert all(line.count("|") == rows[0].count("|") for line in rows)
    assert sum("refused: too wide" in row for row in rows) == 1
    assert sum("forward, 0.1 resets" in row for row in rows) == 1
    assert [row.split(" | ")[3] for row in rows if "| lstm " in row] == ["forward", "keep", "train"]
    sentences = list(summaries(found.rows))
    assert [sentence.partition(":")[0] for sentence in sentences] == [
        "forward, float32",
        "keep, float32",
        "train, float32",
    ]
    assert "in 2 cases" in sentences[0]


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """`rnn-gpu bench --suite gpu` with the host for a device."""
    monkeypatch.setattr(bench_gpu, "_check", lambda backend: None)
    monkeypatch.setattr(bench_gpu, "BACKEND", "numpy_cpu")
    monkeypatch.setattr(bench_gpu, "torch_peer", Torch)
    monkeypatch.setitem(PARTS, "core", TINY)
    monkeypatch.setattr("rnn_gpu.cli.bench_gpu.run.__defaults__", (Host,))

    def run(*words):
        status = cli.main(["bench", "--suite", "gpu", *map(str, words)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_the_command(command, tmp_path):
    words = ("--parts", "core", "--results", tmp_path, "--seconds", "0.001")
    status, out, err = command(*words, "--modes", "forward")
    assert (status, err) == (0, "")
    for expected in ("Tiny", "gru", "lstm", "5,3,6,6", "torch takes", "commit"):
        assert expected in out
    kept = json.loads((tmp_path / "gpu-core.json").read_text())
    assert not kept["complete"]
    assert len(kept["rows"]) == 2
    assert command(*words)[0] == 0
    kept = json.loads((tmp_path / "gpu-core.json").read_text())
    assert kept["complete"]
    assert len(kept["rows"]) == 6


def test_the_command_stops_in_time_and_goes_on(command, tmp_path, monkeypatch):
    words = ("--parts", "core", "--results", tmp_path, "--seconds", "0.001")
    status, out, _ = command(*words, "--minutes", "0.0000001")
    assert status == 124
    assert "the same command goes on from here" in out
    status, _, _ = command(*words, "--minutes", "5")
    assert status == 0
    assert len(json.loads((tmp_path / "gpu-core.json").read_text())["rows"]) == 6


def test_torch_alone_by_the_command(command, tmp_path):
    status, _, _ = command("--parts", "core", "--results", tmp_path, "--seconds", "0.001", "--backend", "none")
    assert status == 0
    assert all(row["ours_s"] is None for row in json.loads((tmp_path / "gpu-core-torch.json").read_text())["rows"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--parts", "kore"],
            "--parts: expected some of core, large, flashrnn, varlen, reset, rl, got 'kore'; did you",
        ),
        (["--modes", "step"], "--modes: expected some of forward, keep, train, got 'step'"),
        (["--peers", "onnxruntime"], "--peers: expected torch or none, got 'onnxruntime'"),
        (["--json", "x.json"], "--json: expected an option of another suite, got --suite gpu"),
        (["--plots", "x"], "--plots: expected an option of another suite, got --suite gpu"),
        (["--shapes", "1,2,3,4"], "--shapes: expected an option of another suite, got --suite gpu"),
        (["--minutes", "0"], "expected a number above 0"),
    ],
)
def test_what_is_asked_for_wrongly(command, words, message):
    status, out, err = command(*words)
    assert (status, out) == (2, "")
    assert message in err


def test_options_of_the_gpu_suite_alone(capsys):
    assert cli.main(["bench", "--parts", "core"]) == 2
    assert "--parts: expected --suite gpu beside it, got --suite cpu" in capsys.readouterr().err


def test_no_device_is_said(capsys):
    reason = dispatch.BACKENDS["cupy_raw"].unavailable()
    if reason is None:
        pytest.skip("there is a device")
    assert cli.main(["bench", "--suite", "gpu"]) == 2
    assert f"--backend: cupy_raw cannot be used here: {reason}" in capsys.readouterr().err
    assert cli.main(["bench", "--suite", "gpu", "--backend", "cupy"]) == 2
    assert "--backend: expected one of" in capsys.readouterr().err
