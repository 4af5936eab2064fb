"""From token ids of samples to texts and their rewards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sharpseq.data import EncodedExample, normalize_text, unicode_normalization_of
from sharpseq.errors import UserError
from sharpseq.evaluation.rewards import Reward
from sharpseq.training.policy.groups import SampledGroup

_SHOWN_CHARACTERS = 80


def rewards_of(reward: Reward, groups: Sequence[SampledGroup], *, tokenizer: Any) -> list[list[float]]:
    """Return the reward of each sample of each group.

    Args:
        reward: The function.
        groups: Samples.
        tokenizer: Makes texts of their tokens; special tokens are left out.

    Raises:
        UserError: If the function raises, or returns something else than one finite number for each sample; the message
            has the sample.
    """
    sizes = [len(group.outputs) for group in groups]
    prompts, references = texts_of_examples([group.example for group in groups], tokenizer)
    texts: dict[str, Any] = {
        "prompts": [prompt for prompt, size in zip(prompts, sizes, strict=True) for _ in range(size)],
        "completions": decoded([output for group in groups for output in group.outputs], tokenizer),
        "references": [[reference] for reference, size in zip(references, sizes, strict=True) for _ in range(size)],
    }
    numbers = iter(checked_rewards(reward, **texts))
    return [[next(numbers) for _ in range(size)] for size in sizes]


def texts_of_examples(examples: Sequence[EncodedExample], tokenizer: Any) -> tuple[list[str], list[str]]:
    """Return the sources and the targets of examples as texts."""
    return (
        decoded([example.input_ids for example in examples], tokenizer),
        decoded([example.labels for example in examples], tokenizer),
    )


def decoded(rows: Sequence[Sequence[int]], tokenizer: Any) -> list[str]:
    """Return token ids as texts without special tokens, as the models' outputs are shown."""
    form = unicode_normalization_of(tokenizer)
    texts = tokenizer.batch_decode([list(row) for row in rows], skip_special_tokens=True)
    return [normalize_text(text, form).strip() for text in texts]


def checked_rewards(
    reward: Reward, *, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Sequence[str]]
) -> list[float]:
    """Call a reward function and check what it returns.

    Raises:
        UserError: If it raises, or returns something else than one finite number for each completion.
    """
    name = getattr(reward, "__name__", type(reward).__name__)
    try:
        returned = list(reward(prompts=prompts, completions=completions, references=references))
    except Exception as error:  # whatever a user's function raises
        guilty = _first_to_fail(reward, prompts, completions, references)
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"the reward `{name}` failed on {guilty} ({said}); mend the function") from error
    if len(returned) != len(completions):
        raise UserError(
            f"the reward `{name}` must return one number for each of {len(completions)} completions; got "
            f"{len(returned)}, the first completion is {_shown(completions[0])}"
        )
    numbers: list[float] = []
    for value, prompt, completion in zip(returned, prompts, completions, strict=True):
        number = _number(value)
        if number is None or not math.isfinite(number):
            raise UserError(
                f"the reward `{name}` must be a finite number; got {value!r} for {_shown(completion)} (of the prompt "
                f"{_shown(prompt)})"
            )
        numbers.append(number)
    return numbers


def _first_to_fail(
    reward: Reward, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Sequence[str]]
) -> str:
    for prompt, completion, known in zip(prompts, completions, references, strict=True):
        try:
            list(reward(prompts=[prompt], completions=[completion], references=[known]))
        except Exception:  # this is the one
            return f"the sample {_shown(completion)} of the prompt {_shown(prompt)}"
    return f"a batch of {len(completions)} samples, though on none of them alone"


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")
