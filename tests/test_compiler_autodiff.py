"""Differentiation, rule by rule: against central differences, at ties and special values, and what each rule reads.

And the graph's simplifications, which must leave every bit of a result as it is.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import rnn_gpu
from rnn_gpu.compiler import language, ops
from rnn_gpu.compiler.graph import Graph

SMOOTH = "-2.3 -1.1 -0.4 0.3 0.9 1.7 3.1"
POSITIVE = "0.2 0.7 1.3 4.5"

OPERATIONS = {
    # expression of a and b: the points that a and b take
    "a + b": SMOOTH,
    "a - b": SMOOTH,
    "a * b": SMOOTH,
    "a / b": SMOOTH,
    "-a": SMOOTH,
    "+a": SMOOTH,
    "a + 2": SMOOTH,
    "2 - a": SMOOTH,
    "a / 3": SMOOTH,
    "3 / a": SMOOTH,
    "a ** 2": SMOOTH,
    "a ** 3": SMOOTH,
    "a ** 0.5": POSITIVE,
    "exp(a)": SMOOTH,
    "log(a)": POSITIVE,
    "sqrt(a)": POSITIVE,
    "sin(a)": SMOOTH,
    "cos(a)": SMOOTH,
    "tanh(a)": SMOOTH,
    "sigmoid(a)": SMOOTH,
    "softplus(a)": SMOOTH,
    "relu(a)": SMOOTH,
    "abs(a)": SMOOTH,
    "sign(a)": SMOOTH,
    "maximum(a, b)": SMOOTH,
    "minimum(a, b)": SMOOTH,
    "maximum(0.5, a)": SMOOTH,
    "clip(a, -1.5, 1.5)": SMOOTH,
    "where(a > b, a * b, a + 2 * b)": SMOOTH,
    "where(a >= 0.5, b, a * a)": SMOOTH,
    "where(a < b, 1, a)": SMOOTH,
    "where(b <= 0.5, a, 2)": SMOOTH,
    # one value used in several places
    "a * a * a": SMOOTH,
    "tanh(a) * tanh(a) + sin(tanh(a))": SMOOTH,
    "(a - b) * (a + b) / (1 + a * a)": SMOOTH,
    "exp(-a * a) * exp(-b) - a": SMOOTH,
    "a - -b * -a": SMOOTH,
}

STEP = 1e-5


def cell_of(expression, gates="ab", states="hk", returned=", a + b"):
    """The cell whose first new state is an expression of gates that have an input each and no product."""
    text = (
        f"@cell(gates={gates!r}, states={states!r})\n"
        f"def mine(Wx, U, {', '.join(states)}):\n"
        f"    {', '.join(gates)}, = {', '.join(f'Wx.{gate}' for gate in gates)},\n"
        f"    return {expression}{returned}\n"
    )
    namespace = dict(vars(language))
    exec(compile(text, "mine.py", "exec"), namespace)
    return namespace["mine"]


def run(cell, a, b, dtype="float64"):
    """The expression's value and its derivatives by a and by b."""
    units = len(a)
    x = np.concatenate([a, b]).astype(dtype).reshape(1, 1, 2 * units)
    weights = rnn_gpu.Weights(None, None)
    y, _, tape = rnn_gpu.forward(cell, x, weights, backend="numpy_cpu")
    dx = rnn_gpu.backward(tape, np.ones_like(y)).x
    return y[0, 0], *np.split(dx[0, 0], 2)


@pytest.mark.parametrize("expression", OPERATIONS)
def test_derivatives_are_central_differences(expression):
    points = [float(number) for number in OPERATIONS[expression].split()]
    # No two of them are equal: no kink is nearer than a step.
    a, b = np.array([(p, q + 0.05) for p, q in itertools.product(points, repeat=2)]).T
    cell = cell_of(expression)
    _, da, db = run(cell, a, b)
    by_a = (run(cell, a + STEP, b)[0] - run(cell, a - STEP, b)[0]) / (2 * STEP)
    by_b = (run(cell, a, b + STEP)[0] - run(cell, a, b - STEP)[0]) / (2 * STEP)
    assert_allclose(da, by_a, rtol=1e-7, atol=1e-8)
    assert_allclose(db, by_b, rtol=1e-7, atol=1e-8)


def test_every_operation_is_differentiated():
    reached = {
        node.op for expression in OPERATIONS for node in cell_of(expression).traced.nodes if node.op in ops.TABLE
    }
    assert reached == set(ops.TABLE)


inf, nan = np.inf, np.nan

SPECIAL = {
    # expression, a, b, expected derivatives by a and b
    "relu at 0": ("relu(a)", 0.0, 1.0, 0.0, 0.0),
    "relu at -0": ("relu(a)", -0.0, 1.0, 0.0, 0.0),
    "relu of NaN": ("relu(a) * b", nan, 2.0, 2.0, nan),
    "abs at 0": ("abs(a)", 0.0, 1.0, 0.0, 0.0),
    "sign": ("sign(a) * b", -3.0, 1.0, 0.0, -1.0),
    "maximum at a tie": ("maximum(a, b)", 1.5, 1.5, 1.0, 0.0),
    "minimum at a tie": ("minimum(a, b)", 1.5, 1.5, 1.0, 0.0),
    "clip at its lower bound": ("clip(a, -1, 1)", -1.0, 1.0, 1.0, 0.0),
    "clip at its upper bound": ("clip(a, -1, 1)", 1.0, 1.0, 1.0, 0.0),
    "clip beyond": ("clip(a, -1, 1)", 1.5, 1.0, 0.0, 0.0),
    "where leaves out what it does not take": ("where(a > 0, b, b / a)", 1.0, 2.0, 0.0, 1.0),
    "sqrt at 0": ("sqrt(a)", 0.0, 1.0, inf, 0.0),
    "log at 0": ("log(a)", 0.0, 1.0, inf, 0.0),
    "tanh far out": ("tanh(a)", 40.0, 1.0, 0.0, 0.0),
    "sigmoid far out": ("sigmoid(a)", -800.0, 1.0, 0.0, 0.0),
    "softplus far out": ("softplus(a)", 800.0, 1.0, 1.0, 0.0),
    "NaN in one factor": ("a * b", nan, 2.0, 2.0, nan),
}


@pytest.mark.parametrize(("expression", "a", "b", "da", "db"), SPECIAL.values(), ids=SPECIAL)
def test_derivatives_at_special_values(expression, a, b, da, db):
    _, found_a, found_b = run(cell_of(expression), np.array([a]), np.array([b]))
    assert_array_equal([found_a[0], found_b[0]], [da, db])


def saved(expression):
    return cell_of(expression, gates="a", states="h", returned="").saved


# The result is a state, which is there anyhow.
@pytest.mark.parametrize(
    "function", ["tanh(a)", "sigmoid(a)", "exp(a)", "sqrt(a)", "relu(a)", "a / 3", "a + 1", "-a", "2 * a"]
)
def test_rules_that_read_the_result(function):
    assert saved(function) == ()


@pytest.mark.parametrize(
    "function", ["sin(a)", "cos(a)", "log(a)", "softplus(a)", "abs(a)", "maximum(a, 0)", "clip(a, 0, 1)", "a * a"]
)
def test_rules_that_read_the_argument(function):
    assert saved(function) == ("Wx_a",)


def test_what_is_cheap_is_computed_again():
    """Of tanh(1 - sigmoid(a)): the sigmoid is kept, 1 - sigmoid(a) is not."""
    assert saved("sin(1 - sigmoid(a))") == ("sigmoid_Wx_a",)


NUMBERS = np.array([0.0, -0.0, 1.0, -1.0, 1 / 3, -2.5, 1e-310, -1e300, 1e300, inf, -inf, nan])

NUMPY = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative}


def evaluate(node, values):
    if node.op == "state":
        return values[node.label]
    if node.op == "constant":
        return np.float64(node.value)
    return NUMPY[node.op](*[evaluate(argument, values) for argument in node.args])


SIMPLIFIED = {
    # as it is written: what is left to compute
    ("neg", ("neg", "a")): "a",
    ("add", "a", ("neg", "b")): "a - b",
    ("add", ("neg", "a"), "b"): "b - a",
    ("add", ("neg", "a"), ("neg", "b")): "-a - b",
    ("sub", "a", ("neg", "b")): "a + b",
    ("sub", ("neg", "a"), "b"): "-a - b",
    ("mul", "a", ("neg", "b")): "-(a * b)",
    ("mul", ("neg", "a"), "b"): "-(a * b)",
    ("mul", ("neg", "a"), ("neg", "b")): "a * b",
    ("div", "a", ("neg", "b")): "-(a / b)",
    ("div", ("neg", "a"), "b"): "-(a / b)",
    ("div", ("neg", "a"), ("neg", "b")): "a / b",
    ("mul", "a", 1.0): "a",
    ("mul", 1.0, "a"): "a",
    ("mul", "a", -1.0): "a * -1",
    ("add", "a", 0.0): "a + 0",
    ("sub", 0.0, "a"): "0 - a",
    ("mul", "a", 0.0): "a * 0",
}
"""The last four stay: -0.0 + 0.0 is 0.0, 0.0 - 0.0 is 0.0 and not -0.0, and NaN * 0.0 is NaN."""


def as_written(expression, values):
    if isinstance(expression, str):
        return values[expression]
    if isinstance(expression, float):
        return np.float64(expression)
    op, *arguments = expression
    return NUMPY[op](*[as_written(argument, values) for argument in arguments])


def simplified(graph, expression):
    if isinstance(expression, str):
        return graph.leaf("state", expression)
    if isinstance(expression, float):
        return graph.constant(expression)
    op, *arguments = expression
    return graph.apply(op, *[simplified(graph, argument) for argument in arguments])


def infix(node):
    """The node as text, brackets where they are needed here."""
    if node.op == "state":
        return node.label
    if node.op == "constant":
        return f"{node.value:g}"
    inner = [f"({infix(a)})" if node.op == "neg" and a.args else infix(a) for a in node.args]
    return f"-{inner[0]}" if node.op == "neg" else f" {ops.TABLE[node.op].text.strip('{} ')} ".join(inner)


def assert_same_bits(found, expected):
    """But for the sign and the payload of a NaN, which IEEE 754 leaves open."""
    numbers = ~np.isnan(expected)
    assert_array_equal(np.isnan(found), ~numbers)
    assert_array_equal(found[numbers].view(np.int64), expected[numbers].view(np.int64))


@pytest.mark.parametrize(("expression", "left"), SIMPLIFIED.items(), ids=[str(e) for e in SIMPLIFIED.values()])
def test_simplifications_leave_every_bit(expression, left):
    a, b = (array.ravel() for array in np.meshgrid(NUMBERS, NUMBERS))
    node = simplified(Graph(), expression)
    assert infix(node) == left
    with np.errstate(all="ignore"):
        expected = as_written(expression, {"a": a, "b": b})
        assert_same_bits(evaluate(node, {"a": a, "b": b}), expected)


def test_a_lost_sign_is_seen():
    with pytest.raises(AssertionError):
        assert_same_bits(np.array([0.0]), np.array([-0.0]))


def test_equal_nodes_are_one():
    graph = Graph()
    a, b = graph.leaf("state", "a"), graph.leaf("vector", "a")
    assert a is graph.leaf("state", "a")
    assert a is not b
    assert graph.apply("mul", a, b) is graph.apply("mul", a, b)
    assert graph.apply("mul", a, b) is not graph.apply("mul", b, a)
    assert graph.constant(1) is graph.constant(1.0)
    assert graph.constant(0.0) is not graph.constant(-0.0)


def test_names_are_unique_and_never_reserved():
    graph = Graph()
    nodes = [graph.constant(float(number)) for number in range(5)]
    for node in nodes:
        graph.name(node, "do")
    graph.name(nodes[0], "other")
    assert [graph.names[node] for node in nodes] == ["do_", "do__2", "do__3", "do__4", "do__5"]
