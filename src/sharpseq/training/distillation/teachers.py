"""Teachers: a model beside the student, the student without its adapters, or outputs that were stored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LogitsProcessor

from sharpseq.data import examples_of
from sharpseq.decoding.autoregressive_sampling import Helper
from sharpseq.decoding.teacher_forcing import forced_first_id, token_id
from sharpseq.errors import UserError
from sharpseq.objectives.distillation import NO_LABEL
from sharpseq.scoring import IGNORED, ScoreRequest, SequenceScores, aligned_labels, score_model
from sharpseq.training.distillation.targets import HeadTargets, TeacherTargets, TopKTargets
from sharpseq.training.distillation.teacher_store import TeacherStore, example_key
from sharpseq.training.without_adapters import score_without_adapters

_HIDDEN = ScoreRequest(hidden_states=True)


class Teacher(Protocol):
    """What a student learns from."""

    @property
    def vocab_size(self) -> int | None:
        """Number of entries of its vocabulary; None where it is the student's own."""
        ...

    def targets(self, student: nn.Module, batch: Mapping[str, Any]) -> TeacherTargets:
        """Return its distributions at the positions of a batch.

        Args:
            student: The model in training.
            batch: What the student is called with, ``labels`` included.
        """
        ...


@dataclass(frozen=True)
class ModelTeacher:
    """A model beside the student, frozen; it may be larger and of another type of numbers.

    Args:
        model: Any model that predicts one distribution at each position, ours or a Hugging Face one.
    """

    model: Any

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)

    @property
    def vocab_size(self) -> int:
        """Number of entries of its vocabulary."""
        return int(self.model.config.get_text_config().vocab_size)

    def targets(self, student: nn.Module, batch: Mapping[str, Any]) -> TeacherTargets:
        """Run the teacher on a batch."""
        labels: Tensor = batch["labels"]
        if self.model.device != labels.device:
            self.model.to(labels.device)
        return model_targets(self.model, _for_teacher(self.model, batch))


@dataclass(frozen=True)
class AdapterBaseTeacher:
    """The student's own pretrained weights, without its adapters: the teacher of one that must not drift far."""

    @property
    def vocab_size(self) -> None:
        """None: the vocabulary is the student's."""
        return

    def targets(self, student: nn.Module, batch: Mapping[str, Any]) -> TeacherTargets:
        """Run the student without its adapters.

        Raises:
            ValueError: If it has none.
        """
        return _targets_of(score_without_adapters(student, batch, _HIDDEN, role="teacher"), student)


@dataclass(frozen=True)
class StoredTeacher:
    """Outputs that `sharpseq teach` has stored; no teacher is in memory.

    Args:
        store: The store.
    """

    store: TeacherStore

    @property
    def vocab_size(self) -> int:
        """Number of entries of the teacher's vocabulary."""
        return self.store.record.vocab_size

    def targets(self, student: nn.Module, batch: Mapping[str, Any]) -> TeacherTargets:
        """Look up the examples of a batch.

        Raises:
            UserError: If one is missing.
        """
        device = batch["labels"].device
        unwrapped: Any = getattr(student, "module", student)
        examples = examples_of(batch, in_one_row=not unwrapped.config.is_encoder_decoder)
        found = [self.store.rows(example_key(example.input_ids, example.labels)) for example in examples]

        def joined(name: str, dtype: torch.dtype = torch.float32) -> Tensor:
            # Before they are joined: autocast to bfloat16 joins no float16.
            return torch.cat([getattr(rows, name).to(dtype) for rows in found]).to(device)

        known = torch.cat([joined("log_probs"), joined("tail")[:, None]], dim=1)
        return TopKTargets(
            token_ids=joined("token_ids", torch.long),
            # Rounded log-probabilities do not quite sum to 1.
            log_probs=known - known.logsumexp(1, keepdim=True),
            label_log_probs=joined("label_log_probs"),
            counts=torch.tensor([len(rows.tail) for rows in found], device=device),
            temperature=self.store.record.temperature,
        )


def mixed_with(teacher: ModelTeacher, share: float) -> Helper:
    """Return what makes a student write with its teacher's help: a mixture of both distributions at each step.

    Args:
        teacher: The teacher, of the student's kind.
        share: Its share, in (0, 1).
    """

    def helper(inputs: dict[str, Tensor]) -> list[LogitsProcessor]:
        return [_Mixture(teacher.model, inputs, share)]

    return helper


class _Mixture(LogitsProcessor):
    """Reads the whole output so far with the teacher at each step."""

    def __init__(self, model: Any, inputs: dict[str, Tensor], share: float) -> None:
        self.model, self.inputs, self.share = model, inputs, share
        self.encoded: Any = None
        if model.config.is_encoder_decoder:
            self.encoded = model.get_encoder()(**inputs)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the logarithm of the mixture."""
        mask = self.inputs["attention_mask"]
        if self.encoded is not None:
            output = self.model(encoder_outputs=self.encoded, attention_mask=mask, decoder_input_ids=input_ids)
        else:
            written = mask.new_ones(len(mask), input_ids.shape[1] - mask.shape[1])
            mask = torch.cat([mask, written], dim=1)
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            output = self.model(input_ids=input_ids, attention_mask=mask, position_ids=positions)
        target = output.logits[:, -1].to(scores.dtype).log_softmax(-1)
        own = scores.log_softmax(-1)
        mixed: Tensor = torch.logaddexp(target + math.log(self.share), own + math.log1p(-self.share))
        return mixed


def labels_of(model: nn.Module, batch: Mapping[str, Any], num_positions: int) -> Tensor:
    """Return the target token of each of the N positions, or `NO_LABEL` for all where they are frames.

    Args:
        model: The model that predicts at these positions.
        batch: What it is called with.
        num_positions: N.
    """
    labels: Tensor = batch["labels"]
    unwrapped: Any = getattr(model, "module", model)
    if getattr(unwrapped, "predicts_frames", False):
        return labels.new_full((num_positions,), NO_LABEL)
    aligned = aligned_labels(labels, shifted=not unwrapped.config.is_encoder_decoder)
    return aligned[aligned != IGNORED]


def model_targets(model: nn.Module, batch: Mapping[str, Any]) -> HeadTargets:
    """Return a model's distributions at the positions of a batch, without gradient.

    Args:
        model: The model.
        batch: What it is called with, ``labels`` included.
    """
    with torch.no_grad():
        scores = score_model(model, batch, request=_HIDDEN)
    return _targets_of(scores, model)


def _targets_of(scores: SequenceScores, model: nn.Module) -> HeadTargets:
    positions = scores.positions
    if positions is None or positions.hidden_states is None or positions.head is None:
        raise ValueError(f"`teacher` {type(model).__name__} does not say where it predicts")
    mask = positions.mask
    return HeadTargets(positions.hidden_states[mask].detach(), positions.head, mask.sum(1))


def _for_teacher(model: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a student's batch with the decoder inputs that the teacher has, and no others."""
    own = dict(batch)
    is_one_pass = hasattr(model, "scores_labels")
    if is_one_pass or not model.config.is_encoder_decoder:
        own.pop("decoder_input_ids", None)
    elif "decoder_input_ids" not in own:
        # A one-pass student has none. Its positions are the target tokens; the teacher's EOS is not compared.
        labels, first = own["labels"], forced_first_id(model)
        if first is not None:
            # Nor is the token that every output of the teacher begins with, such as a language code.
            own["labels"] = labels = F.pad(labels, (1, 0), value=IGNORED)
        previous = torch.roll(labels, 1, dims=1)
        previous[:, 0] = token_id(model, "decoder_start")
        if first is not None:
            previous[:, 1] = first
        own["decoder_input_ids"] = previous.masked_fill(previous == IGNORED, model.config.pad_token_id)
    return own


def check_vocabularies(teacher: Teacher, student: Any) -> None:
    """Check that teacher and student write the same tokens, as far as their number says.

    Raises:
        UserError: If the sizes of the vocabularies differ.
    """
    own = int(student.config.get_text_config().vocab_size)
    if teacher.vocab_size is not None and teacher.vocab_size != own:
        raise UserError(
            f"the teacher's vocabulary has {teacher.vocab_size:,} entries and the student's {own:,}; they must be the "
            "same: train the student with the teacher's tokenizer (`tokenizer: {kind: pretrained, name: …}`)"
        )
