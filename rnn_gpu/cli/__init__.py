"""The command `rnn-gpu`: one module a command, each with `configure(parser)` and `run(arguments) -> exit status`.

Every error that a user can cause ends here, in one line on stderr: status 2 for what was asked for or given, 1 for
what failed on the way, 130 for an interruption.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from rnn_gpu.errors import (
    ArgumentError,
    ArgumentTypeError,
    BackendError,
    CellError,
    FileFormatError,
    RnnGpuError,
)

__all__ = ["main"]

COMMANDS = {
    "train": "train a language model on a text",
    "sample": "let a trained model write",
    "bench": "time the kernels side by side with torch, onnxruntime and NumPy",
    "info": "show versions, backends and devices, and why each is usable or not",
}

EXAMPLES = """examples:
  rnn-gpu train                                      the English text that ships with Python, a few minutes
  rnn-gpu train book.txt --cell gru --layers 2       your own text
  rnn-gpu sample rnn-lm --prompt "The "              let the model go on from there
  rnn-gpu info                                       what this machine can run"""

_USAGE = (ArgumentError, ArgumentTypeError, BackendError, CellError, FileFormatError)


class _Parser(argparse.ArgumentParser):
    """Reports what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, `sys.argv` by default, and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    _replace_unprintable()
    program = "rnn-gpu"
    options: dict[str, str] = {}
    try:
        arguments = _parser(words).parse_args(words)
        program, options = arguments.parser.prog, _options(arguments.parser)
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except SystemExit as request:
        return request.code if isinstance(request.code, int) else 0
    except KeyboardInterrupt:
        return _report(program, "interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except _USAGE as error:
        return _report(program, f"error: {_with_option(error, options)}", 2)
    except MemoryError as error:
        return _report(program, f"error: not enough memory: {error}", 1)
    except (RnnGpuError, OSError) as error:
        return _report(program, f"error: {_in_words(error)}", 1)


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser. Only commands that `words` may be asking for are imported."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="rnn-gpu",
        description="Recurrent neural networks: train a language model, and let it write.",
        epilog=EXAMPLES,
        formatter_class=layout,
    )
    parser.add_argument("--version", action="version", version=f"rnn-gpu {metadata.version('rnn_gpu')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, formatter_class=layout)
        if name in words:
            module = importlib.import_module(f"rnn_gpu.cli.{name}")
            module.configure(command)
            command.set_defaults(run=module.run, parser=command)
    return parser


def _options(parser: argparse.ArgumentParser) -> dict[str, str]:
    """The option, or the name in the usage line, of each argument of a command."""
    return {
        action.dest: action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)
        for action in parser._actions
    }


def _with_option(error: RnnGpuError, options: dict[str, str]) -> str:
    """The message, with the argument it begins with as it is written on the command line."""
    message = str(error)
    argument = getattr(error, "argument", None)
    if argument in options and message.startswith(argument):
        return options[argument] + message[len(argument) :]
    return message


def _in_words(error: Exception) -> str:
    """The message of an error, that of one of the system's without its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _report(program: str, message: str, status: int) -> int:
    print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
    return status


def _replace_unprintable() -> None:
    """Let characters that the terminal's encoding lacks come out as "?"."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
