"""What is measured, and on which numbers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from rnn_gpu import cells
from rnn_gpu.bench.calls import draw
from rnn_gpu.bench.shapes import Case, Shape
from rnn_gpu.bench.suites import SUITES, grown, has_product_rate

WHOLE, QUICK = SUITES["cpu"]


def test_the_cpu_suite_is_the_one_that_was_asked_for():
    cases = [case for group in WHOLE.groups() for case in group]
    assert len(cases) == len(set(cases)) == 3 * 11 * 2
    assert {case.cell.name for case in cases} == {"rnn", "lstm", "gru"}
    assert {case.mode for case in cases} == {"forward", "train"}
    assert {case.dtype for case in cases} == {"float32"}
    assert Shape(256, 256, 64, 64) in WHOLE.shapes
    assert {str(case.shape) for case in cases if has_product_rate(case)} == {"64,64,512,512", "50,64,1024,1024"}


def test_the_quick_suite_is_a_part_of_the_whole():
    assert set(QUICK.shapes) < set(WHOLE.shapes)
    assert QUICK.peers == WHOLE.peers
    assert any(has_product_rate(case) for group in QUICK.groups() for case in group)


def test_streaming_is_measured_frozen_and_not():
    (group,) = WHOLE.step_groups()
    assert [case.frozen for case in group] == [True, False]
    assert {(case.cell.name, case.shape[1:]) for case in group} == {("lstm", (1, 256, 256))}


def test_narrowed():
    shape = Shape(2, 3, 4, 5)
    assert WHOLE.narrowed(None, None, None) == WHOLE
    some = WHOLE.narrowed([cells.mgu], None, ["train", "step"])
    assert {case.cell for case in some.growth_cases()} == {cells.mgu}
    assert {case.mode for group in some.groups() for case in group} == {"train"}
    assert len(some.step_groups()) == 1
    only = WHOLE.narrowed(None, [shape], None)
    assert {str(case) for group in only.groups() for case in group if case.cell is cells.rnn} == {
        "rnn 2,3,4,5 forward",
        "rnn 2,3,4,5 train",
    }
    assert only.growth_cases() == []
    assert only.step_groups() == []
    steps = WHOLE.narrowed(None, [shape], ["step"])
    assert [len(group) for group in steps.groups()] == [0, 0, 0]
    assert [case.shape for case in steps.step_groups()[0]] == [shape, shape]


def test_work_is_counted():
    shape = Shape(T=5, B=3, I=7, H=11)
    forward = 2 * 5 * 3 * (4 * 11) * (7 + 11)
    assert Case(cells.lstm, shape, "forward").flops == forward
    assert Case(cells.lstm, shape, "train").flops == 3 * forward
    assert Case(cells.lstm, shape, "step").flops == forward / 5
    assert Case(cells.lstm, shape, "step").calls == 5
    assert Case(cells.indrnn, shape, "forward").flops == 2 * 5 * 3 * 11 * 7  # no recurrent product


def test_what_must_be_moved_is_counted():
    shape = Shape(T=5, B=3, I=7, H=11)
    weights = 4 * 11 * (7 + 11)
    forward = 4 * (5 * 3 * (7 + 11) + weights)
    assert Case(cells.lstm, shape, "forward").traffic == forward
    assert Case(cells.lstm, shape, "train").traffic == 2 * forward
    assert Case(cells.lstm, shape, "forward", "float16").traffic == forward / 2
    assert Case(cells.lstm, shape, "step").traffic == 4 * (3 * (7 + 11) + weights)
    assert Case(cells.indrnn, shape, "forward").traffic == 4 * (5 * 3 * (7 + 11) + 11 * 7)


def test_variants_and_sweeps_are_those_that_were_asked_for():
    cases = [case for group in WHOLE.variant_groups() for case in group]
    assert [case.what for case in cases if case.cell is cells.gru] == [
        "forward, ragged", "train, ragged", "forward, frozen weights", "forward, 0.01 resets", "train, 0.01 resets",
        "train, recompute",
    ]  # fmt: skip
    sweeps = [(axis, case) for axis, group in WHOLE.sweep_groups() for case in group if case.cell is cells.lstm]
    assert [case.shape for axis, case in sweeps if axis == "H" and case.mode == "train"][:2] == [
        Shape(64, 16, 32, 32),
        Shape(64, 16, 64, 64),
    ]
    for axis, first, last in (("T", 16, 1024), ("B", 1, 256), ("H", 32, 512)):
        sizes = [getattr(case.shape, axis) for found, case in sweeps if found == axis]
        assert (min(sizes), max(sizes)) == (first, last)
    assert WHOLE.narrowed(None, None, ["forward"]).sweep_groups()[0][1][-1].mode == "forward"
    assert WHOLE.narrowed(None, [Shape(2, 3, 4, 5)], None).variant_groups() == []


def test_a_case_draws_the_lengths_and_resets_that_it_has():
    shape = Shape(50, 40, 3, 4)
    plain = draw(Case(cells.gru, shape, "train"))
    assert plain.lengths is None
    assert plain.resets is None
    ragged = draw(Case(cells.gru, shape, "train", ragged=True))
    assert_array_equal(ragged.x, plain.x)
    assert ragged.lengths.shape == (40,)
    assert (ragged.lengths.min() >= 1, ragged.lengths.max() <= 50) == (True, True)
    assert len(set(ragged.lengths)) > 10
    resets = draw(Case(cells.gru, shape, "train", resets=0.1)).resets
    assert (resets.shape, resets.dtype) == ((50, 40), bool)
    assert 0.05 < resets.mean() < 0.15


def test_grown():
    case = Case(cells.gru, Shape(5, 3, 7, 11), "train")
    assert grown(case) == replace(case, shape=Shape(20, 3, 7, 11))


def test_the_same_numbers_for_each_mode_and_run():
    case = Case(cells.lstm, Shape(3, 2, 4, 5), "forward")
    first, second = draw(case), draw(replace(case, mode="train"))
    assert_array_equal(first.x, second.x)
    assert_array_equal(first.dy, second.dy)
    for (name, ours), (_, theirs) in zip(first.weights.items(), second.weights.items(), strict=True):
        assert_array_equal(ours, theirs, err_msg=name)
    assert {array.dtype for _, array in first.weights.items()} | {first.x.dtype} == {np.dtype(np.float32)}


def test_the_reference_has_the_same_numbers_in_float64():
    call = draw(Case(cells.lstm, Shape(3, 2, 4, 5), "forward"))
    wide = call.astype("float64")
    assert (wide.case.dtype, wide.x.dtype) == ("float64", np.float64)
    assert_array_equal(wide.x.astype(np.float32), call.x)
    assert_array_equal(wide.weights.w_hh.astype(np.float32), call.weights.w_hh)


def test_weights_are_frozen_where_the_case_says_so():
    case = Case(cells.lstm, Shape(3, 2, 4, 5), "step", frozen=True)
    frozen = draw(case)
    thawed = frozen.of(replace(case, frozen=False))
    assert not frozen.weights.w_hh.flags.writeable
    assert frozen.weights is frozen.weights
    assert thawed.weights.w_hh.flags.writeable
    assert_array_equal(frozen.weights.w_hh, thawed.weights.w_hh)


@pytest.mark.parametrize("module", ["rnn_gpu.bench.measure", "rnn_gpu.cli.bench"])
def test_no_peer_is_imported_before_it_is_measured(module):
    code = f"import sys, {module}; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "onnxruntime", "onnx", "numba", "matplotlib"}.isdisjoint(modules)
