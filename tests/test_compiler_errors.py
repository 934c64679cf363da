"""What a cell's text may not do: each is a CellError that names the cell, the file, the line and the remedy."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from rnn_gpu.compiler import language
from rnn_gpu.compiler.language import cell, sigmoid, tanh
from rnn_gpu.errors import CellError

BRANCHES = "branches on a symbol (if, while, and, or, not, a < b < c, min, max); the text is run once for all values: "
PLAIN_VALUE = "uses a symbol as a plain value (a function of math or numpy, float(), iteration, indexing); "
OPERATION = "uses an operation other than + - * / **; use those and the functions of rnn_gpu.compiler.language "
LOGIC = "combines comparisons with & | ^ ~; write where(a > b, where(c > d, x, y), y)"
COMPARISON = "a comparison such as h > 0 can only be the first argument of where(condition, a, b)"
CONDITION = "where: expected a comparison such as h > 0 as its first argument, got "
NUMBER = "expected a symbol or a finite number, got "


def define(text):
    """Run a module's text that defines cells, from a file called cell.py."""
    namespace = {**vars(language), "np": np, "math": math}
    exec(compile(text, "cell.py", "exec"), namespace)
    return namespace


def refuse(text, message, name="mine"):
    """The text must be refused with this message, and with the line that ends in `#!`, by default the first."""
    lines = text.splitlines()
    line = next((k for k, line in enumerate(lines, 1) if line.endswith("#!")), 1)
    with pytest.raises(CellError) as caught:
        define(text)
    assert str(caught.value).startswith(f"cell {name!r} (cell.py:{line}): {message}")


BODIES = {
    # Python's own control flow
    "if": ("if Wx.g > 0:  #!\n h = -h\nreturn h", BRANCHES + "use where(a > b, x, y), maximum or minimum"),
    "while": ("while h > 0:  #!\n h = h - 1\nreturn h", BRANCHES),
    "and": ("x = where(h > 0 and h < 1, h, 0)  #!\nreturn Wx.g", BRANCHES),
    "or": ("x = where(h > 0 or Wx.g > 0, h, 0)  #!\nreturn Wx.g", BRANCHES),
    "not": ("x = not h  #!\nreturn Wx.g", BRANCHES),
    "chained comparison": ("x = where(0 < h < 1, h, 0)  #!\nreturn Wx.g", BRANCHES),
    "min": ("return min(Wx.g, h)  #!", BRANCHES),
    "max": ("return max(Wx.g, 0)  #!", BRANCHES),
    "conditional expression": ("return Wx.g if h else h  #!", BRANCHES),
    "assert": ("assert h  #!\nreturn Wx.g", BRANCHES),
    "later line": ("g = Wx.g\nx = (\n  tanh(g)\n  + max(g, 0)  #!\n)\nreturn x", BRANCHES),
    # symbols are no numbers
    "numpy function": ("return np.tanh(h) + Wx.g  #!", PLAIN_VALUE + "use the functions of rnn_gpu.compiler.language"),
    "numpy where": ("return np.where(h > 0, h, 0) + Wx.g  #!", PLAIN_VALUE),
    "numpy dot": ("return np.dot(h, h) + Wx.g  #!", PLAIN_VALUE),
    "numpy reduction": ("return np.add.reduce(h) + Wx.g  #!", PLAIN_VALUE),
    "numpy asarray": ("return np.asarray(h) + Wx.g  #!", PLAIN_VALUE),
    "math": ("return math.tanh(h) + Wx.g  #!", PLAIN_VALUE),
    "math floor": ("return math.floor(h) + Wx.g  #!", PLAIN_VALUE),
    "float": ("return float(h) + Wx.g  #!", PLAIN_VALUE),
    "int": ("return int(h) + Wx.g  #!", PLAIN_VALUE),
    "range": ("return Wx.g + sum(h for _ in range(h))  #!", PLAIN_VALUE),
    "index": ("return h[0] + Wx.g  #!", PLAIN_VALUE),
    "slice": ("return h[:, 1] + Wx.g  #!", PLAIN_VALUE),
    "item": ("h[0] = Wx.g  #!\nreturn h", PLAIN_VALUE),
    "iteration": ("for a in h:  #!\n pass\nreturn Wx.g", PLAIN_VALUE),
    "unpacking": ("a, b = Wx.g  #!\nreturn a", PLAIN_VALUE),
    "len": ("return Wx.g * len(h)  #!", PLAIN_VALUE),
    "in": ("return Wx.g * (1 in h)  #!", PLAIN_VALUE),
    "array": ("return np.array([1.0, 2.0]) * Wx.g  #!", NUMBER + "ndarray array([1., 2.])"),
    "==": ("x = h == 0  #!\nreturn Wx.g", "compares symbols with == or !=; use where(a > b, x, y)"),
    "!=": ("x = h != Wx.g  #!\nreturn Wx.g", "compares symbols with == or !=; use where(a > b, x, y)"),
    # numbers that are none
    "infinite": ("return Wx.g + math.inf  #!", NUMBER + "float inf"),
    "NaN": ("return where(h > math.nan, Wx.g, h)  #!", NUMBER + "float nan"),
    "too large": ("return Wx.g + 10**400  #!", NUMBER + "int 10000"),
    "bool": ("return Wx.g * True  #!", NUMBER + "bool True"),
    "str": ("return Wx.g + 'h'  #!", NUMBER + "str 'h'"),
    "None": ("return tanh(None) + Wx.g  #!", NUMBER + "NoneType None"),
    "complex": ("return Wx.g * 1j  #!", NUMBER + "complex 1j"),
    "only numbers": (
        "return tanh(0.5) * Wx.g  #!",
        "tanh: expected a symbol, got only numbers; compute constants with",
    ),
    "only numbers to maximum": ("return maximum(1, 2) * Wx.g  #!", "maximum: expected a symbol, got only numbers"),
    # operations that there are not
    "power": (
        "return Wx.g ** 4  #!",
        "**: expected the power 2, 3 or 0.5, got 4; write other powers as exp(p * log(x))",
    ),
    "symbolic power": ("return Wx.g ** h  #!", "**: expected the power 2, 3 or 0.5, got h; "),
    "power of a number": ("return 2 ** Wx.g  #!", OPERATION + "(2 ** x is exp(math.log(2) * x), and U.g(x) the only"),
    "modulo": ("return Wx.g % 2  #!", OPERATION),
    "whole division": ("return Wx.g // 2  #!", OPERATION),
    "divmod": ("return divmod(Wx.g, 2)  #!", OPERATION),
    "round": ("return round(Wx.g)  #!", OPERATION),
    "matrix product": ("return Wx.g @ h  #!", OPERATION),
    "shift": ("return Wx.g << 1  #!", OPERATION),
    "&": ("return where((h > 0) & (h < 1), Wx.g, h)  #!", LOGIC),
    "|": ("return where((h > 0) | (h < 1), Wx.g, h)  #!", LOGIC),
    "~": ("return where(~(h > 0), Wx.g, h)  #!", LOGIC),
    "unknown function": ("return sigmiod(Wx.g)  #!", "NameError: name 'sigmiod' is not defined"),
    "unknown method": ("return Wx.g.sum()  #!", "AttributeError: 'Symbol' object has no attribute 'sum'"),
    "too few arguments": ("return maximum(Wx.g)  #!", "TypeError: maximum() missing 1 required positional argument"),
    "any other exception": ("raise KeyError('x')  #!", "KeyError: 'x'"),
    # comparisons
    "comparison times": ("return (Wx.g > 0) * h  #!", "*: " + COMPARISON),
    "comparison minus": ("return h - (Wx.g > 0)  #!", "-: " + COMPARISON),
    "negated comparison": ("return -(Wx.g > 0)  #!", "-: " + COMPARISON),
    "compared comparison": ("return where((Wx.g > 0) > 0, h, 0)  #!", ">: " + COMPARISON),
    "tanh of a comparison": ("return tanh(Wx.g >= h)  #!", "tanh: " + COMPARISON),
    "comparison as a choice": ("return where(h > 0, h > 1, Wx.g)  #!", "where: " + COMPARISON),
    "where without one": ("return where(Wx.g, h, 0)  #!", CONDITION + "Wx_g"),
    "where of a bool": ("return where(True, h, Wx.g)  #!", CONDITION + "True"),
    "where of a difference": ("return where(Wx.g - h, h, 0)  #!", CONDITION + "sub(input(g), state(h))"),
    # gates and products
    "unknown gate": ("return Wx.k  #!", "no gate is called 'k'; declared are g"),
    "unknown gate of U": ("return U.k(h)  #!", "no gate is called 'k'; declared are g"),
    "U of a number": ("return U.g(2)  #!", "U.g: expected one symbol as its operand, got 2"),
    "U of a comparison": ("return U.g(h > 0)  #!", "U.g: expected one symbol as its operand, got a comparison"),
    "U of two": ("return U.g(h, Wx.g)  #!", "U.g: expected one symbol as its operand, got h, Wx_g"),
    "U of none": ("return U.g()  #!", "U.g: expected one symbol as its operand, got none"),
    "U without operand": ("return Wx.g + U.g  #!", "U.g without its operand, which is written U.g(h)"),
    "sigmoid of U": ("return sigmoid(U.g)  #!", "U.g without its operand, which is written U.g(h)"),
    "U applied twice": (
        "a = U.g(h)\nreturn a + U.g(tanh(h))  #!",
        "U.g is applied to two operands; a gate has one recurrent matrix and one operand: declare another gate",
    ),
    "Wx with operand": ("return Wx.g(h)  #!", "TypeError: 'Symbol' object is not callable"),
    "Wx by index": ("return Wx['g']  #!", "TypeError: "),
    # what is returned
    "nothing": ("x = Wx.g  #!", "expected a symbol for the new state 'h', got None"),
    "a number": ("x = Wx.g\nreturn 3  #!", "expected a symbol for the new state 'h', got 3"),
    "a comparison": ("return Wx.g > 0  #!", "expected a number for the new state 'h', got a comparison; use where("),
    "a list": ("return [Wx.g]  #!", "expected a symbol for the new state 'h', got [Wx_g]"),
    "a product": ("return U.g  #!", "expected a symbol for the new state 'h', got U.g"),
    "too many": ("return Wx.g, h  #!", "expected the new states (h) returned, got 2 values"),
    "no gate": ("return 2 * h", "gate 'g' is declared but nothing that is returned depends on it"),
    "a gate for nothing": ("x = Wx.g + U.g(h)\nreturn 2 * h", "gate 'g' is declared but nothing that is returned"),
}


@pytest.mark.parametrize(("body", "message"), BODIES.values(), ids=BODIES)
def test_bodies(body, message):
    text = "@cell(gates='g', states='h')\ndef mine(Wx, U, h):\n " + body.replace("\n", "\n ")
    refuse(text, message)


DECLARATIONS = {
    "wrong count": (
        "@cell(gates='g', states='hc')\ndef mine(Wx, U, h, c):\n x = tanh(Wx.g)\n return x  #!",
        "expected the new states (h, c) returned, got tanh(input(g))",
    ),
    "count of one": (
        "@cell(gates='g', states='hc')\ndef mine(Wx, U, h, c):\n return (Wx.g,)  #!",
        "expected the new states (h, c) returned, got 1 values",
    ),
    "second state a number": (
        "@cell(gates='g', states='hc')\ndef mine(Wx, U, h, c):\n return Wx.g, 0.0  #!",
        "expected a symbol for the new state 'c', got 0.0",
    ),
    "several returns": (
        "@cell(gates='g', states='h')  #!\ndef mine(Wx, U, h):\n if np.pi > 3:\n  return 1\n return Wx.g",
        "expected a symbol for the new state 'h', got 1",
    ),
    "unknown vector": (
        "@cell(gates='g', states='h', vectors=('p', 'q'))\ndef mine(Wx, U, h, v):\n return Wx.g * v.r  #!",
        "no vector is called 'r'; declared are p, q",
    ),
    "unused vector": (
        "@cell(gates='g', states='h', vectors=('p', 'q'))\ndef mine(Wx, U, h, v):\n return Wx.g * v.p",
        "vector 'q' is declared but nothing that is returned depends on it",
    ),
    "unused gate": (
        "@cell(gates=('g', 'forget'), states='h')\ndef mine(Wx, U, h):\n return Wx.g",
        "gate 'forget' is declared but nothing that is returned depends on it",
    ),
    "reserved gate": (
        "@cell(gates=('for',), states='h')\ndef mine(Wx, U, h):\n return h",
        "gates: expected another name than the reserved word 'for'",
    ),
    "gate named as an operation": (
        "@cell(gates=('tanh',), states='h')\ndef mine(Wx, U, h):\n return h",
        "gates: expected another name than the reserved word 'tanh'",
    ),
    "gate with a name of C++": (
        "@cell(gates=('xor',), states='h')\ndef mine(Wx, U, h):\n return h",
        "gates: expected another name than the reserved word 'xor'",
    ),
    "reserved state": (
        "@cell(gates='g', states=('h', 'unit'))\ndef mine(Wx, U, h, unit):\n return h, unit",
        "states: expected another name than the reserved word 'unit'",
    ),
    "reserved vector": (
        "@cell(gates='g', states='h', vectors=('real',))\ndef mine(Wx, U, h, v):\n return h",
        "vectors: expected another name than the reserved word 'real'",
    ),
    "state named as a product": (
        "@cell(gates='g', states=('h', 'U_g'))\ndef mine(Wx, U, h, U_g):\n return Wx.g, U_g",
        "states: expected other names than U_g, which emitted source uses",
    ),
    "vector named as a gradient": (
        "@cell(gates='g', states='h', vectors=('dh_out',))\ndef mine(Wx, U, h, v):\n return Wx.g * v.dh_out",
        "vectors: expected other names than dh_out, which emitted source uses",
    ),
    "no identifier": (
        "@cell(gates='i f', states='h')\ndef mine(Wx, U, h):\n return h",
        "gates: expected names such as 'f' or 'forget', got ' '",
    ),
    "no ASCII": (
        "@cell(gates='σ', states='h')\ndef mine(Wx, U, h):\n return h",
        "gates: expected names such as 'f' or 'forget', got 'σ'",
    ),
    "hidden": (
        "@cell(gates=('_g',), states='h')\ndef mine(Wx, U, h):\n return Wx._g",
        "gates: expected names such as 'f' or 'forget', got '_g'",
    ),
    "no string": (
        "@cell(gates=(1, 2), states='h')\ndef mine(Wx, U, h):\n return h",
        "gates: expected names such as 'f' or 'forget', got 1",
    ),
    "no names": ("@cell(gates=3, states='h')\ndef mine(Wx, U, h):\n return h", "gates: expected names, got 3"),
    "gate twice": (
        "@cell(gates='fgf', states='h')\ndef mine(Wx, U, h):\n return h",
        "gates: expected each name once, got f, g, f",
    ),
    "state twice": (
        "@cell(gates='g', states='hh')\ndef mine(Wx, U, h, c):\n return h",
        "states: expected each name once, got h, h",
    ),
    "a name taken for letters": (
        "@cell(gates='g', states='hidden')\ndef mine(Wx, U, h):\n return h",
        "states: expected each name once, got h, i, d, d, e, n; one name of several letters is ('hidden',)",
    ),
    "state and vector": (
        "@cell(gates='g', states='hc', vectors='c')\ndef mine(Wx, U, h, c, v):\n return h, c",
        "vectors: expected names that are not states, got c",
    ),
    "empty gates": (
        "@cell(gates='', states='h')\ndef mine(Wx, U, h):\n return h",
        "gates: expected at least one, got none",
    ),
    "empty states": (
        "@cell(gates='g', states=())\ndef mine(Wx, U):\n return Wx.g",
        "states: expected at least one, got none",
    ),
    "forget without a gate": (
        "@cell(gates='gi', states='h', forget='f')\ndef mine(Wx, U, h):\n return Wx.g + U.i(h)",
        "forget: expected one of the gates g, i, got 'f'",
    ),
    "vector without a range": (
        "@cell(gates='g', states='h', vectors={'p': 1.0})\ndef mine(Wx, U, h, v):\n return Wx.g * v.p",
        "vectors: expected a range (low, high) for 'p', got 1.0",
    ),
    "vector with a reversed range": (
        "@cell(gates='g', states='h', vectors={'p': (1, 0)})\ndef mine(Wx, U, h, v):\n return Wx.g * v.p",
        "vectors: expected a range (low, high) for 'p', got (1, 0)",
    ),
    "wrong state": (
        "@cell(gates='g', states='h')\ndef mine(Wx, U, c):\n return Wx.g",
        "expected the arguments (Wx, U, h), got (Wx, U, c)",
    ),
    "states in another order": (
        "@cell(gates='g', states='hc')\ndef mine(Wx, U, c, h):\n return Wx.g, c",
        "expected the arguments (Wx, U, h, c), got (Wx, U, c, h)",
    ),
    "U before Wx": (
        "@cell(gates='g', states='h')\ndef mine(U, Wx, h):\n return Wx.g",
        "expected the arguments (Wx, U, h), got (U, Wx, h)",
    ),
    "no v": (
        "@cell(gates='g', states='h', vectors='p')\ndef mine(Wx, U, h):\n return Wx.g",
        "expected the arguments (Wx, U, h, v), got (Wx, U, h)",
    ),
    "v without vectors": (
        "@cell(gates='g', states='h')\ndef mine(Wx, U, h, v):\n return Wx.g",
        "expected the arguments (Wx, U, h), got (Wx, U, h, v)",
    ),
    "star": (
        "@cell(gates='g', states='h')\ndef mine(Wx, U, *states):\n return Wx.g",
        "expected the arguments (Wx, U, h), got (Wx, U)",
    ),
    "one more argument": (
        "@cell(gates='g', states='h')\ndef mine(Wx, U, h, *, slope):\n return slope * Wx.g",
        "TypeError: mine() missing 1 required keyword-only argument: 'slope'",
    ),
    "a symbol of another cell": (
        "symbols = []\n"
        "@cell(gates='g', states='h')\ndef first(Wx, U, h):\n symbols.append(h)\n return Wx.g\n"
        "@cell(gates='g', states='h')\ndef mine(Wx, U, h):\n return Wx.g + symbols[0]  #!",
        "uses a symbol of another cell; each cell's text must be complete in itself",
    ),
    "only a symbol of another cell": (
        "symbols = []\n"
        "@cell(gates='g', states='h')\ndef first(Wx, U, h):\n symbols.append(h)\n return Wx.g\n"
        "@cell(gates='g', states='h')\ndef mine(Wx, U, h):\n x = 2 * symbols[0]  #!\n return Wx.g",
        "a symbol is used outside of its own cell's text",
    ),
    "a symbol of another cell returned": (
        "symbols = []\n"
        "@cell(gates='g', states='h')\ndef first(Wx, U, h):\n symbols.append(h)\n return Wx.g\n"
        "@cell(gates='g', states='h')\ndef mine(Wx, U, h):\n return symbols[0]  #!",
        "expected a symbol of this cell for the new state 'h', got one of another",
    ),
    "U of a symbol of another cell": (
        "symbols = []\n"
        "@cell(gates='g', states='h')\ndef first(Wx, U, h):\n symbols.append(h)\n return Wx.g\n"
        "@cell(gates='g', states='h')\ndef mine(Wx, U, h):\n return U.g(symbols[0])  #!",
        "uses a symbol of another cell; each cell's text must be complete in itself",
    ),
    "in a helper function": (
        "def helper(x):\n return max(x, 0)\n"
        "@cell(gates='g', states='h')\ndef mine(Wx, U, h):\n x = helper(Wx.g)  #!\n return x",
        BRANCHES,
    ),
    "in a helper function of Python's": (
        "def helper(x):\n return y\n"
        "@cell(gates='g', states='h')\ndef mine(Wx, U, h):\n x = helper(Wx.g)  #!\n return x",
        "NameError: name 'y' is not defined",
    ),
}


@pytest.mark.parametrize(("text", "message"), DECLARATIONS.values(), ids=DECLARATIONS)
def test_declarations(text, message):
    refuse(text, message)


def test_the_cause_is_kept():
    with pytest.raises(CellError) as caught:
        define("@cell(gates='g', states='h')\ndef mine(Wx, U, h):\n return tnah(Wx.g)")
    assert isinstance(caught.value.__cause__, NameError)


@pytest.mark.parametrize("name", ["tanh", "forward", "float", "n_state", "größe"])
def test_a_cell_needs_a_name_of_its_own(name):
    text = f"def {name}(Wx, U, h):\n return Wx.g\ncell(gates='g', states='h')({name})"
    refuse(text, "expected a function with a name in ASCII that is no reserved word, as in", name)


def test_a_lambda_has_no_name():
    with pytest.raises(
        CellError, match=r"cell '<lambda>' \(.*test_compiler_errors\.py:\d+\): expected a function with a name in ASCII"
    ):
        cell(gates="g", states="h")(lambda Wx, U, h: tanh(Wx.g + U.g(h)))


def test_only_functions_are_cells():
    class Mine:
        """No function."""

    for wrong, kind in ((Mine, "type"), (Mine(), "Mine"), (len, "builtin_function_or_method"), (None, "NoneType")):
        with pytest.raises(CellError, match=f"^cell: expected a plain function, got {kind}$"):
            cell(gates="g", states="h")(wrong)


def test_functions_of_the_language_work_only_in_a_cell():
    with pytest.raises(CellError, match=r"^sigmoid: expected to be called in the text of a cell, on its symbols$"):
        sigmoid(0.5)


def test_a_symbol_that_got_out_is_of_no_use():
    namespace = define(
        "symbols = []\n@cell(gates='g', states='h')\ndef first(Wx, U, h):\n symbols.append(h)\n return Wx.g"
    )
    before = namespace["first"].source("python")
    with pytest.raises(CellError, match=re.escape("cell 'first' (cell.py:2): a symbol is used outside of its own")):
        namespace["symbols"][0] + 1
    assert namespace["first"].source("python") == before


NUMBERS = {"NumPy on the left": "np.float64(0.5) * g", "float32": "g * np.float32(0.5)", "int": "g * np.int64(3)"}


@pytest.mark.parametrize("text", NUMBERS.values(), ids=NUMBERS)
def test_numbers_of_numpy_are_numbers(text):
    namespace = define(f"@cell(gates='g', states='h')\ndef mine(Wx, U, h):\n g = Wx.g\n return {text}")
    number = "3" if "int64" in text else "0.5"
    assert f"real({number})" in namespace["mine"].source("python")


def test_a_failure_leaves_nothing_behind():
    """The cell defined next is traced as if nothing had happened."""
    with pytest.raises(CellError):
        define("@cell(gates='g', states='h')\ndef mine(Wx, U, h):\n return max(h, 0)")
    with pytest.raises(CellError, match="expected to be called in the text of a cell"):
        tanh(1.0)
    assert define("@cell(gates='g', states='h')\ndef mine(Wx, U, h):\n return tanh(Wx.g)")["mine"].gates == ("g",)


def test_a_message_about_a_deep_expression_is_short():
    def returns_a_list(Wx, U, h):
        t = Wx.a + U.a(h)
        for _ in range(60):
            t = tanh(t * t)
        return [t]

    with pytest.raises(CellError, match=r"expected .* 'h'|expected the new states") as caught:
        cell(gates="a", states="h")(returns_a_list)
    assert len(str(caught.value)) < 1000
