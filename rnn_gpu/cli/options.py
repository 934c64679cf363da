"""Options whose range and help stand in `rnn_gpu.lm.settings`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

from rnn_gpu.lm.settings import Rule, Settings, rule

__all__ = ["add_option", "add_settings", "given_settings"]


def add_option(parser: argparse._ActionsContainer, name: str, rule: Rule, default: object, note: str = "") -> None:
    """Add --name, read and checked as the rule says. Not given, it is None; `default` is what the help says."""
    shown = f" (default: {default})" if default is not None else ""
    metavar = "{" + ",".join(rule.choices) + "}" if rule.choices else {int: "N", float: "X", str: "NAME"}[rule.kind]
    help_text = (rule.help + note + shown).replace("%", "%%")
    parser.add_argument(f"--{name.replace('_', '-')}", type=_reader(rule), metavar=metavar, help=help_text)


def add_settings(parser: argparse._ActionsContainer) -> None:
    """Add an option for each setting of a training run."""
    for field in dataclasses.fields(Settings):
        add_option(parser, field.name, rule(field.name), field.default)


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that the command line names."""
    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Settings)}
    return {name: value for name, value in values.items() if value is not None}


def _reader(rule: Rule) -> Callable[[str], int | float | str]:
    def read(text: str) -> int | float | str:
        try:
            return rule.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read
