"""Random small cells, written out as text: one to four gates, one to three states, vectors, one stage or two.

Values stay of order one, and in reach of no pole, so that central differences of them are good.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import rnn_gpu
from rnn_gpu.compiler import language

__all__ = ["random_cell", "random_text"]

Choose = Callable[[Sequence], object]
"""Takes one of several: random.choice, or a draw of hypothesis."""

TERMS = """
    {a} + {b}
    {a} - {b}
    {a} * {b}
    {a} / (1.5 + {b} * {b})
    -{a} * {b}
    -({a} - {b})
    1 - {a}
    0.3 * {a} - 2
    tanh({a})
    sigmoid({a})
    sin({a} * {b})
    cos({a})
    exp(-{a} * {a})
    log(1.25 + {a} ** 2)
    sqrt(0.5 + {a} * {a})
    softplus({a} - {b})
    relu({a})
    abs({a} + {b})
    maximum({a}, {b})
    minimum({a}, 0.25)
    clip({a}, -0.5, 0.75)
    where({a} > {b}, {c}, {a})
    where({a} <= 0.1, {b} * {c}, tanh({b}))
    sign({a}) * {b}
    tanh({a}) ** 3
""".strip().splitlines()


def random_text(choose: Choose, name: str = "mine") -> str:
    """The text of one cell."""
    gates, states = "abcd"[: choose([1, 2, 3, 4])], "hmk"[: choose([1, 2, 3])]
    vectors = "pq"[: choose([0, 0, 1, 2])]
    pool = [*states, *(f"v.{vector}" for vector in vectors)]
    lines, fresh = [], [f"v.{vector}" for vector in vectors]

    def bind(expression: str) -> None:
        new = f"t{len(lines)}"
        lines.append(f"{new} = {expression}")
        read = re.findall(r"[\w.]+", expression)
        fresh[:] = [value for value in fresh if value not in read] + [new]
        pool.append(new)

    def term() -> str:
        return str(choose(TERMS)).strip().format(**{letter: choose(pool) for letter in "abc"})

    for gate in gates:
        for _ in range(choose([0, 0, 1])):
            bind(term())
        product = f"U.{gate}({choose([*states, *pool])})"
        bind(
            choose(
                [f"Wx.{gate} + {product}", f"Wx.{gate} + {product}", f"Wx.{gate} * {product}", f"Wx.{gate}", product]
            )
        )
        bind(f"{choose(['tanh', 'sigmoid', 'sin', 'softplus'])}({pool[-1]})")
    for _ in range(choose([0, 1, 2, 3])):
        bind(term())
    # Whatever nothing has read yet goes into the first state, that all of it is reached.
    returned = [" + ".join(fresh), *(choose(pool) for _ in states[1:])]
    arguments = ["Wx", "U", *states, *(["v"] if vectors else [])]
    lines.append(f"return {', '.join([f'tanh({returned[0]})', *map(str, returned[1:])])}")
    head = f"@cell(gates={gates!r}, states={states!r}, vectors={vectors!r})\ndef {name}({', '.join(arguments)}):"
    return "\n    ".join([head, *lines]) + "\n"


def random_cell(text: str) -> rnn_gpu.Cell:
    """The cell of such a text."""
    namespace = dict(vars(language))
    before = set(namespace)
    exec(compile(text, "random_cell.py", "exec"), namespace)
    (name,) = set(namespace) - before - {"__builtins__"}
    return namespace[name]
