"""Finding a cell by what the user calls it."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Iterable

from rnn_gpu import cells
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import ArgumentError, CellError

__all__ = ["find_cell", "nearest"]


def find_cell(name: str) -> Cell:
    """Return the cell of this name, or, for "module:cell", that attribute of a module.

    The module is imported as from a script in the current directory. Raises ArgumentError, named "cell".
    """
    module_name, colon, attribute = name.partition(":")
    if not colon:
        if name not in cells.ALL:
            expected = f"the name of a cell ({', '.join(cells.ALL)}) or module:cell"
            raise ArgumentError("cell", expected, repr(name) + nearest(name, cells.ALL))
        return cells.ALL[name]
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except CellError:
        raise
    except Exception as error:  # a user's module can raise anything while it is imported
        got = f"{module_name!r}: {type(error).__name__}: {error}"
        raise ArgumentError("cell", "a module that can be imported", got) from error
    finally:
        sys.path.remove(here)
    found = getattr(module, attribute, None)
    if isinstance(found, Cell):
        return found
    theirs = [key for key, value in vars(module).items() if isinstance(value, Cell)]
    known = f"one of its cells, {', '.join(theirs)}" if theirs else "a cell made with @cell"
    kind = f"which is of type {type(found).__name__}" if hasattr(module, attribute) else "which it lacks"
    raise ArgumentError("cell", f"{known}, after {module_name}:", f"{attribute!r}, {kind}")


def nearest(name: str, names: Iterable[str]) -> str:
    """Return "; did you mean x or y?", or nothing if no name is near."""
    close = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""
