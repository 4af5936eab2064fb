"""What takes the place of answers to forget, and what is to be retained: the rows put beside a forget batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from sharpseq.data import EncodedExample, examples_of
from sharpseq.data.encoding import encode_targets
from sharpseq.errors import UserError
from sharpseq.training.seeded_draws import seeded_draw
from sharpseq.training.trainer import collator_for

DEFAULT_TEMPLATES = (
    "I don't know.",
    "I have no information about that.",
    "I can't help with this question.",
    "That is something I know nothing about.",
)
"""Template answers where none are given."""


@dataclass(frozen=True, eq=False)
class AnswerPool:
    """Template answers and retained examples, drawn anew for each example to forget in each update.

    Args:
        templates: Token ids of the template answers, encoded as targets are.
        retained: Examples whose answers are to stay.
    """

    templates: Sequence[Sequence[int]] = ()
    retained: Sequence[EncodedExample] = ()

    def check(self, forget: Sequence[EncodedExample], *, reads_template: bool, reads_retained: bool) -> None:
        """Check that the pool fits the examples to forget.

        Raises:
            UserError: If there is nothing to forget, no template or retained example where one is read, a template
                that is the answer to be forgotten, or a retained example with the prompt of one to forget.
        """
        if not forget:
            raise UserError("there are no examples to forget; give at least one")
        if reads_template and not self.templates:
            raise UserError("there are no template answers; give at least one text in `templates`")
        if reads_retained and not self.retained:
            raise UserError("there are no retained examples, which `retained` reads; give some, or set it to `none`")
        known = {tuple(template) for template in self.templates} if reads_template else set()
        prompts = {tuple(example.input_ids): example.index for example in forget}
        for example in forget:
            if tuple(example.labels) in known:
                raise UserError(
                    f"example {example.index} to forget (counted from 0) has a template as its answer: it would be "
                    "lowered and raised at once; take it out, or change `templates`"
                )
        for example in self.retained if reads_retained else ():
            if tuple(example.input_ids) in prompts:
                raise UserError(
                    f"retained example {example.index} has the prompt of example {prompts[tuple(example.input_ids)]} "
                    "to forget (counted from 0); take it out of the retained ones (`retained_examples` does)"
                )

    def beside(
        self, model: Any, batch: dict[str, Any], *, with_template: bool, with_retained: bool, seed: str
    ) -> dict[str, Any]:
        """Return a batch of B prompts with B more rows for the template answers, and B more for retained examples.

        ``example_ids`` stays that of the B prompts, shape (B,).

        Args:
            model: The model in training, not wrapped for data parallelism.
            batch: From the collator, with ``example_ids``, on the model's device.
            with_template: Whether template answers to the same prompts follow.
            with_retained: Whether retained examples follow.
            seed: Decides what is drawn, together with the number of each example.
        """
        if not (with_template or with_retained):
            return batch
        forget = examples_of(batch, in_one_row=not model.config.is_encoder_decoder)
        draws = [seeded_draw(seed, example.index) for example in forget]
        rows = list(forget)
        if with_template:
            chosen = [self.templates[int(draw * len(self.templates))] for draw in draws]
            rows += [replace(each, labels=list(answer)) for each, answer in zip(forget, chosen, strict=True)]
        if with_retained:
            rows += [self.retained[int(draw * len(self.retained))] for draw in draws]
        device = batch["labels"].device
        collated = {name: values.to(device) for name, values in collator_for(model)(rows).items()}
        return {**batch, **collated, "example_ids": batch["example_ids"]}


def encode_templates(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, append_eos_to_target: bool
) -> list[list[int]]:
    """Encode template answers as targets.

    Args:
        texts: The template answers.
        tokenizer: The model's tokenizer.
        append_eos_to_target: As for `sharpseq.data.encode`.

    Raises:
        UserError: If one is empty, or has something that the tokenizer does not know.
    """
    encoded = encode_targets(tokenizer, list(texts), append_eos_to_target=append_eos_to_target)
    unknown, end = tokenizer.unk_token_id, tokenizer.eos_token_id
    for text, ids in zip(texts, encoded, strict=True):
        if not text.strip():
            raise UserError('a template answer is empty; give a text, such as "I don\'t know."')
        if unknown is not None and unknown != end and unknown in ids:
            raise UserError(f"the tokenizer cannot write the template {text!r}; give `templates` that it can write")
    return encoded


def retained_examples(examples: Sequence[EncodedExample], forget: Sequence[EncodedExample]) -> list[EncodedExample]:
    """Return the examples whose prompt is not one of those to forget."""
    prompts = {tuple(example.input_ids) for example in forget}
    return [example for example in examples if tuple(example.input_ids) not in prompts]
