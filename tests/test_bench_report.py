"""What is made of the measurements: ratios, means, tables, JSON and the picture."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from rnn_gpu import cells
from rnn_gpu.bench import table
from rnn_gpu.bench.accuracy import Distance
from rnn_gpu.bench.charts import CHARTS, roofline
from rnn_gpu.bench.load import Load
from rnn_gpu.bench.report import FirstCall, Growth, Product, Report, Row
from rnn_gpu.bench.shapes import Case, Shape
from rnn_gpu.bench.timing import Timing

SHAPE = Shape(64, 64, 512, 512)
FORWARD, TRAIN = (Case(cells.lstm, SHAPE, mode) for mode in ("forward", "train"))
STEP = Case(cells.lstm, Shape(16, 1, 256, 256), "step", frozen=True)
MACHINE = {
    "processor": "A processor", "usable_cores": 2, "cores": 4, "python": "3.11", "numpy": "2", "numba": "1",
    "torch": None, "onnxruntime": None,
}  # fmt: skip


def timed(case=FORWARD, ours=2.0, peer="torch", theirs=3.0, others=0.0, **more):
    return Row.timed(
        case, Distance(1e-7, "y"), 2e-7, Timing(ours, 0.1, 5), others, peer, Timing(theirs, 0.2, 6), 3e-7, **more
    )


def untimed(error, case=FORWARD, status="wrong"):
    return Row.untimed(case, status, Distance(error, "d_x"), 1e-6, "torch", 1e-7)


def report(*rows, **more):
    return Report(suite="cpu", quick=False, backend="numba_cpu", threads=2, machine=MACHINE, rows=list(rows), **more)


def shown(made):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        for each in table.tables(made):
            console.print(each)
        return console.export_text()


def test_the_ratio_is_theirs_over_ours():
    row = timed(ours=2.0, theirs=3.0)
    assert (row.ours_s, row.peer_s, row.ratio, row.slower) == (2.0, 3.0, 1.5, False)
    assert timed(ours=2.0, theirs=1.0).slower
    assert (row.ours_spread, row.ours_samples, row.peer_spread, row.peer_samples) == (0.1, 5, 0.2, 6)


@pytest.mark.parametrize("row", [untimed(1.0, FORWARD), untimed(0.0, status="peer wrong")])
def test_no_speed_is_given_for_what_is_wrong(row):
    assert row.status != "ok"
    assert (row.ours_s, row.peer_s, row.ratio, row.slower) == (None, None, None, False)


def test_summaries_by_mode_and_peer():
    made = report(
        timed(theirs=1.0),
        timed(theirs=16.0),
        timed(TRAIN),
        timed(STEP),
        timed(peer="numpy_cpu", theirs=2.0),
        untimed(1.0, FORWARD),
        Row.timed(FORWARD, Distance(1e-7, "y"), 2e-7, Timing(1.0, 0.0, 1), None),
    )
    by_name = {(entry.mode, entry.peer): entry for entry in made.summaries()}
    assert list(by_name) == [
        ("forward", "torch"),
        ("train", "torch"),
        ("step, frozen weights", "torch"),
        ("forward", "numpy_cpu"),
    ]
    forward = by_name["forward", "torch"]
    assert forward.geometric_mean == pytest.approx(2.0)
    assert (forward.least, forward.rows, forward.slower) == (0.5, 2, 1)
    assert by_name["forward", "numpy_cpu"].slower == 0


def test_rate_of_the_products():
    product = Product.of(FORWARD, FORWARD.flops / 1e11, 200.0)
    assert (product.gflops, product.fraction) == (pytest.approx(100.0), pytest.approx(0.5))


def test_json_has_everything_and_is_strict():
    wrong = untimed(math.inf, FORWARD)
    made = report(timed(), wrong, sgemm_gflops=200.0, first_calls=[FirstCall("lstm", "train", 1.5)])
    values = json.loads(made.json(), parse_constant=pytest.fail)
    assert (values["format"], values["version"], values["suite"]) == ("rnn_gpu benchmark", 1, "cpu")
    assert (values["complete"], values["threads"], values["backend"]) == (False, 2, "numba_cpu")
    assert values["machine"] == MACHINE
    first, second = values["rows"]
    axes = {"cell": "lstm", "T": 64, "B": 64, "I": 512, "H": 512, "dtype": "float32", "mode": "forward"}
    assert axes.items() <= first.items()
    assert (first["ours_s"], first["peer"], first["peer_s"], first["ratio"]) == (2.0, "torch", 3.0, 1.5)
    assert (first["error"], first["peer_error"], first["bound"], first["status"]) == (1e-7, 3e-7, 2e-7, "ok")
    assert (second["status"], second["error"], second["ratio"]) == ("wrong", None, None)
    assert values["summary"][0]["geometric_mean"] == pytest.approx(1.5)
    assert values["first_calls"] == [{"cell": "lstm", "mode": "train", "seconds": 1.5}]


def test_tables_say_in_words_what_is_not_as_it_should_be():
    growth = Growth(
        **Growth.fields(FORWARD),
        seconds=1.0,
        grown_T=256,
        grown_s=5.0,
        ratio=5.0,
        limit=4.3,
        error=0.0,
        error_in="y",
        status="ok",
    )
    text = shown(
        report(
            timed(ours=2.0, theirs=1.0, others=1.3),
            timed(peer="onnxruntime", theirs=8.0),
            untimed(0.5, TRAIN),
            products=[Product.of(FORWARD, FORWARD.flops / 1e11, 200.0)],
            growth=[growth],
        )
    )
    for words in (
        "1.00 s 0.500x", "8.00 s  4.00x", "SLOWER than torch; DOUBTFUL: 1.3 cores busy elsewhere",
        "WRONG: error of d_x 5.00e-01, allowed 1.00e-06; no speed given", "SLOWER in 1", "50%", "BELOW 85%",
        "MORE than 4.3",
    ):  # fmt: skip
        assert words in text
    assert "SLOWER" not in shown(report(timed()))


def test_nothing_measured_is_no_table():
    assert list(table.tables(report())) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12.345, "12.3 s"),
        (1.0, "1.00 s"),
        (0.0125, "12.5 ms"),
        (70.1e-6, "70.1 us"),
        (3e-8, "30 ns"),
        (0.99999, "1.00 s"),
    ],
)
def test_times_have_three_digits(value, text):
    assert table.seconds(value) == text


def test_all_right():
    assert report(timed()).all_right
    assert report(untimed(0.0, status="peer wrong")).all_right
    assert not report(timed(), untimed(1.0, FORWARD)).all_right


RAGGED = replace(FORWARD, ragged=True)


@pytest.mark.parametrize("name", CHARTS)
def test_a_picture_is_a_png(name):
    rows = [timed(), timed(TRAIN, theirs=0.01), timed(peer="onnxruntime"), timed(STEP), timed(RAGGED), untimed(1.0)]
    sweep = [timed(replace(FORWARD, shape=SHAPE._replace(T=T)), ours=0.01 * T, others=0.5) for T in (1, 10)]
    made = report(*rows, sweeps={"T": [*sweep, untimed(1.0)]}, sgemm_gflops=100.0, memory_gb_s=20.0)
    assert CHARTS[name](made).startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("speed", "no row with a ratio"), ("growth", "no sweep"), ("roofline", "no row with a time, or no rate")],
)
def test_there_is_no_picture_of_nothing(name, reason):
    with pytest.raises(ValueError, match=reason):
        CHARTS[name](report(untimed(1.0, FORWARD), sweeps={"T": [untimed(1.0)]}))


def test_the_roofline_is_of_operations_a_byte():
    row = timed(FORWARD)
    assert roofline.intensity(row) == pytest.approx(FORWARD.flops / FORWARD.traffic)


def test_options_are_in_words():
    assert timed(RAGGED).what == "forward, ragged"
    assert timed(replace(TRAIN, recompute=True)).what == "train, recompute"
    assert timed(replace(FORWARD, resets=0.25)).what == RAGGED.what.replace("ragged", "0.25 resets")


def test_load_is_what_others_used():
    begin, end = Load(10.0, 100.0, 5.0), Load(20.0, 118.0, 8.0)
    assert end.others_since(begin) == pytest.approx(1.5)
    assert Load(20.0, 100.0, 5.1).others_since(begin) == 0.0


def test_no_load_where_the_system_does_not_tell(monkeypatch, tmp_path):
    assert Load.now().machine > 0.0
    monkeypatch.setattr("rnn_gpu.bench.load._STAT", tmp_path / "none")
    assert Load.now() is None
