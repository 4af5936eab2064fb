"""How far the outputs of a merged model are from those of a task's own model, on sources of the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from sharpseq.data import Example, TokenBudgetBatchSampler, encode, is_blank
from sharpseq.data.token_budget import side_lengths
from sharpseq.divergences import KL, Divergence, JensenShannon, ReverseKL
from sharpseq.errors import UserError
from sharpseq.generation import SequenceGenerator, family_of, sources_of
from sharpseq.merging.task_models import SavedModel
from sharpseq.models import MODELS
from sharpseq.models.pretrained import is_causal
from sharpseq.scoring import ScoreRequest, logits_at, score_model
from sharpseq.training import collator_for

_DIVERGENCE = "divergence"

DIVERGENCES: Mapping[str, Divergence] = MappingProxyType(
    {"jensen_shannon": JensenShannon(), "kl": KL(), "reverse_kl": ReverseKL()}
)
"""Divergences of a task's model, the target, to the merged one, by name."""


@dataclass(frozen=True)
class TaskBatches:
    """What a merged model is compared with a task's model on.

    Args:
        task: The task's model.
        batches: Sources with the outputs that the task's model wrote for them, as its forward takes them.
        num_examples: How many there are.
    """

    task: SavedModel
    batches: Sequence[Mapping[str, Tensor]]
    num_examples: int

    def compare(self, network: nn.Module, number: int, *, divergence: str) -> tuple[Tensor, int]:
        """Return the divergence of a batch, a sum over its positions in nats, and how many these are.

        Args:
            network: The merged model.
            number: Which batch.
            divergence: A name in `DIVERGENCES`.
        """
        batch, measure = self.batches[number], DIVERGENCES[divergence]
        with torch.no_grad():
            own = score_model(self.task.model, batch, request=ScoreRequest(hidden_states=True)).positions
        if own is None:
            raise ValueError(f"{self.task.name} gave no positions to compare")

        def at_rows(logits: Tensor, rows: Tensor) -> Tensor:
            with torch.no_grad():
                target = logits_at(own, rows).to(logits)
            return measure.exact(target_logits=target, model_logits=logits)

        found = score_model(network, batch, request=ScoreRequest(statistics={_DIVERGENCE: at_rows})).positions
        if found is None or found.statistics is None:
            raise ValueError("the merged model gave no positions to compare")
        return found.statistics[_DIVERGENCE].sum(), int(found.mask.sum())

    @torch.no_grad()
    def mean(self, network: nn.Module, *, divergence: str) -> float:
        """Return the divergence in nats per position over all batches."""
        pairs = [self.compare(network, number, divergence=divergence) for number in range(len(self.batches))]
        return float(sum(float(total) for total, _ in pairs) / max(sum(count for _, count in pairs), 1))


def write_batches(
    task: SavedModel, examples: Sequence[Example], *, options: Mapping[str, object], batch_tokens: int, seed: int
) -> TaskBatches:
    """Let a task's model write outputs for unlabelled sources, and make batches of both.

    Args:
        task: The task's model.
        examples: Sources; targets are not read.
        options: Options of its default decoder, which is greedy where there is a choice.
        batch_tokens: Token budget of a batch.
        seed: Seed of the batches.

    Raises:
        UserError: If the model has no prompt where it needs one, an option does not fit, or it writes nothing.
    """
    try:
        generator = SequenceGenerator(task.model, task.tokenizer, options=options, batch_tokens=batch_tokens)
        written = generator.generate_batch(sources_of(examples))
    except ValueError as error:
        raise UserError(f"{task.name}: {error}") from error
    predicts_eos = MODELS[family_of(task.model)].predicts_eos
    # An empty output of a model that writes EOS is one position to compare, of another model none.
    pairs = [
        Example(example.source, output.text, history=example.history)
        for example, output in zip(examples, written, strict=True)
        if output.error is None and not is_blank(example.source) and (predicts_eos or not is_blank(output.text))
    ]
    if not pairs:
        raise UserError(f"{task.name} writes nothing for its data; check the data")
    encoded = encode(pairs, task.tokenizer, append_eos_to_target=predicts_eos)
    sources, targets = side_lengths(encoded, in_one_row=is_causal(task.model.config))
    budget = max(batch_tokens, *sources, *targets)
    sampler = TokenBudgetBatchSampler(sources, targets, batch_tokens=budget, seed=seed)
    collate = collator_for(task.model)
    device = task.model.device
    batches = []
    for rows in sampler:
        batch = collate([encoded[row] for row in rows])
        batches.append({name: values.to(device) for name, values in batch.items() if name != "example_ids"})
    return TaskBatches(task, batches, len(pairs))
