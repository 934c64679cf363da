"""A saved model, ready for use: its settings, vocabulary, cell and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rnn_gpu import cells
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import FileFormatError
from rnn_gpu.lm import checkpoint
from rnn_gpu.lm.assign import assign
from rnn_gpu.lm.cell_names import find_cell
from rnn_gpu.lm.model import LanguageModel
from rnn_gpu.lm.settings import Settings
from rnn_gpu.lm.vocabulary import Vocabulary

__all__ = ["SavedModel", "describe", "load"]


@dataclass(frozen=True)
class SavedModel:
    """config: what config.json holds."""

    config: dict[str, Any]
    settings: Settings
    vocabulary: Vocabulary
    model: LanguageModel


def describe(settings: Settings, vocabulary: Vocabulary, cell: Cell) -> dict[str, Any]:
    """Return the entries of config.json from which `load` makes a model again."""
    return {"settings": asdict(settings), "cell": _signature(cell), "vocabulary": list(vocabulary.tokens)}


def load(folder: Path) -> SavedModel:
    """Read the model in a folder.

    Raises FileFormatError if the folder holds none, or a damaged one, and ArgumentError, named "cell", if its cell
    is a user's own and cannot be found.
    """
    config = checkpoint.read_config(folder)
    path = folder / checkpoint.CONFIG
    with checkpoint.damaged(path):
        settings = Settings(**config["settings"])
        signature = {key: list(value) for key, value in config["cell"].items()}
        tokens = config["vocabulary"]
        if not isinstance(tokens, list) or not tokens or not all(isinstance(token, str) for token in tokens):
            raise FileFormatError("'vocabulary': expected a list of strings")
        if len(set(tokens)) != len(tokens):
            raise FileFormatError("'vocabulary': expected each token once")
    cell = find_cell(settings.cell)
    if signature != _signature(cell):
        raise FileFormatError(
            f"{str(path)!r} was trained with another cell {settings.cell!r}: {_words(signature)}; "
            f"the present one has {_words(_signature(cell))}"
        )
    vocabulary = Vocabulary(settings.unit, tuple(tokens))
    tensors = checkpoint.read_tensors(folder, config, "model")
    model = LanguageModel(cell, len(vocabulary), settings.hidden, settings.layers, settings.seed)
    with checkpoint.damaged(folder):
        assign(model.parameters, tensors)
    return SavedModel(config, settings, vocabulary, model)


def _signature(cell: Cell) -> dict[str, list[str]]:
    """What tells a cell from others of its name: for a user's own, its equations too."""
    own = cells.ALL.get(cell.name) is not cell
    return {
        "gates": list(cell.gates),
        "states": list(cell.states),
        "vectors": list(cell.vectors),
        "equations": [cell.digest[:16]] if own else [],
    }


def _words(signature: Mapping[str, list[str]]) -> str:
    return ", ".join(f"{kind} {' '.join(map(str, names)) or 'none'}" for kind, names in signature.items())
