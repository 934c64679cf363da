"""The loss on a text that is not trained on."""

from __future__ import annotations

from rnn_gpu.lm import corpus as corpora
from rnn_gpu.lm.corpus import Ids
from rnn_gpu.lm.model import LanguageModel
from rnn_gpu.lm.settings import Settings
from rnn_gpu.stack import States

__all__ = ["evaluate"]


def evaluate(model: LanguageModel, ids: Ids, settings: Settings) -> float:
    """Return the loss on a part of the text, in nats per token, the states carried from its start to its end."""
    laid_out = corpora.evaluation_streams(ids, settings.batch)
    states: States | None = None
    total, tokens = 0.0, 0
    for chunk in corpora.chunks(laid_out, settings.sequence):
        loss, states = model.loss(chunk, states, settings.backend)
        total += loss
        tokens += chunk.targets.size
    return total / tokens
