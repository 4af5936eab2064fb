"""Masked diffusion: tokens that vanish one by one, a network that fills them in, and a bound on log p(y|x, T)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.random_choice import numbers_of_sequences
from sharpseq.decoding.token_choice import special_token_ids, without_tokens
from sharpseq.models.family import ModelFamily
from sharpseq.models.masked_target import MaskedTargetConfig, MaskedTargetModel
from sharpseq.models.random_masks import WeightedMask, stratified_mask
from sharpseq.scoring import IGNORED, LABELS_ONLY, ScoreRequest, SequenceScores, score_hidden_states
from sharpseq.scoring.token_scores import check_labels


class MaskedDiffusionConfig(MaskedTargetConfig):
    """Configuration of `MaskedDiffusion`; needs a ``mask_token_id``; see `OnePassConfig`.

    Args:
        training_masks: Masks of each target that an update averages over; each costs a pass of the decoder.
        bound_masks: Masks of each target in validation.
    """

    model_type = "sharpseq-masked-diffusion"
    training_masks: Annotated[
        int, Setting("Masks of each target that an update averages over; each costs a decoder pass.", ge=1)
    ] = 1
    bound_masks: Annotated[int, Setting("Masks of each target that the bound of validation averages over.", ge=1)] = 8


class MaskedDiffusion(MaskedTargetModel):
    r"""Encoder, length predictor and a parallel decoder that fills in the masked tokens of a target.

    The forward process masks each token on its own, with probability t at time t in [0, 1] (absorbing state, log-linear
    schedule); the reverse process fills in. By the SUBS parameterisation, an observed token stays what it is, and what
    is never written (the mask, padding, BOS, EOS) has probability 0. The network needs no time as input. Then

    .. math:: \log p(y|x, T) \ge -\int_0^1 \frac1t \mathbb E_{z_t} \sum_{i: z_t^i = m} -\log p(y_i|z_t, x)\, dt
        = \sum_{k=1}^T \frac1k \mathbb E_{|S| = k} \sum_{i \in S} \log p(y_i | y_{\setminus S}, x)

    with subsets S drawn uniformly. **The scores are an estimate of this bound, not log p(y|x, T)**; for a target of one
    token it is tight. The number of masked tokens k is drawn from strata of 1…T: ``training_masks`` of them in
    training, in which with one mask the rows of a batch share the strata; ``bound_masks`` in evaluation, where the
    masks depend on the target alone.

    References:
        Sahoo et al. 2024, "Simple and effective masked diffusion language models", equations 8 to 10; the sum over k
        is the same integral with the time integrated out.
    """

    config_class = MaskedDiffusionConfig
    config: MaskedDiffusionConfig
    default_decoder = "ordered_unmasking"

    def project(self, hidden: Tensor) -> Tensor:
        """Map decoder states (..., D) to logits (..., V); what is never written has −inf."""
        return without_tokens(super().project(hidden), special_token_ids(self.config))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, *, request: ScoreRequest = LABELS_ONLY
    ) -> SequenceScores:
        r"""Estimate the bound on the log-probability of targets.

        Args:
            input_ids: Source ids, shape (B, S).
            attention_mask: 1 for real tokens, shape (B, S).
            labels: Target ids without EOS, shape (B, T), −100 after the end.
            request: What else to compute; the mean over the vocabulary is over what can be written.

        Returns:
            Scores whose ``log_prob`` estimates a lower bound of log p(y|x, T), as ``is_bound`` says, with the
            regularizer ``length``: −log p(T|x) in nats.

        Raises:
            ValueError: If a target has a token that is never written, or a request asks for single positions.
        """
        if request.token_log_probs or request.positions:
            raise ValueError(
                "the loss reads the prediction of each position, and masked diffusion bounds the probability of whole "
                "sequences, from predictions at random positions; choose a loss of sequences"
            )
        scored = check_labels(labels, vocabulary=self.config.vocab_size)
        writable = self._writable(labels.device)
        if not writable[labels[scored]].all():
            raise ValueError("`labels` must have no padding, BOS, EOS or mask token; such a token is never written")
        # The output layer has no entry for what is never written.
        weight = self.embedding.weight[writable]
        targets = (writable.cumsum(0) - 1)[labels.masked_fill(~scored, 0)]
        encoded, lengths = self.encode(input_ids, attention_mask), scored.sum(1)
        parts = []
        for masked, share in self._masks(labels, scored):
            hidden = self.decoder_states(encoded, lengths, self.observed_ids(labels, scored=scored, masked=masked))
            part = score_hidden_states(hidden, weight, targets.masked_fill(~masked, IGNORED), request=request)
            parts.append((part, share.to(part.log_prob)))
        scores = SequenceScores(
            log_prob=torch.stack([part.log_prob * share for part, share in parts]).sum(0),
            num_tokens=lengths,
            vocab_mean_log_prob=_total([(part.vocab_mean_log_prob, share) for part, share in parts]),
            entropy=_total([(part.entropy, share) for part, share in parts]),
            is_bound=True,
        )
        return self.with_length_loss(scores, encoded, lengths)

    def _writable(self, device: torch.device) -> Tensor:
        """Return which entries of the vocabulary an output can have, (V,) bool."""
        writable = torch.ones(self.config.vocab_size, dtype=torch.bool, device=device)
        writable[list(special_token_ids(self.config))] = False
        return writable

    def _masks(self, labels: Tensor, scored: Tensor) -> Iterator[WeightedMask]:
        """Draw a mask from each stratum: in training at random, in evaluation by what the target is."""
        num_strata = self.config.training_masks if self.training else self.config.bound_masks
        num_rows, width = len(labels), 1 + labels.shape[1]
        if self.training:
            draws = torch.rand(num_strata, num_rows, width, dtype=torch.float64)
            # Evenly spread over the batch: the noise of how many tokens are masked is that of one number a batch.
            draws[:, :, 0] = (draws[:, :1, 0] + torch.arange(num_rows) / num_rows) % 1
        else:
            numbers = numbers_of_sequences(labels, scored, num_samples=num_strata, width=width, seed="bound")
            draws = numbers.view(num_rows, num_strata, width).transpose(0, 1)
        for stratum in range(min(num_strata, max(labels.shape[1], 1))):
            yield stratified_mask(scored, draws[stratum], stratum=stratum, num_strata=num_strata)


def _total(parts: Sequence[tuple[Tensor | None, Tensor]]) -> Tensor | None:
    """Return the sum of values times their shares, shape (B,); None where there are no values."""
    known = [values * share for values, share in parts if values is not None]
    return torch.stack(known).sum(0) if known else None


MASKED_DIFFUSION = ModelFamily(
    MaskedDiffusionConfig,
    MaskedDiffusion,
    MaskedDiffusion.default_decoder,
    Declaration(
        "masked_diffusion",
        "any number of passes: fills in masked target tokens, trained on a bound of the likelihood",
        "Sahoo et al. 2024",
        maturity="experimental",
    ),
)
