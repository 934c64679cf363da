"""A small text, and small settings to go with it."""

from __future__ import annotations

import random

import pytest


def make_text(lines: int = 60) -> str:
    """Sentences with something to learn in them."""
    rng = random.Random(0)
    subjects, verbs, objects = ("the cat", "a dog", "my aunt"), ("sees", "hears", "likes"), ("a bird", "the moon")
    return "".join(f"{rng.choice(subjects)} {rng.choice(verbs)} {rng.choice(objects)}.\n" for _ in range(lines))


@pytest.fixture(autouse=True)
def _reference_backend(monkeypatch):
    """These tests are about the model, not about backends; the reference needs no compilation."""
    monkeypatch.setenv("RNN_GPU_BACKEND", "numpy_cpu")


@pytest.fixture
def text_file(tmp_path):
    """The path of a text file of about 1,400 characters."""
    path = tmp_path / "text.txt"
    path.write_text(make_text(), encoding="utf-8")
    return str(path)
