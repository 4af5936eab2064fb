"""Scores of a reference, computed once and kept in a file, so that no second model is in memory while training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sharpseq.data import EncodedExample, EncodedPair, TokenBudgetBatchSampler, examples_of
from sharpseq.data.token_budget import side_lengths
from sharpseq.errors import UserError
from sharpseq.generation.fingerprints import fingerprint_of, vocabulary_fingerprint
from sharpseq.models.pretrained import is_causal
from sharpseq.scoring import ScoreRequest, SequenceScores, score_model
from sharpseq.training.distillation.teacher_store import example_key
from sharpseq.training.preference.references import check_has_probability
from sharpseq.training.trainer import collator_for
from sharpseq.whole_files import write_whole_file

_BEGIN_AGAIN = "delete it, and the scores are computed again"


class StoredReference:
    """Log-probabilities of answers under a reference, read from a file.

    Args:
        path: A file from `store_reference`.

    Raises:
        UserError: If it cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with safe_open(self.path, framework="pt") as file:
                self.record: dict[str, Any] = json.loads((file.metadata() or {})["record"])
                keys, log_probs = file.get_tensor("keys"), file.get_tensor("log_probs")
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise UserError(
                f"{self.path} is no file of reference scores ({type(error).__name__}); {_BEGIN_AGAIN}"
            ) from error
        self._log_probs = dict(zip(keys.tolist(), log_probs.tolist(), strict=True))

    @cached_property
    def vocab_size(self) -> int:
        """Number of entries of the reference's vocabulary."""
        return int(self.record["vocab_size"])

    def check(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[EncodedPair]) -> None:
        """Check that the scores are those of some pairs under a model.

        Raises:
            UserError: If they are of another vocabulary, other weights, or lack a pair.
        """
        if self.record["vocabulary"] != vocabulary_fingerprint(tokenizer):
            raise UserError(f"{self.path} was made with another tokenizer; {_BEGIN_AGAIN}")
        if self.record["reference"] != fingerprint_of(model, tokenizer):
            raise UserError(
                f"{self.path} was made from other weights than those that training starts from; {_BEGIN_AGAIN}"
            )
        missing = [pair.index for pair in pairs if any(key not in self._log_probs for key in _keys(pair))]
        if missing:
            raise UserError(
                f"{self.path} has no scores for {len(missing):,} of {len(pairs):,} pairs, first for pair {missing[0]} "
                f"(counted from 0): it was made from other data; {_BEGIN_AGAIN}"
            )

    def scores(self, policy: nn.Module, batch: Mapping[str, Any], request: ScoreRequest) -> SequenceScores:
        """Look up the answers of a batch.

        Raises:
            UserError: If one is missing.
            ValueError: If more is asked than was stored.
        """
        if request.token_log_probs or request.positions:
            raise ValueError(
                "the objective compares policy and reference token by token, and only the scores of answers are "
                "stored; give the reference itself"
            )
        model: Any = getattr(policy, "module", policy)
        examples = examples_of(batch, in_one_row=not model.config.is_encoder_decoder)
        try:
            found = [self._log_probs[example_key(example.input_ids, example.labels)] for example in examples]
        except KeyError:
            raise UserError(
                f"{self.path} has no scores for an answer: it was made from other data; {_BEGIN_AGAIN}"
            ) from None
        counts = [len(example.labels) for example in examples]
        device = batch["labels"].device
        return SequenceScores(
            log_prob=torch.tensor(found, dtype=torch.float64, device=device),
            num_tokens=torch.tensor(counts, device=device),
        )


def store_reference(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[EncodedPair],
    path: str | Path,
    *,
    batch_tokens: int = 4000,
) -> StoredReference:
    """Score all answers under a model and write the scores into a file, which appears only when it is whole.

    Args:
        model: The reference; a causal, seq2seq or one-pass model.
        tokenizer: Its tokenizer.
        pairs: The pairs of training and validation.
        path: The file.
        batch_tokens: Token budget of a batch.

    Returns:
        The scores, as read back.

    Raises:
        ValueError: If the model gives its answers no whole probability.
        UserError: If the file cannot be written.
    """
    check_has_probability(model)
    answers = {
        example_key(pair.input_ids, answer): EncodedExample(pair.index, pair.input_ids, answer)
        for pair in pairs
        for answer in (*pair.chosen, pair.rejected)
    }
    record = {
        "vocab_size": int(model.config.get_text_config().vocab_size),
        "vocabulary": vocabulary_fingerprint(tokenizer),
        "reference": fingerprint_of(model, tokenizer),
    }
    log_probs = _log_probs(model, list(answers.values()), batch_tokens=batch_tokens)
    tensors = {"keys": torch.tensor(list(answers), dtype=torch.int64), "log_probs": log_probs}
    try:
        write_whole_file(Path(path), save(tensors, {"record": json.dumps(record)}))
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}; fix that and run the same command again"
        ) from error
    return StoredReference(path)


@torch.no_grad()
def _log_probs(model: Any, examples: Sequence[EncodedExample], *, batch_tokens: int) -> torch.Tensor:
    """Return the log-probability of each example, in float64, shape (N,)."""
    collate, was_training = collator_for(model), model.training
    lengths = side_lengths(examples, in_one_row=is_causal(model.config))
    longest = max(max(pair) for pair in zip(*lengths, strict=True))
    found = torch.zeros(len(examples), dtype=torch.float64)
    try:
        model.eval()
        for places in TokenBudgetBatchSampler(*lengths, batch_tokens=max(batch_tokens, longest), shuffle=False):
            batch = collate([examples[place] for place in places])
            inputs = {name: value.to(model.device) for name, value in batch.items() if name != "example_ids"}
            found[places] = score_model(model, inputs).log_prob.double().cpu()
    finally:
        model.train(was_training)
    return found


def _keys(pair: EncodedPair) -> list[int]:
    return [example_key(pair.input_ids, answer) for answer in (*pair.chosen, pair.rejected)]
