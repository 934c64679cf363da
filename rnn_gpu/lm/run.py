"""A training run from start to finish, with its folder on disk."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rnn_gpu.errors import ArgumentError
from rnn_gpu.lm import checkpoint, corpus, saved, text
from rnn_gpu.lm.cell_names import find_cell
from rnn_gpu.lm.corpus import Corpus
from rnn_gpu.lm.evaluate import evaluate
from rnn_gpu.lm.measure import figure, measure
from rnn_gpu.lm.model import LanguageModel
from rnn_gpu.lm.settings import Settings, rule
from rnn_gpu.lm.status import Listener, Pace, Status
from rnn_gpu.lm.trainer import Arrays, Trainer
from rnn_gpu.lm.vocabulary import Vocabulary

__all__ = ["Result", "Run"]

_SAVE_EVERY = 60.0
"""Seconds between two saves."""


@dataclass(frozen=True)
class Result:
    """The end of a run: the model of the chosen parameters, its losses in nats per token, and the number of tokens
    of the held-out part that were predicted."""

    model: LanguageModel
    validation: float
    held_out: float
    held_out_tokens: int


class Run:
    """A trainer, and all that its checkpoint holds beside it. Made by `start` or `resume`."""

    def __init__(
        self, folder: Path, settings: Settings, source: dict[str, Any], vocabulary: Vocabulary, trainer: Trainer
    ):
        self.folder = folder
        self.settings = settings
        self.source = source
        self.vocabulary = vocabulary
        self.trainer = trainer
        self._result: Result | None = None

    @classmethod
    def start(cls, settings: Settings, file: str | None, folder: Path) -> Run:
        """Begin a run on a text file, None for the built-in text. Raises ArgumentError. Nothing is written yet."""
        cell = find_cell(settings.cell)
        content = text.read(file)
        parts, vocabulary = Corpus.of(content, settings.unit, settings.vocabulary)
        parts.check_length(settings.unit, settings.batch, settings.sequence)
        model = LanguageModel(cell, len(vocabulary), settings.hidden, settings.layers, settings.seed)
        return cls(folder, settings, _source(file, content), vocabulary, Trainer(settings, model, parts))

    @classmethod
    def resume(cls, folder: Path, file: str | None, changes: Mapping[str, Any]) -> Run:
        """Go on with the run that was saved in `folder`.

        file: where the text is now, None for where it was. changes: settings given anew. Those of a limit or the
        backend are taken; of the limits, a new one takes the place of both. Raises ArgumentError, naming the
        setting, for any other that differs, ArgumentError, named "FILE", if the text is not the same, and
        FileFormatError.
        """
        model = saved.load(folder)
        settings = _changed(model.settings, changes)
        with checkpoint.damaged(folder / checkpoint.CONFIG):
            source = {"file": model.config["text"]["file"], "sha256": model.config["text"]["sha256"]}
            state = model.config["progress"]
        content = text.read(file if file is not None else source["file"])
        found = _source(file if file is not None else source["file"], content)
        if found["sha256"] != source["sha256"]:
            raise ArgumentError("FILE", "the text that the model was trained on", "another one")
        parts, _ = Corpus.of(content, settings.unit, settings.vocabulary, model.vocabulary)
        trainer = Trainer(settings, model.model, parts)
        tensors = checkpoint.read_tensors(folder, model.config, "training")
        with checkpoint.damaged(folder):
            trainer.restore(state, tensors)
        return cls(folder, settings, found, model.vocabulary, trainer)

    def train(self, listener: Listener, stop: Callable[[], bool]) -> str | None:
        """Train until a limit, the end of improvement or `stop`, and save. Return why, None for `stop`.

        Raises OSError if the model cannot be saved: the former checkpoint, if any, stays.
        """
        trainer = self.trainer
        mark = saved_at = time.monotonic()
        pace = Pace()
        while True:
            if trainer.epoch_complete:
                listener.epoch(trainer.end_epoch())
            reason = self.finished
            if reason is not None or stop():
                self.save()
                return reason
            if time.monotonic() - saved_at > _SAVE_EVERY:
                self.save()
                saved_at = time.monotonic()
            tokens = trainer.step()
            now = time.monotonic()
            elapsed, mark = now - mark, now
            trainer.progress.seconds += elapsed
            pace.add(tokens, elapsed)
            listener.status(Status.of(trainer, pace.rate))

    @property
    def finished(self) -> str | None:
        """Why the run is at its end, None if it is not."""
        trainer, settings = self.trainer, self.settings
        if trainer.progress.schedule.finished:
            return "validation no longer improves"
        if settings.epochs is not None and len(trainer.progress.epochs) >= settings.epochs:
            return "all epochs are done"
        if settings.seconds is not None and trainer.progress.seconds >= settings.seconds:
            return "the time is up"
        return None

    def finish(self) -> Result:
        """Choose the best parameters, evaluate them on the held-out part, and save them as the model."""
        trainer = self.trainer
        chosen, validation = trainer.chosen()
        model = trainer.model.with_parameters(chosen)
        held_out = evaluate(model, trainer.corpus.held_out, self.settings)
        tokens = corpus.evaluation_streams(trainer.corpus.held_out, self.settings.batch)[1:].size
        self._result = Result(model, validation, held_out, tokens)
        self._write(chosen)
        return self._result

    def save(self) -> None:
        """Write the checkpoint. Its model is the best so far, or the present one before there is a best."""
        trainer = self.trainer
        self._write(trainer.best or trainer.model.parameters)

    def _write(self, model: Arrays) -> None:
        trainer, unit = self.trainer, self.settings.unit
        result = None
        if self._result is not None:
            result = {
                "measure": measure(unit),
                "validation": figure(unit, self._result.validation),
                "held_out": figure(unit, self._result.held_out),
            }
        config = {
            "rnn_gpu": metadata.version("rnn_gpu"),
            "text": self.source,
            "result": result,
            "losses": "nats per token",
            "progress": trainer.state,
            **saved.describe(self.settings, self.vocabulary, trainer.model.cell),
        }
        try:
            checkpoint.write(self.folder, config, {"model": model, "training": trainer.tensors})
        except OSError as error:
            former = "the former save is intact" if checkpoint.holds_model(self.folder) else "nothing was saved"
            message = f"the model cannot be saved in {str(self.folder)!r}: {error.strerror or error}; {former}"
            raise OSError(error.errno, message) from error


def _source(file: str | None, content: str) -> dict[str, Any]:
    return {"file": None if file is None else str(Path(file).resolve()), "sha256": text.digest(content)}


def _changed(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    for name, value in changes.items():
        present = getattr(settings, name)
        if not rule(name).changeable and value != present:
            raise ArgumentError(name, f"{present!r}, as in the model that is resumed", repr(value))
    new = {name: value for name, value in changes.items() if rule(name).changeable}
    if "epochs" in new or "minutes" in new:
        new = {"epochs": None, "minutes": None, **new}
    return dataclasses.replace(settings, **new)
