"""What the documents say is so: their Python runs, their commands exist, and their tables match the code."""

from __future__ import annotations

import inspect
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rnn_gpu import cells, cli, dispatch
from rnn_gpu.compiler import language
from rnn_gpu.lm.cell_names import find_cell
from rnn_gpu.weights import keras, onnx, torch

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))


def blocks(document, kind):
    """(line, text) of each block of code of one kind; the line is that of its first line in the document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found = re.finditer(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)) + 1, match[1]) for match in found]


def commands():
    """Every line of the documents' shell code, as words, without comments."""
    lines = [line for document in DOCUMENTS for _, text in blocks(document, "sh") for line in text.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def table(document, first_column):
    """The rows below the head of the table whose first column has this name: tuples of cells, without backquotes."""
    lines = iter((ROOT / document).read_text(encoding="utf-8").splitlines())
    next(line for line in lines if line.strip().startswith(f"| {first_column} |"))
    next(lines)
    rows = []
    for line in lines:
        if not line.strip().startswith("|"):
            break
        rows.append(tuple(cell.strip().replace("`", "") for cell in line.strip()[1:-1].split("|")))
    return rows


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if blocks(document, "python")])
def test_python_runs(document, monkeypatch):
    """The blocks of one document one after the other, as in one session."""
    if document != "README.md":  # which is run as the reader will; the others need not wait for a compiler
        monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "numpy_cpu")
    namespace = {"__name__": "document"}
    for line, text in blocks(document, "python"):
        exec(compile("\n" * (line - 1) + text, str(ROOT / document), "exec"), namespace)


def test_the_documents_have_code():
    assert {"README.md", "CONTRIBUTING.md", "docs/cells.md", "docs/semantics.md"} <= set(DOCUMENTS)
    assert len(blocks("README.md", "python")) == 5
    assert len(commands()) >= 9


def test_the_first_example_is_short():
    _, text = blocks("README.md", "python")[0]
    assert len([line for line in text.splitlines() if line]) <= 15


@pytest.mark.parametrize("words", [words for words in commands() if words[0] == "rnn-gpu"], ids=" ".join)
def test_commands_are_understood(words):
    cli._parser(words[1:]).parse_args(words[1:])


def test_a_wrong_option_is_seen():
    with pytest.raises(SystemExit):
        cli._parser(["train"]).parse_args(["train", "--hiden", "3"])


def test_make_targets_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = {words[1] for words in commands() if words[0] == "make"}
    targets |= set(re.findall(r"^    make (\w+)", text, re.MULTILINE))
    assert {"train", "test", "check", "format", "bench"} <= targets
    subprocess.run(["make", "--dry-run", *sorted(targets)], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (ROOT / document).parent.joinpath(target).exists(), target


def test_backends_are_those_there_are():
    named = [row[0] for row in table("README.md", "backend")]
    assert named == list(dispatch.BACKENDS)


def test_conversions_are_those_there_are():
    rows = [(name, *row[1:]) for row in table("README.md", "cell") for name in row[0].split(", ")]
    for column, orders in enumerate((torch.ORDERS, keras.ORDERS, onnx.ORDERS), 1):
        assert [row[0] for row in rows if row[column]] == [cell.name for cell in orders]


def test_cells_are_those_there_are():
    assert table("docs/cells.md", "cell") == [
        (
            name,
            *(" ".join(names) for names in (cell.gates, cell.states, cell.vectors)),
            ", ".join(" ".join(gates) for gates in cell.stages),
            " ".join(cell.saved),
        )
        for name, cell in cells.ALL.items()
    ]


def test_functions_of_the_language_are_those_there_are():
    functions = {name: getattr(language, name) for name in language.__all__ if name not in ("Symbol", "cell")}
    expected = {
        f"{name}({', '.join(inspect.signature(function).parameters)})": inspect.getdoc(function).replace("`", "")
        for name, function in functions.items()
    }
    assert dict(table("docs/cells.md", "function")) == expected


def test_example_learns(capsys):
    example = runpy.run_path(str(ROOT / "examples" / "own_cell.py"))
    errors = example["main"](updates=120)
    assert errors[0] > 0.2
    assert np.mean(errors[-20:]) < 0.02
    assert capsys.readouterr().out == ""


def test_example_runs():
    script = ROOT / "examples" / "own_cell.py"
    found = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert "def ugrnn_backward" in found.stdout
    assert "update  250  mean squared error 0.0" in found.stdout


def test_example_cell_can_be_trained_by_name(monkeypatch):
    monkeypatch.chdir(ROOT / "examples")
    monkeypatch.delitem(sys.modules, "own_cell", raising=False)
    assert find_cell("own_cell:ugrnn").gates == ("c", "g")
