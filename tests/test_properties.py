"""What holds exactly, whatever the cell, the shapes and the options: hypothesis draws them.

Bit for bit, unless products of other shapes are compared: BLAS sums a product in an order that depends on the shape of
the matrices, and on where in them a row lies. So:

- W x_t is one product over all steps, and the weights' gradients are sums over all steps. Where the steps differ, what
  depends on them agrees to rounding. The recurrent products have the shape (B, H) at every step, so that with projected
  x all but the weights' gradients is the same bits in a piece of a sequence as in the whole.
- Where the rows beside a row differ, its results are the same bits only if the backend claims `batch_invariant`.

"To rounding" is at most `LIMIT` rounding errors, as `support.errors.error` counts them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.backends import TARGETS
from support.calls import Call, draw
from support.cases import DTYPES, Case
from support.cells import CELLS
from support.errors import assert_close, assert_same_bits

import rnn_gpu

LIMIT = 16
"""There are up to 9 steps of some ten roundings each, most of which cancel."""

every_target = pytest.mark.parametrize("target", TARGETS, ids=str)


@st.composite
def calls(choose, *, min_rows=0, **fixed):
    """A call of any cell, shape and options; those in `fixed` as they are there."""
    T, B = choose(st.integers(0, 6)), choose(st.integers(min_rows, 5))
    positions = st.tuples(st.integers(0, max(T - 1, 0)), st.integers(0, max(B - 1, 0)))
    options = {
        "I": st.integers(1, 4),
        "H": st.integers(1, 6),
        "lengths": st.none() | st.tuples(*[st.integers(0, T)] * B),
        "resets": st.sets(positions, max_size=5 if T and B else 0).map(tuple),
        "reverse": st.booleans(),
        "initial": st.booleans(),
        "biases": st.sampled_from([("b_ih", "b_hh"), (), ("b_ih",), ("b_hh",)]),
        "projected": st.booleans(),
    } | {name: st.just(value) for name, value in fixed.items()}
    case = Case("drawn", T, B, **{name: choose(options[name]) for name in options})
    cell = CELLS[choose(st.sampled_from(list(CELLS)))]
    return draw(cell, case, choose(st.sampled_from(DTYPES)), seed=choose(st.integers(0, 9)))


def agree(call: Call, found, expected, *, exact: bool):
    """The weights' gradients agree to rounding; all else to rounding or, if `exact`, bit for bit."""
    assert_close(found, expected, LIMIT)
    if exact:
        assert_same_bits(of_rows(call, found), of_rows(call, expected))


def of_rows(call: Call, found):
    """The results that belong to rows: all but the weights' gradients."""
    weights = {f"d_{name}" for name, _ in call.weights.items()}
    return {name: array for name, array in found.items() if name not in weights}


def select(found, rows):
    """The results of these rows, of results that belong to rows."""
    return {name: array[..., rows, :] for name, array in found.items()}


def is_projected(call: Call) -> bool:
    return call.weights.w_ih is None


def states(call: Call, found, prefix: str):
    return tuple(found[f"{prefix}_{state}"] for state in call.cell.states)


def run_pieces(target, call: Call, cuts, *, carry: bool):
    """The results of the call run in pieces, cut before the steps `cuts`, with states and gradients carried or not.

    Without the weights' gradients where they have 16 bits: the sum of the pieces', each rounded, is not the whole's.
    """
    spans = list(zip([0, *cuts], [*cuts, len(call.x)], strict=True))
    if call.reverse:
        spans.reverse()
    pieces, initial, dlast = [], call.initial, call.dlast
    for span in spans:
        pieces.append(replace(call.steps(*span), initial=initial))
        last = states(call, target.run(pieces[-1]), "last")
        initial = last if carry else None
    parts = []
    for each in reversed(pieces):
        parts.append(target.run(replace(each, dlast=dlast)))
        dlast = states(call, parts[-1], "d") if carry else tuple(map(np.zeros_like, dlast))
    in_time = parts if call.reverse else parts[::-1]
    found = of_rows(call, parts[-1]) | {
        **{name: np.concatenate([part[name] for part in in_time]) for name in ("y", "d_x")},
        **dict(zip((f"last_{state}" for state in call.cell.states), last, strict=True)),
    }
    if has_16_bits(call):
        return found
    return found | {name: sum(part[name] for part in parts) for name in parts[0] if name not in found}


def has_16_bits(call: Call) -> bool:
    return call.x.dtype.itemsize == 2


@every_target
@given(call=calls(), cuts=st.lists(st.integers(0, 6), max_size=2))
def test_pieces_that_carry_the_state_are_the_whole(target, call, cuts):
    cuts = sorted(min(cut, len(call.x)) for cut in cuts)
    whole = target.run(call)
    found = run_pieces(target, call, cuts, carry=True)
    agree(call, found, {name: whole[name] for name in found}, exact=is_projected(call))


@every_target
@given(call=calls(lengths=None), cuts=st.lists(st.integers(1, 5), max_size=2, unique=True))
def test_resets_of_all_rows_are_separate_runs(target, call, cuts):
    T, B = call.dy.shape[:2]
    cuts = sorted(cut for cut in cuts if cut < T)
    resets = np.zeros((T, B), bool) if call.resets is None else call.resets.copy()
    resets[[cut - call.reverse for cut in cuts]] = True  # before the step, in the order of the recurrence
    whole = target.run(replace(call, resets=resets))
    found = run_pieces(target, call, cuts, carry=False)
    agree(call, found, {name: whole[name] for name in found}, exact=is_projected(call))


@every_target
@given(call=calls(min_rows=1))
def test_resets_are_separate_runs_of_each_row(target, call):
    whole = target.run(call)
    sums = {name: 0 for name in whole if name not in of_rows(call, whole)}
    for index, end in enumerate(call.ends()):
        alone = replace(call.rows([index]), lengths=None, resets=None).steps(0, end)
        cuts = [] if call.resets is None else np.flatnonzero(call.resets[:end, index]) + call.reverse
        found = run_pieces(target, alone, cuts, carry=False)
        expected = select(of_rows(call, whole), [index])
        expected |= {name: expected[name][:end] for name in ("y", "d_x")}
        assert_close(of_rows(call, found), expected, LIMIT)
        sums = {name: sums[name] + found.get(name, 0) for name in sums}
    if not has_16_bits(call):
        assert_close(sums, {name: whole[name] for name in sums}, LIMIT)


@every_target
@given(call=calls(min_rows=1), data=st.data())
def test_rows_do_not_depend_on_the_others_or_their_place(target, call, data):
    n_rows = call.x.shape[1]
    rows = data.draw(st.lists(st.integers(0, n_rows - 1), unique=True, min_size=1))
    whole, found = target.run(call), target.run(call.rows(rows))
    expected = select(of_rows(call, whole), rows)
    if len(rows) == n_rows:
        expected = {name: expected.get(name, whole[name]) for name in whole}
    else:
        found = of_rows(call, found)
    agree(call, found, expected, exact=target.batch_invariant)


@every_target
@given(call=calls(), more=st.integers(0, 3))
def test_padding_changes_nothing(target, call, more):
    T, B = call.dy.shape[:2]
    padding = np.full((more, B, 1), np.nan)
    padded = replace(
        call,
        x=np.concatenate([call.x, np.broadcast_to(padding, (more, B, call.x.shape[2])).astype(call.x.dtype)]),
        dy=np.concatenate([call.dy, np.broadcast_to(padding, (more, B, call.dy.shape[2])).astype(call.dy.dtype)]),
        resets=np.concatenate(
            [np.zeros((T, B), bool) if call.resets is None else call.resets, np.ones((more, B), bool)]
        ),
        lengths=call.ends(),
    )
    found, expected = target.run(padded), target.run(call)
    assert not found["y"][T:].any()
    assert not found["d_x"][T:].any()
    found |= {name: found[name][:T] for name in ("y", "d_x")}
    agree(call, found, expected, exact=is_projected(call))


@every_target
@given(call=calls())
def test_reverse_is_forward_on_flipped_rows(target, call):
    steps, ends = np.arange(len(call.x))[:, None], call.ends()
    order = np.where(steps < ends, ends - 1 - steps, steps)

    def flip(array):
        return np.take_along_axis(array, order.reshape(order.shape + (1,) * (array.ndim - 2)), axis=0)

    flipped = replace(
        call,
        x=flip(call.x),
        dy=flip(call.dy),
        resets=None if call.resets is None else flip(call.resets),
        reverse=not call.reverse,
    )
    found, expected = target.run(flipped), target.run(call)
    found |= {name: flip(found[name]) for name in ("y", "d_x")}
    agree(call, found, expected, exact=is_projected(call))


@every_target
@given(call=calls(lengths=None))
def test_steps_are_the_forward_pass(target, call):
    whole = target.run(call)
    order = range(len(call.x))
    state = call.initial
    for t in reversed(order) if call.reverse else order:
        state = target.step(call, t, state)
        found, expected = {"y": state[0].astype(call.x.dtype)}, {"y": whole["y"][t]}
        assert_close(found, expected, LIMIT)
        if is_projected(call):
            assert_same_bits(found, expected)
    if len(call.x):
        names = [f"last_{name}" for name in call.cell.states]
        assert_close(dict(zip(names, state, strict=True)), {name: whole[name] for name in names}, LIMIT)


@every_target
@given(call=calls(projected=False))
def test_projected_x_is_x_times_w_ih(target, call):
    call = call.map(lambda array: np.nan_to_num(array.astype(np.float64)))
    found = target.run(replace(call, x=call.x @ call.weights.w_ih.T, weights=replace(call.weights, w_ih=None)))
    expected = target.run(call)
    gradient = found.pop("d_x")
    found |= {"d_x": gradient @ call.weights.w_ih, "d_w_ih": np.einsum("tbg,tbi->gi", gradient, call.x)}
    assert_close({name: found[name] for name in expected}, expected, LIMIT)


@every_target
@given(call=calls())
def test_rows_of_length_0_keep_their_state(target, call):
    found = target.run(replace(call, lengths=np.zeros(call.x.shape[1], int)))
    initial = call.initial or tuple(map(np.zeros_like, call.dlast))
    for state, begun, gradient in zip(call.cell.states, initial, call.dlast, strict=True):
        for name, expected in ((f"last_{state}", begun), (f"d_{state}", gradient)):
            assert_same_bits({name: found[name]}, {name: expected.astype(found[name].dtype)})
    assert all(
        not array.any() for name, array in found.items() if name in ("y", "d_x") or name not in of_rows(call, found)
    )


@every_target
@given(call=calls(min_rows=1, initial=True))
def test_rows_of_length_0_give_nothing_to_the_weights(target, call):
    call = replace(call, lengths=call.ends().copy())
    call.lengths[0] = 0
    expected = target.run(call)
    for array in (*call.initial, *call.dlast):
        array[0] = np.nan
    found = target.run(call)
    rows = of_rows(call, found)
    assert_same_bits(
        {name: array for name, array in found.items() if name not in rows},
        {name: array for name, array in expected.items() if name not in rows},
    )


@every_target
@given(
    call=calls(min_rows=1, initial=True),
    name=st.sampled_from(["x", "initial", "dy", "dlast"]),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    data=st.data(),
)
def test_nan_and_infinity_stay_in_their_row(target, call, name, bad, data):
    clean = target.run(call)
    spoilt = getattr(call, name)
    array = data.draw(st.sampled_from(spoilt)) if isinstance(spoilt, tuple) else spoilt
    if array.size:
        index = tuple(data.draw(st.integers(0, size - 1)) for size in array.shape)
        array[index] = bad
        others = [k for k in range(call.x.shape[1]) if k != index[-2]]
        found = target.run(call)
        assert_same_bits(select(of_rows(call, found), others), select(of_rows(call, clean), others))


@every_target
@pytest.mark.parametrize("name", rnn_gpu.cells.ALL)
def test_nan_is_not_hidden(target, name):
    call = draw(CELLS[name], Case("nan", T=5, B=3), "float32")
    call.x[2, 1, 0] = np.nan
    found = np.isnan(target.run(call)["y"])
    assert found[2:, 1].all()
    assert not found[:2].any()
    assert not found[:, [0, 2]].any()


@every_target
@given(call=calls())
def test_a_call_repeats_bit_for_bit_and_writes_no_argument(target, call):
    arrays = [array for _, array in call.parameters()] + [call.dy, *call.dlast]
    arrays += [array for array in (call.lengths, call.resets) if array is not None]
    copies = [array.tobytes() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    assert_same_bits(target.run(call), target.run(call))
    assert [array.tobytes() for array in arrays] == copies


@every_target
@given(call=calls())
def test_a_tape_can_be_used_again_and_no_gradient_is_one_of_zeros(target, call):
    there, (y, last, tape) = target.forward(call)

    def run(dy, dlast):
        return target.named(there, y, last, rnn_gpu.backward(tape, dy, dlast))

    expected = run(there.dy, there.dlast)
    zeros = target.place(call.map(np.zeros_like))
    assert_close(run(there.dy, None), run(there.dy, zeros.dlast), 0)
    assert_close(run(None, there.dlast), run(zeros.dy, there.dlast), 0)
    assert_same_bits(run(there.dy, there.dlast), expected)


@every_target
@given(call=calls())
def test_what_is_not_saved_for_backward_changes_nothing(target, call):
    found, expected = (target.forward(call, save=save)[1] for save in (False, True))
    for array, other in zip((found.y, *found.last), (expected.y, *expected.last), strict=True):
        assert_same_bits({"": target.get(array)}, {"": target.get(other)})
