"""From a file to numbers: reading, cutting into tokens, splitting, laying out in streams."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rnn_gpu.errors import ArgumentError
from rnn_gpu.lm import corpus, text, vocabulary
from rnn_gpu.lm.corpus import Corpus
from rnn_gpu.lm.vocabulary import UNKNOWN, Vocabulary


def test_the_built_in_text_is_english_of_some_size():
    content = text.read(None)
    assert len(content) > 300_000
    assert content.count(" the ") > 3_000


def test_reading_normalises_line_ends_and_drops_a_byte_order_mark(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\nc\xc3\xa9")
    assert text.read(str(path)) == "a\nb\ncé"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"abc\xff\xfe", r"byte 3 is 0xff"),
        (b"ab\xc3", r"byte 2 is 0xc3"),
    ],
)
def test_unreadable_text_is_refused_with_the_reason(tmp_path, content, message):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArgumentError, match=f"^FILE: expected a text file in UTF-8, got .*{message}"):
        text.read(str(path))


def test_a_folder_and_a_null_byte_in_the_name_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="Is a directory"):
        text.read(str(tmp_path))
    with pytest.raises(ArgumentError, match="null"):
        text.read("a\0b")


def test_words_punctuation_and_line_ends_are_tokens():
    assert vocabulary.split("Don't stop,\nit's\u2019 (so) 3.5!", "word") == [
        "Don't", "stop", ",", "\n", "it's", "\u2019", "(", "so", ")", "3", ".", "5", "!",
    ]  # fmt: skip
    assert vocabulary.split("a b\n", "char") == ["a", " ", "b", "\n"]


def test_characters_are_all_kept_most_frequent_first():
    made = Vocabulary.of(list("abacab"), list("abc"), "char", 100)
    assert made.tokens == ("a", "b", "c")
    assert made.unknown is None
    assert list(made.encode(list("cab"))) == [2, 0, 1]


def test_unknown_stands_for_what_the_training_part_lacks_or_the_limit_cuts_off():
    assert Vocabulary.of(list("aab"), list("x"), "char", 100).tokens == ("a", "b", UNKNOWN)
    limited = Vocabulary.of(list("aaabbc"), [], "char", 2)
    assert limited.tokens == ("a", UNKNOWN)
    assert list(limited.encode(list("abz"))) == [0, 1, 1]


def test_words_seen_once_are_unknown():
    made = Vocabulary.of("a a a b b c".split(), [], "word", 100)
    assert made.tokens == ("a", "b", UNKNOWN)
    assert made.missing("c a d c".split()) == ["c", "d"]


def test_encoding_without_an_unknown_token_names_what_is_missing():
    with pytest.raises(ArgumentError, match=r"tokens: .* got 'x', 'y'"):
        Vocabulary("char", ("a", "b")).encode(list("axbyx"))


def test_words_are_put_together_readably():
    source = "He said (twice), \u201cyes!\u201d\nThen he left."
    tokens = vocabulary.split(source, "word")
    made = Vocabulary("word", tuple(dict.fromkeys(tokens)))
    numbers = [None, *map(int, made.encode(tokens))]
    assert "".join(made.piece(n, p) for p, n in itertools.pairwise(numbers)) == source


def test_a_text_begins_after_a_line_end_if_there_is_one():
    assert vocabulary.start(Vocabulary("char", ("e", "a", "\n"))) == 2
    assert vocabulary.start(Vocabulary("char", ("e", "a"))) == 0


def test_the_parts_are_consecutive_and_whole():
    content = "".join(chr(97 + n % 26) for n in range(1000))
    parts, made = Corpus.of(content, "char", 100)
    assert [len(p) for p in (parts.training, parts.validation, parts.held_out)] == [900, 50, 50]
    numbers = np.concatenate([parts.training, parts.validation, parts.held_out])
    assert "".join(made.tokens[n] for n in numbers) == content


def test_the_vocabulary_sees_the_training_part_only():
    content = "ab" * 470 + "z" * 60
    parts, made = Corpus.of(content, "char", 100)
    assert made.tokens == ("a", "b", UNKNOWN)
    assert (parts.held_out == made.unknown).all()


@pytest.mark.parametrize("length", [0, 1, 39])
def test_a_text_too_short_to_split_is_refused(length):
    with pytest.raises(ArgumentError, match=f"FILE: expected a text of at least 40 characters, got {length}"):
        Corpus.of("a" * length, "char", 100)


def test_the_shortest_text_has_something_to_predict_in_each_part():
    parts, _ = Corpus.of("ab" * 20, "char", 100)
    assert min(len(p) for p in (parts.training, parts.validation, parts.held_out)) == 2
    parts.check_length("char", 5, 7)
    with pytest.raises(ArgumentError, match=r"FILE: expected at least 37 characters to train on, .* got 36"):
        parts.check_length("char", 4, 9)


@pytest.mark.parametrize(("count", "batch", "sequence"), [(100, 3, 7), (22, 3, 7), (2, 1, 5), (65, 4, 16), (66, 5, 4)])
def test_streams_predict_each_token_once_in_order(count, batch, sequence):
    ids = np.arange(count, dtype=np.int32)
    laid_out = corpus.streams(ids, batch)
    pieces = list(corpus.chunks(laid_out, sequence))
    assert len(pieces) == corpus.chunk_count(laid_out, sequence)
    inputs, targets = (np.concatenate([getattr(p, name) for p in pieces]) for name in ("inputs", "targets"))
    assert np.array_equal(inputs + 1, targets)
    predicted = targets.T.ravel()
    assert np.array_equal(predicted, np.arange(1, 1 + predicted.size))
    assert count - 1 - predicted.size < batch


def test_evaluation_uses_few_streams_for_a_short_part():
    assert corpus.evaluation_streams(np.arange(500, dtype=np.int32), 32).shape == (500, 1)
    assert corpus.evaluation_streams(np.arange(5001, dtype=np.int32), 32).shape == (1001, 5)
    assert corpus.evaluation_streams(np.arange(90_000, dtype=np.int32), 32).shape[1] == 32


def test_more_streams_than_tokens_are_refused():
    with pytest.raises(ArgumentError, match="batch: expected at most 4 streams for 5 tokens, got 5"):
        corpus.streams(np.arange(5, dtype=np.int32), 5)
