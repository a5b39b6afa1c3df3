"""Language modelling: losses and figures per token, bytes per token."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgecompress.data.base import Dataset, Split
from edgecompress.data.forms import NO_NORMALIZATION
from edgecompress.data.tokens.tokenizer import make_vocabulary
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe, TokenizerSpec
from edgecompress.tasks.language import LanguageModeling
from edgecompress.tasks.making import make_task

TEXT = "the cat sat on the mat and the dog sat on the cat"


def task_of(kind: str) -> LanguageModeling:
    vocabulary = make_vocabulary(TokenizerSpec.model_validate({"kind": kind}), [TEXT], 0)
    tokens = vocabulary.encode_whole(TEXT)
    inputs, labels = tokens[:12].reshape(3, 4), tokens[1:13].reshape(3, 4).astype(np.int64)
    split = Split(inputs, labels)
    dataset = Dataset(
        "text-files", split, split, split, (), (4,), NO_NORMALIZATION, kind="tokens", vocabulary=vocabulary,
        output_shape=(4, vocabulary.size),
    )  # fmt: skip
    recipe = Recipe.model_validate({"version": 1, "task": "language-modeling", "teacher": {"model": "transformer"}})
    task = make_task(recipe, dataset)
    assert isinstance(task, LanguageModeling)
    return task


def outputs_for(task: LanguageModeling, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (3, *task.dataset.outputs)).astype(np.float32)


def test_figures_are_per_token_and_per_byte() -> None:
    task = task_of("word")
    outputs, split = outputs_for(task), task.dataset.test
    logits = outputs.astype(np.float64)
    log_shares = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    losses = -np.take_along_axis(log_shares, split.labels[..., None], -1)
    figures = task.metrics(outputs, split)
    assert figures["perplexity"] == pytest.approx(math.exp(losses.mean()), rel=1e-5)
    words = TEXT.split()[1:13]
    count = sum(len(" ".join(words[k : k + 4])) for k in (0, 4, 8))
    assert task.bytes_of(split.labels) == count
    assert figures["bits_per_byte"] == pytest.approx(losses.sum() / math.log(2) / count, rel=1e-5)
    assert figures["token_accuracy"] == pytest.approx(100 * (outputs.argmax(-1) == split.labels).mean())


def test_bits_per_byte_of_bytes_are_bits_per_token() -> None:
    task = task_of("byte")
    figures = task.metrics(outputs_for(task), task.dataset.test)
    assert figures["bits_per_byte"] == pytest.approx(math.log2(figures["perplexity"]))


def test_the_loss_is_the_mean_over_tokens_and_the_teacher_is_followed_at_each() -> None:
    task = task_of("word")
    outputs, targets = (torch.from_numpy(outputs_for(task, seed)).double() for seed in (1, 2))
    labels = torch.from_numpy(task.dataset.test.labels)
    rows = torch.log_softmax(outputs, -1)
    hard = float(-rows.gather(-1, labels[..., None]).mean())
    assert float(task.loss(outputs, labels)) == pytest.approx(hard)
    p, q = torch.softmax(targets / 2, -1), torch.softmax(outputs / 2, -1)
    soft = float((p * (p / q).log()).sum(-1).mean())
    found = task.distillation_loss(outputs, targets, labels, 2.0, 0.6)
    assert float(found) == pytest.approx(0.4 * hard + 0.6 * 4 * soft)


def test_agreement_is_counted_by_token() -> None:
    task = task_of("word")
    reference = np.zeros((1, 4, task.dataset.outputs[1]), np.float32)
    outputs = reference.copy()
    reference[0, :, 3] = outputs[0, :3, 3] = outputs[0, 3, 4] = 1.0
    assert task.agreement(outputs, reference) == 75.0
    assert task.tolerance(task.dataset.test, 10.0, 0.1) == pytest.approx(0.02)


def test_no_windows_no_figures() -> None:
    task = task_of("word")
    empty = Split(np.zeros((0, 4), np.int32), np.zeros((0, 4), np.int64))
    assert task.metrics(np.zeros((0, *task.dataset.outputs), np.float32), empty) == {}


def test_tokens_without_a_vocabulary_are_no_text() -> None:
    task = task_of("word")
    recipe = Recipe.model_validate({"version": 1, "task": "language-modeling", "teacher": {"model": "transformer"}})
    with pytest.raises(DataError, match="no vocabulary"):
        make_task(recipe, replace(task.dataset, vocabulary=None))
