"""How the site is made of these documents and of the package's docstrings: `make docs`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import rnn_gpu

project = "rnn_gpu"
author = copyright = "The rnn_gpu authors"
version = release = rnn_gpu.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_type_aliases = {"Array": "Array", "States": "States"}
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"rnn_gpu {release}"
html_copy_source = False

_NAME = r"\*{0,2}[a-z][A-Za-z0-9_]*(?:\.\w+)?"
_ITEM = re.compile(rf"({_NAME}(?:, {_NAME})*): (.+)")
"""The line of a docstring that begins what is said of one or several arguments or fields."""


def as_rst(lines: list[str]) -> Iterator[str]:
    """A docstring of ours as reStructuredText.

    What is said of arguments becomes a list, indented paragraphs literal blocks, words in backquotes code, with a link
    where they name something that is documented.
    """
    for block in _blocks(lines):
        if all(line.startswith("    ") for line in block):
            yield from ["::", "", *block, ""]
            continue
        listed = False
        for line in block:
            item = _ITEM.fullmatch(line)
            if item:
                names = ", ".join(f"``{name}``" for name in item[1].split(", "))
                yield f"- {names}: {_inline(item[2])}"
                listed = True
            elif line.startswith("- "):
                yield f"- {_inline(line[2:])}"
                listed = True
            elif listed:
                yield f"  {_inline(line.strip())}"
            else:
                yield _inline(line.strip())
        yield ""


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Runs of lines that are not blank; what is said of arguments, and what comes before it, are two."""
    block: list[str] = []
    for line in [*lines, ""]:
        begins = bool(_ITEM.fullmatch(line)) and bool(block) and not any(map(_ITEM.fullmatch, block))
        if block and (not line.strip() or begins):
            yield block
            block = []
        if line.strip():
            block.append(line)


def _inline(text: str) -> str:
    parts = text.split("`")
    for k, part in enumerate(parts):
        if k % 2:
            parts[k] = f":py:obj:`{part}`" if re.fullmatch(r"[A-Za-z_][\w.]*", part) else f"``{part}``"
        else:
            parts[k] = re.sub(r"([*|\\]|_(?=\W|$))", r"\\\1", part)
    return "".join(parts)


def _docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if name.startswith("rnn_gpu.keras.") and what == "class" and "__init__" not in vars(obj):  # then Keras' own text
        lines[:] = lines[: lines.index("")]
    lines[:] = as_rst(lines)


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """The fields of named tuples: their class says what they are."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def _signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> Any:
    """The names of types for which autodoc writes the objects that stand for them."""
    return tuple(text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text) for text in (signature, returns))


def _source_of(app: Any, module: str, attribute: str) -> str | None:
    """Where what has no module of its own, such as a field of a tuple, is to be found."""
    found: Any = sys.modules[module]
    for name in attribute.split("."):
        found = getattr(found, name, None)
    return module if getattr(found, "__module__", None) in (None, "builtins") else None


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _signature)
    app.connect("viewcode-follow-imported", _source_of)
    app.connect("autodoc-process-docstring", _docstring)
