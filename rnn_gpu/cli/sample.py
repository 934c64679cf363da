"""`rnn-gpu sample`: a trained model writes, token by token."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from rnn_gpu.cli.backend import check_backend, quiet_blas
from rnn_gpu.cli.options import add_option
from rnn_gpu.errors import ArgumentError
from rnn_gpu.lm import saved, vocabulary
from rnn_gpu.lm.generate import generate
from rnn_gpu.lm.settings import Rule, rule
from rnn_gpu.lm.vocabulary import NAMES, UNKNOWN, Vocabulary

__all__ = ["configure", "run"]

_LENGTH = Rule(int, "characters or words to write", low=1, high=2**40)
_TEMPERATURE = Rule(
    float, "divides the logits: below 1 more careful, above 1 more daring, 0 always the likeliest", low=0, high=1e6
)
_SEED = Rule(int, "seed of the random numbers", low=0, high=2**63 - 1)

_DEFAULT_LENGTH, _DEFAULT_TEMPERATURE = 500, 0.8


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description = "Let a trained model write, one character or word at a time."
    parser.epilog = 'example:\n  rnn-gpu sample rnn-lm --prompt "The " --length 1000 --temperature 0.7'
    parser.add_argument("model", metavar="MODEL", help="the folder that rnn-gpu train wrote")
    parser.add_argument("--prompt", metavar="TEXT", default="", help="the text that the model goes on from")
    add_option(parser, "length", _LENGTH, _DEFAULT_LENGTH)
    add_option(parser, "temperature", _TEMPERATURE, _DEFAULT_TEMPERATURE)
    add_option(parser, "seed", _SEED, "another one each time")
    add_option(parser, "backend", rule("backend"), None)


def run(arguments: argparse.Namespace) -> int:
    """Write the prompt and what follows it to stdout."""
    check_backend(arguments.backend)
    with quiet_blas(arguments.backend):
        return _sample(arguments)


def _sample(arguments: argparse.Namespace) -> int:
    loaded = saved.load(Path(arguments.model))
    words = loaded.vocabulary
    prompt = _prompt(arguments.prompt, words)
    tokens = generate(
        loaded.model,
        prompt or [vocabulary.start(words)],
        arguments.length or _DEFAULT_LENGTH,
        _DEFAULT_TEMPERATURE if arguments.temperature is None else arguments.temperature,
        np.random.default_rng(arguments.seed),
        never=words.unknown,
        backend=arguments.backend,
    )
    previous = prompt[-1] if prompt else None
    _write(arguments.prompt)
    for token in tokens:
        _write(words.piece(token, previous))
        previous = token
    _write("\n")
    return 0


def _prompt(text: str, words: Vocabulary) -> list[int]:
    """The prompt's tokens. Raises ArgumentError for those that the model does not know and has no `<unk>` for."""
    tokens = vocabulary.split(text, words.unit)
    missing = words.missing(tokens)
    listed = " ".join(map(repr, missing))
    if missing and (words.unit == "char" or words.unknown is None):
        raise ArgumentError("prompt", f"only {NAMES[words.unit]} that the model knows", listed)
    if missing:
        print(f"rnn-gpu sample: the model reads as {UNKNOWN}: {listed}", file=sys.stderr)
    return [int(number) for number in words.encode(tokens)]


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
