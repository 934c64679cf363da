"""Writes a cell's functions as Python: run vectorised by NumPy and, a scalar at a time, by Numba on CPU and GPU.

The text is elementwise arithmetic and nothing else. Constants are written `real(1)`, so that whoever compiles the text
chooses the working type: a plain literal would promote float32 to float64 in Numba.
"""

from __future__ import annotations

import linecache
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from rnn_gpu.compiler import ops
from rnn_gpu.compiler.emit_expression import number, statements
from rnn_gpu.compiler.program import Function, Program

__all__ = ["compiled", "function_source", "source"]


def source(name: str, doc: str, program: Program) -> str:
    """All functions of a cell as the text of a Python module."""
    text = (f"{name}: {doc}" if doc else name).replace("\\", r"\\").replace('"""', r"\"\"\"")
    heading = f'"""{text}\n"""' if "\n" in text else f'"""{text}"""'
    return "\n\n\n".join([heading, *(function_source(function, program) for function in program.functions)]) + "\n"


def function_source(function: Function, program: Program) -> str:
    """One function as Python text, without a newline at the end."""
    names = program.traced.graph.names
    body = [
        f"{names[node]} = {expression}"
        for node, expression in statements(function, names, lambda op: op.text, lambda value: f"real({number(value)})")
    ]
    body.append("return " + ", ".join(names[node] for node in function.outputs))
    head = f"def {function.name}({', '.join(names[node] for node in function.inputs)}):"
    return head + "\n" + textwrap.indent("\n".join(body), "    ")


def compiled(program: Program, real: Callable[[float], Any], mathematics: Mapping[str, Any]) -> dict[str, Any]:
    """Execute the text and return its functions by name.

    real: the working type's constructor, such as numpy.float32.
    mathematics: the functions that the text calls, by their names in `ops.TABLE`.
    """
    namespace: dict[str, Any] = {"real": real, **mathematics}
    functions = {}
    for function in program.functions:
        text = function_source(function, program) + "\n"
        filename = f"<rnn_gpu {function.name}>"
        exec(compile(text, filename, "exec"), namespace)
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        functions[function.name] = namespace[function.name]
    return functions


CALLED = tuple(name for name, op in ops.TABLE.items() if op.precedence == ops.ATOM)
"""Names of the functions that emitted text may call, all of which `mathematics` must hold."""
