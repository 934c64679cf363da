"""What the documents say is so: their Python runs, their commands exist, and their tables match the code."""

from __future__ import annotations

import importlib
import inspect
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import textwrap
from importlib.metadata import metadata
from pathlib import Path

import numpy as np
import pytest

from rnn_gpu import cells, cli, dispatch
from rnn_gpu.bench import blas, memory
from rnn_gpu.compiler import language
from rnn_gpu.lm.cell_names import find_cell
from rnn_gpu.weights import keras, onnx, torch

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))


def blocks(document, kind):
    """(line, text) of each block of code of one kind; the line is that of its first line in the document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found = re.finditer(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)) + 1, match[1]) for match in found]


def indented_python(document):
    """(line, text) of each indented block that begins with an import."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found = re.finditer(r"(?<=\n\n)((?:    .*\n)+)", text)
    dedented = [(text.count("\n", 0, match.start(1)) + 1, textwrap.dedent(match[1])) for match in found]
    return [(line, block) for line, block in dedented if block.startswith(("import ", "from "))]


def commands(document):
    """Every line of a document's shell code, as words, without comments."""
    lines = [line for _, text in blocks(document, "sh") for line in text.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


ALL_COMMANDS = [words for document in DOCUMENTS for words in commands(document)]


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
def test_python_runs(document, monkeypatch, tmp_path):
    """The blocks of one document one after the other, as in one session."""
    monkeypatch.chdir(tmp_path)
    if document != "README.md":  # which is run as the reader will; the others need not wait for a compiler
        monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "numpy_cpu")
    namespace = {"__name__": "document"}
    for line, text in blocks(document, "python"):
        exec(compile("\n" * (line - 1) + text, str(ROOT / document), "exec"), namespace)


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if indented_python(document)])
def test_python_for_a_device_runs(document):
    """What wants a GPU stands in indented blocks."""
    reason = dispatch.BACKENDS["cupy_raw"].unavailable()
    if reason is not None:
        pytest.skip(f"cupy_raw cannot run here: {reason}")
    for line, text in indented_python(document):
        exec(compile("\n" * (line - 1) + text, str(ROOT / document), "exec"), {"__name__": "document"})


@pytest.mark.parametrize("document", DOCUMENTS)
def test_code_is_of_a_kind_that_is_run(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    fences = re.findall(r"^```(.*)$", text, re.MULTILINE)
    kinds = {kind.partition("}")[0] for kind in fences[::2]}
    assert kinds <= {"python", "sh", "{toctree", "{include", "{image"}
    assert set(fences[1::2]) <= {""}


def test_the_documents_have_code():
    assert {"README.md", "CONTRIBUTING.md", "docs/cells.md", "docs/semantics.md"} <= set(DOCUMENTS)
    assert len(blocks("README.md", "python")) == 5
    assert len(ALL_COMMANDS) >= 20
    assert indented_python("docs/gpu.md")


def test_the_first_example_is_short():
    _, text = blocks("README.md", "python")[0]
    assert len([line for line in text.splitlines() if line]) <= 15


def small(words, gpu):
    """What to add to a command so that it is done soon; None where it wants a GPU and there is none."""
    match words[1]:
        case "train" if "--resume" in words:
            return ["--minutes", "0.02"]
        case "train":
            return ["--minutes", "0.01", "--hidden", "8", "--batch", "4", "--sequence", "8"]
        case "bench" if "gpu" in words:
            return ["--quick", "--cells", "rnn", "--modes", "forward"] if gpu else None
        case "bench" if "--shapes" in words:
            return ["--shapes", "2,2,3,4", "--seconds", "0.001", "--backend", "numpy_cpu"]
        case "bench":
            return ["--shapes", "2,2,3,4", "--seconds", "0.001", "--backend", "numpy_cpu", "--peers", "torch"]
        case "sample" | "info":
            return []
    raise AssertionError(words)


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if commands(document)])
def test_commands_run(document, monkeypatch, tmp_path):
    """The document's commands of ours one after the other in one folder, each made short by more options."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "numpy_cpu")
    monkeypatch.delitem(sys.modules, "own_cell", raising=False)
    topics = importlib.import_module("pydoc_data.topics").topics
    few = {name: topics[name] for name in sorted(topics)[:12]}
    monkeypatch.setattr("pydoc_data.topics.topics", few)
    Path("book.txt").write_text("\n".join(few.values()), encoding="utf-8")
    shutil.copy(ROOT / "examples" / "own_cell.py", tmp_path)
    monkeypatch.setattr(blas, "SGEMM_SIZE", 16)
    monkeypatch.setattr(memory, "BYTES", 1 << 12)
    monkeypatch.setattr("rnn_gpu.bench.timing._rest", lambda: None)
    gpu = dispatch.BACKENDS["cupy_raw"].unavailable() is None
    for words in commands(document):
        if words[0] == "rnn-gpu":
            more = small(words, gpu)
            cli._parser(words[1:]).parse_args(words[1:])
            assert more is None or cli.main([*words[1:], *more]) == 0, words


@pytest.mark.parametrize("words", [words for words in ALL_COMMANDS if words[0] != "rnn-gpu"], ids=" ".join)
def test_other_commands_are_run_elsewhere(words):
    """make's targets and examples by tests of their own, and what pip installs by those of the wheel."""
    while "=" in words[0]:
        words = words[1:]
    match words:
        case ["make", *_]:
            subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        case ["pip", "install", what]:
            extras = set(re.findall(r"[\w]+", what.removeprefix(".")))
            assert extras <= set(metadata("rnn_gpu").get_all("Provides-Extra"))
        case ["python", script, *_]:
            assert (ROOT / script).exists()
            assert f'example("{Path(script).stem}")' in (ROOT / "tests" / "test_examples.py").read_text()
        case _:
            raise AssertionError(words)


def test_a_wrong_option_is_seen():
    with pytest.raises(SystemExit):
        cli._parser(["train"]).parse_args(["train", "--hiden", "3"])


def test_make_targets_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = {words[1] for words in ALL_COMMANDS if words[0] == "make"}
    targets |= set(re.findall(r"^    make ([\w-]+)", text, re.MULTILINE))
    assert {"train", "test", "check", "format", "bench", "bench-compare", "bench-html", "docs"} <= targets
    subprocess.run(["make", "--dry-run", "BASE=HEAD", *sorted(targets)], cwd=ROOT, check=True, capture_output=True)


def test_a_comparison_wants_its_base():
    made = subprocess.run(["make", "--dry-run", "bench-compare"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode != 0
    assert "wants the commit to compare with" in made.stderr


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
