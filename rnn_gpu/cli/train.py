"""`rnn-gpu train`: a text in, a language model out."""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import shlex
from pathlib import Path

import numpy as np
from rich.table import Table

from rnn_gpu.cli.backend import check_backend, quiet_blas
from rnn_gpu.cli.console import Console
from rnn_gpu.cli.display import Display, clock
from rnn_gpu.cli.interrupt import Interrupt
from rnn_gpu.cli.options import add_settings, given_settings
from rnn_gpu.errors import ArgumentError
from rnn_gpu.lm import checkpoint, text, vocabulary
from rnn_gpu.lm.generate import generate
from rnn_gpu.lm.measure import figure, measure
from rnn_gpu.lm.run import Result, Run
from rnn_gpu.lm.settings import Settings
from rnn_gpu.lm.vocabulary import NAMES

__all__ = ["configure", "run"]

_OUT = "rnn-lm"
_SAMPLE = {"char": 400, "word": 80}
"""Tokens of the sample at the end."""
_SAMPLE_TEMPERATURE = 0.7

_EXAMPLES = """examples:
  rnn-gpu train                                         the English text that ships with Python
  rnn-gpu train book.txt --unit word --minutes 30       words instead of characters
  rnn-gpu train book.txt --cell mine:my_cell            your own cell, from mine.py in this folder
  rnn-gpu train --resume rnn-lm --minutes 10            go on, until ten minutes in all

Ctrl-C saves the model; --resume then gives the same model as training without a stop."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description = (
        "Train a recurrent language model on a text, and say how well it predicts text it has not seen."
    )
    parser.epilog = _EXAMPLES
    parser.add_argument("FILE", nargs="?", help=f"a text in UTF-8; by default the one in Python's {text.BUILT_IN}")
    add_settings(parser)
    place = parser.add_argument_group("where the model is kept")
    place.add_argument("--out", metavar="DIR", help=f"a new folder for the model (default: {_OUT}, {_OUT}-2, ...)")
    place.add_argument("--overwrite", action="store_true", help="replace the model that --out holds")
    place.add_argument("--resume", metavar="DIR", help="go on with the model in this folder, with the same settings")


def run(arguments: argparse.Namespace) -> int:
    """Train, and print what came of it."""
    check_backend(arguments.backend)
    with quiet_blas(arguments.backend):
        return _train(arguments)


def _train(arguments: argparse.Namespace) -> int:
    console = Console()
    job = _resume(arguments) if arguments.resume is not None else _start(arguments)
    _describe(console, job)
    was_finished = job.finished
    with Interrupt() as interrupt, Display(console, job.settings.unit) as display:
        try:
            reason = job.train(display, interrupt.requested)
        except BrokenPipeError:
            job.save()
            raise
    if reason is None:
        console.print(f"Stopped, and saved in {job.folder}. To go on:\n  {_resume_command(job.folder)}")
        return 130
    if was_finished is not None:
        console.print(f"Nothing is left to train: {reason}. A later --epochs or --minutes gives more time.")
    else:
        console.print(f"Training ends: {reason}.")
    result = job.finish()
    _print_result(console, job, result)
    _print_sample(console, job, result)
    _draw(console, job)
    console.print(f"The model is in {job.folder}. To let it write:\n  rnn-gpu sample {shlex.quote(str(job.folder))}")
    return 0


def _start(arguments: argparse.Namespace) -> Run:
    settings = Settings(**given_settings(arguments))
    folder = _free_folder() if arguments.out is None else Path(arguments.out)
    if checkpoint.holds_model(folder):
        if not arguments.overwrite:
            raise ArgumentError(
                "out",
                "a folder without a model, or --overwrite, or --resume to go on",
                f"{str(folder)!r}, which has one",
            )
        checkpoint.read_config(folder)
    job = Run.start(settings, arguments.FILE, folder)
    checkpoint.prepare(folder, "out")
    return job


def _resume(arguments: argparse.Namespace) -> Run:
    for name in ("out", "overwrite"):
        if getattr(arguments, name):
            raise ArgumentError(name, "nothing beside --resume, which saves where the model is", "both")
    folder = Path(arguments.resume)
    job = Run.resume(folder, arguments.FILE, given_settings(arguments))
    checkpoint.prepare(folder, "resume")
    return job


def _free_folder() -> Path:
    names = itertools.chain([_OUT], (f"{_OUT}-{number}" for number in itertools.count(2)))
    return next(Path(name) for name in names if not Path(name).exists())


def _resume_command(folder: Path) -> str:
    return f"rnn-gpu train --resume {shlex.quote(str(folder))}"


def _describe(console: Console, job: Run) -> None:
    settings, corpus, model = job.settings, job.trainer.corpus, job.trainer.model
    source = job.source["file"] or f"Python's {text.BUILT_IN}"
    sizes = " + ".join(f"{len(part):,}" for part in (corpus.training, corpus.validation, corpus.held_out))
    count = sum(array.size for array in model.parameters.values())
    layers = "1 layer" if settings.layers == 1 else f"{settings.layers} layers"
    console.print(f"{source}: {sizes} {NAMES[settings.unit]} for training, validation, held out")
    console.print(
        f"{settings.cell}, {layers} of {settings.hidden} units, vocabulary of {len(job.vocabulary):,}: "
        f"{count:,} parameters"
    )


def _print_result(console: Console, job: Run, result: Result) -> None:
    unit, trainer = job.settings.unit, job.trainer
    table = Table("part", f"{NAMES[unit]} predicted", measure(unit), title="Result", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("validation", "", f"{figure(unit, result.validation):.3f}")
    table.add_row("held out", f"{result.held_out_tokens:,}", f"{figure(unit, result.held_out):.3f}", style="bold")
    console.print(table)
    console.print(
        f"{len(trainer.losses) / trainer.chunks_per_epoch:.1f} epochs in {clock(trainer.progress.seconds)}, "
        f"{len(trainer.losses):,} updates"
    )


def _print_sample(console: Console, job: Run, result: Result) -> None:
    words, unit = job.vocabulary, job.settings.unit
    tokens = generate(
        result.model, [vocabulary.start(words)], _SAMPLE[unit], _SAMPLE_TEMPERATURE,
        np.random.default_rng(job.settings.seed), never=words.unknown, backend=job.settings.backend,
    )  # fmt: skip
    console.print(f"\nA sample, at temperature {_SAMPLE_TEMPERATURE:g}:\n")
    previous = None
    pieces = []
    for token in tokens:
        pieces.append(words.piece(token, previous))
        previous = token
    console.out("".join(pieces), highlight=False)
    console.print()


def _draw(console: Console, job: Run) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        console.print("For a picture of the learning curve, loss.png: pip install 'rnn_gpu[plot]'")
        return
    from rnn_gpu.lm.plot import draw_loss  # noqa: PLC0415 (matplotlib is optional, and slow to import)

    path, trainer = job.folder / "loss.png", job.trainer
    draw_loss(path, job.settings.unit, trainer.losses, trainer.progress.epochs, trainer.chunks_per_epoch)
    console.print(f"The learning curve is in {path}.")
