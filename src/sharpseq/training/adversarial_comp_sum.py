"""Smooth adversarial comp-sum losses: a comp-sum loss plus how much a small change of the source can move it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpseq.declarations import Declaration, Method, Number, Setting, constant
from sharpseq.objectives import CompSum
from sharpseq.scoring import (
    IGNORED,
    PositionScores,
    RowStatistic,
    ScoreRequest,
    SequenceScores,
    aligned_labels,
    logits_at,
    score_model,
)
from sharpseq.training.embedding_adversary import moved_embeddings, worst_moves
from sharpseq.training.gradient_matching import latent_noise
from sharpseq.training.loss import LossOutput, Statistic, Step
from sharpseq.training.score_loss import ScoreLoss

_CHANGE = "margin_change"


@dataclass(frozen=True)
class AdversarialCompSum(Method):
    r"""A comp-sum loss, and a penalty for margins that a small change of the source's embeddings can move.

    The loss of a sequence is :math:`\frac1T \sum_t \Phi_\tau(1/p_t - 1) + \nu \sup_{x'} \frac1T \sum_t
    \|\Delta_t(x') - \Delta_t(x)\|_2`, in which :math:`\Delta_t` has the V − 1 margins :math:`z_y - z_k` of the target
    token over all others. The supremum is sought by projected gradient ascent; it is over one change x' for all tokens
    of a sequence.

    The paper's x is a point in space. A text is not, so here x' moves the embedding of each source token (of the
    prompt, for causal language models) by at most ``radius`` times its own length; special tokens, padding and the
    target's own prefix stay. That makes a model insensitive to small differences between tokens of nearby meaning. It
    says nothing about exchanged, missing or misspelt words, and the paper's guarantee, that the loss bounds the worst
    margin loss within the radius, needs :math:`\nu \ge \sqrt{V - 1}`: for phonemes or characters that is a number to
    train with, for a vocabulary of subwords it is not, and the penalty is a regulariser. It needs a model that predicts
    one token at each position, so it does not go with CTC, and one that has a source. An update costs 2 + ``steps``
    forward passes and 2 + ``steps`` backward passes at most.

    Args:
        tau: τ of the comp-sum loss, at least 0.
        nu: ν, the weight of the penalty, at least 0.
        radius: How far a source token may move, in lengths of its embedding.
        steps: Steps of gradient ascent; 0 for a random direction.
        step_size: Length of a step, in radii.

    Raises:
        ValueError: If a parameter is out of range.

    References:
        Mao, Mohri and Zhong 2023, "Cross-entropy loss functions", section 5 (#112); the search as in Madry et al. 2018.
    """

    tau: Annotated[Number, Setting("0 sum-exponential, 1 cross-entropy, 2 mean absolute error.", ge=0)] = 1.0
    nu: Annotated[Number, Setting("Weight of the change of margins.", ge=0)] = 1.0
    radius: Annotated[Number, Setting("How far a source token moves, in lengths of its embedding.", ge=0)] = 0.05
    steps: Annotated[int, Setting("Steps of gradient ascent towards the worst change.", ge=0)] = 2
    step_size: Annotated[float, Setting("Length of such a step, in radii.", gt=0)] = 1.0

    declaration = Declaration(
        "adversarial_comp_sum",
        "comp-sum loss plus the change of margins under the worst small change of the source's embeddings (#112)",
        "Mao et al. 2023",
        maturity="experimental",
    )

    def loss(self, scoring: ScoreLoss | None = None) -> AdversarialCompSumLoss:
        """Return the loss that trains a model.

        Args:
            scoring: How the model is scored, such as the weight of its length prediction; its objective is replaced.
        """
        objective = CompSum(self.tau)
        made = ScoreLoss(objective) if scoring is None else replace(scoring, objective=objective)
        return AdversarialCompSumLoss(self, made)


@dataclass(frozen=True, eq=False)
class AdversarialCompSumLoss:
    """The loss of `AdversarialCompSum`.

    The direction in which the search starts depends only on an example's index, the seed and the number of the update.
    All passes of a batch share their dropout. Batches must have ``example_ids``. Logged, also as ``eval_…``:
    ``margin_change``, the penalty per token without its weight.

    Args:
        settings: Its parameters.
        scoring: The comp-sum loss.
    """

    settings: AdversarialCompSum
    scoring: ScoreLoss

    has_weights: ClassVar[bool] = True

    def count_tokens(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return the number of scored tokens of each sequence, shape (B,)."""
        return self.scoring.count_tokens(model, batch)

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], step: Step) -> LossOutput:
        """Score a batch as it is and with the worst moves, and add up."""
        settings = self.settings.at(step.progress)
        core: Any = getattr(model, "module", model)
        with torch.random.fork_rng(enabled=True):
            scores, output = self.scoring.scored(model, batch, step, ScoreRequest(hidden_states=True))
        clean = _positions(scores)
        labels = aligned_labels(batch["labels"], shifted=not core.config.is_encoder_decoder)
        fixed = replace(clean, hidden_states=None if clean.hidden_states is None else clean.hidden_states.detach())

        def change(network: nn.Module, moves: Tensor, compared: PositionScores) -> Tensor:
            request = ScoreRequest(statistics={_CHANGE: margin_change(compared, labels)})
            with moved_embeddings(core, batch["input_ids"], moves):
                moved = score_model(network, self.scoring.rows.forward_arguments(batch), request=request)
            statistics = _positions(moved).statistics or {}
            return statistics[_CHANGE]

        def damage(moves: Tensor) -> Tensor:
            with torch.random.fork_rng(enabled=True):
                return change(core, moves, fixed).sum()

        moves = worst_moves(
            damage,
            self._start(core, batch, step),
            radius=constant(settings.radius),
            steps=settings.steps,
            step_size=settings.step_size,
        )
        sums = change(model, moves, clean).sum(1)
        num_tokens = scores.num_tokens.clamp(min=1)
        return replace(
            output,
            losses=output.losses + constant(settings.nu) * sums / num_tokens,
            statistics={**output.statistics, _CHANGE: Statistic(sums.detach(), scores.num_tokens)},
        )

    def figures(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return what is logged."""
        return self.scoring.figures(means)

    def _start(self, core: Any, batch: Mapping[str, Any], step: Step) -> Tensor:
        """Return random directions for the tokens that may move, 0 for the others, shape (B, S, D)."""
        embeddings: Tensor = core.get_input_embeddings().weight
        noise = latent_noise(
            batch["example_ids"].tolist(),
            batch["attention_mask"].sum(1).tolist(),
            latent_size=embeddings.shape[1],
            seed=f"{step.seed} update {step.update}" if step.is_training else f"{step.seed} validation",
        )
        movable = _may_move(core, batch)
        directions = F.pad(noise.normal, (0, 0, 0, movable.shape[1] - noise.normal.shape[1]))
        return directions.to(embeddings).masked_fill(~movable[:, :, None], 0.0)


def margin_change(clean: PositionScores, labels: Tensor) -> RowStatistic:
    r"""Return the statistic :math:`\|\Delta(x') - \Delta(x)\|_2` of each position, given the logits of x'.

    Args:
        clean: Scores of x, with hidden states and head.
        labels: Target ids aligned with the positions, shape (B, P).
    """

    def change(logits: Tensor, rows: Tensor) -> Tensor:
        moved = logits - logits_at(clean, rows).to(logits)
        targets = labels[:, : clean.mask.shape[1]][clean.mask][rows]
        norms: Tensor = torch.linalg.vector_norm(moved.gather(1, targets[:, None]) - moved, dim=1)
        return norms

    return change


def _positions(scores: SequenceScores) -> PositionScores:
    if scores.positions is None:
        raise ValueError("`scores` must have the positions that were asked for")
    return scores.positions


def _may_move(core: Any, batch: Mapping[str, Any]) -> Tensor:
    """Return True for the real tokens of a source, special ones left out, shape (B, S)."""
    ids, config = batch["input_ids"], core.config
    movable: Tensor = batch["attention_mask"].bool()
    if not config.is_encoder_decoder:
        movable = movable & (batch["labels"] == IGNORED)
    special = [getattr(config, name, None) for name in ("pad_token_id", "eos_token_id", "bos_token_id")]
    flat = [one for each in special for one in (each if isinstance(each, list) else [each]) if one is not None]
    is_special: Tensor = torch.isin(ids, torch.tensor(flat, dtype=ids.dtype, device=ids.device))
    return movable.logical_and(~is_special)
