"""The settings: ranges, words of refusal, limits."""

from __future__ import annotations

import dataclasses
import math

import pytest

from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.lm.settings import DEFAULT_MINUTES, Settings, rule


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hidden", 0, "hidden: expected an integer at least 1 and at most 1000000, got 0"),
        ("layers", -1, "layers: expected an integer"),
        ("dropout", 1.0, "dropout: expected a number at least 0 and below 1, got 1.0"),
        ("dropout", math.nan, "dropout: expected a number .* got nan"),
        ("clip", 0.0, "clip: expected a number above 0, got 0.0"),
        ("clip", math.inf, "clip: .* got inf"),
        ("learning_rate", -1e-3, "learning_rate: expected a number above 0"),
        ("unit", "byte", "unit: expected one of char, word, got 'byte'"),
        ("optimizer", "sgd", "optimizer: expected one of adam, rmsprop, got 'sgd'"),
        ("minutes", 0.0, "minutes: expected a number above 0"),
        ("seed", -1, "seed: expected an integer at least 0"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, value, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        Settings(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("hidden", "64"), ("hidden", None), ("cell", 3), ("dropout", True)])
def test_values_of_the_wrong_kind_are_refused_by_name(name, value):
    with pytest.raises(ArgumentTypeError, match=f"^{name}: expected"):
        Settings(**{name: value})


def test_a_fraction_is_not_a_whole_number():
    with pytest.raises(ArgumentError, match=r"^hidden: expected an integer .* got 2.5"):
        Settings(hidden=2.5)


@pytest.mark.parametrize(("name", "text"), [("hidden", "abc"), ("hidden", "1.5"), ("clip", "nan"), ("unit", "x")])
def test_text_that_is_no_value_is_refused_with_what_was_expected(name, text):
    with pytest.raises(ValueError, match=f"expected {rule(name).expected}, got '{text}'"):
        rule(name).parse(text)


def test_every_setting_has_help_and_accepts_its_default():
    for field in dataclasses.fields(Settings):
        assert len(rule(field.name).help) > 10
        assert rule(field.name).accepts(field.default)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [({}, 60 * DEFAULT_MINUTES), ({"epochs": 3}, None), ({"minutes": 2}, 120.0), ({"epochs": 3, "minutes": 2}, 120.0)],
)
def test_time_is_limited_unless_only_epochs_are(given, seconds):
    assert Settings(**given).seconds == seconds
