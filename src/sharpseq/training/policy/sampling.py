"""Drawing samples from any model that can be sampled with exact log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from sharpseq.data import EncodedExample, source_batch
from sharpseq.decoding import CtcModel, longest_training_target, with_margin
from sharpseq.decoding.autoregressive_sampling import sample_autoregressive
from sharpseq.decoding.one_pass_sampling import SampledOutputs, sample_ctc, sample_parallel, token_lists
from sharpseq.decoding.random_choice import uniform_numbers
from sharpseq.models import VanillaNat
from sharpseq.training.policy.groups import SampledGroup


def check_samples(model: Any) -> None:
    """Check that a model can be sampled, and that the probability of a sample can be computed.

    Raises:
        ValueError: If not.
    """
    inner = getattr(model, "module", model)
    if hasattr(inner, "scores_labels") and not isinstance(inner, CtcModel | VanillaNat):
        raise ValueError(
            f"a policy needs the probability of what it writes, and {type(inner).__name__} has only that of a random "
            "part of it, or a bound; take a CTC, vanilla_nat or autoregressive model"
        )


def sample_groups(
    model: Any,
    examples: Sequence[EncodedExample],
    *,
    num_samples: int,
    temperature: float,
    seed: str,
    lengths: Literal["predicted", "reference"] = "predicted",
    max_new_tokens: int | None = None,
) -> list[SampledGroup]:
    """Draw samples of each input; they depend on the seed and the example's index, not on the others.

    Args:
        model: A CTC or Vanilla NAT model, or an autoregressive one of Hugging Face; not wrapped.
        examples: The inputs with their targets.
        num_samples: Of each input, at least 1.
        temperature: Divides the logits; greater than 0.
        seed: Decides everything that is random.
        lengths: For a model that predicts lengths: its most probable one, or that of the target.
        max_new_tokens: For a model that writes token by token: most tokens of a sample, EOS included; by default a
            little more than the longest training target.

    Raises:
        ValueError: If the model cannot be sampled.
    """
    check_samples(model)
    pad = model.config.pad_token_id
    device = next(model.parameters()).device
    batch = source_batch([example.input_ids for example in examples], pad_token_id=0 if pad is None else pad)
    batch = {name: values.to(device) for name, values in batch.items()}
    numbers = [example.index for example in examples]

    def uniforms(width: int) -> torch.Tensor:
        return uniform_numbers(numbers, num_samples=num_samples, width=width, seed=seed)

    if isinstance(model, CtcModel) and hasattr(model, "scores_labels"):
        samples = sample_ctc(model, batch, uniforms, temperature=temperature)
    elif hasattr(model, "scores_labels"):
        given = None
        if lengths == "reference":
            given = torch.tensor([max(1, len(example.labels)) for example in examples], device=device)
        samples = sample_parallel(model, batch, uniforms, temperature=temperature, lengths=given)
    else:
        width = max_new_tokens or longest_output(model, examples)
        samples = sample_autoregressive(model, batch, uniforms(width), temperature=temperature)
    return _groups(examples, samples, num_samples=num_samples)


def longest_output(model: Any, examples: Sequence[EncodedExample]) -> int:
    """Return how many tokens a sample may have, EOS included: as many as the longest training target with a margin."""
    known = longest_training_target(model)
    return 1 + with_margin(known) if known is not None else max(1, *(len(example.labels) for example in examples))


def _groups(examples: Sequence[EncodedExample], samples: SampledOutputs, *, num_samples: int) -> list[SampledGroup]:
    outputs, behavior = token_lists(samples), samples.log_prob.tolist()
    tokens = None
    if samples.token_log_probs is not None:
        rows = zip(samples.token_log_probs.tolist(), samples.num_tokens.tolist(), strict=True)
        tokens = [row[:length] for row, length in rows]
    found = []
    for position, example in enumerate(examples):
        part = slice(position * num_samples, (position + 1) * num_samples)
        found.append(SampledGroup(example, outputs[part], behavior[part], None if tokens is None else tokens[part]))
    return found
