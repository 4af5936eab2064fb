"""Lattice minimum Bayes risk: of the candidates of a beam, the one whose n-grams all outputs share most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.ctc_alignment import blank_of, count_frames, output_log_prob
from sharpseq.decoding.ctc_prefix_beam import ctc_prefix_beam_search_decode
from sharpseq.decoding.dag_beam import dag_beam_search_decode
from sharpseq.decoding.decoder import Decoder, check_arguments
from sharpseq.decoding.inference import inference
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, CtcModel, DagModel
from sharpseq.decoding.remembered_pass import RememberedPass
from sharpseq.decoding.token_choice import log_normalizers
from sharpseq.scoring import (
    IGNORED,
    clipped_matches,
    ctc_target_counts,
    dag_target_counts,
    score_dag,
    token_matches,
)

ORDERS = (1, 2, 3, 4)
"""Those of BLEU."""


def lattice_mbr_decode(
    model: CtcModel | DagModel,
    batch: Batch,
    *,
    beam_size: Annotated[int, Setting("Candidates of each source.", ge=1)] = 10,
    precision: Annotated[
        float,
        Setting("Precision of the words of outputs, between 0 and 1.", gt=0, le=1, trials=(0.4, 0.5, 0.6, 0.7, 0.85)),
    ] = 0.6,
    precision_ratio: Annotated[
        float,
        Setting("Precision of n-grams over that of those one shorter.", gt=0, le=1, trials=(0.5, 0.6, 0.7, 0.8)),
    ] = 0.7,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    r"""Choose the candidate h with the largest expected gain in BLEU, to first order.

    .. math:: G(h) = -|h| + \sum_{n=1}^4 \frac{1}{4 p\, r^{n-1}} \sum_{g \in h} \min(C(g), \#_h g)

    C(g) is the exact expected count of the n-gram g over all outputs of the model, not over the candidates alone, so a
    candidate wins by what most outputs contain. The candidates are those of ``ctc_prefix_beam`` or ``dag_beam``.

    Args:
        model: A CTC model, or one of directed acyclic graphs.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        beam_size: Candidates of each source, at least 1.
        precision: p, the share of words of an output that its reference has, as BLEU counts it on validation data;
            smaller makes outputs longer.
        precision_ratio: r, the ratio of the precisions of successive orders.
        generator: Accepted by every decoder; this one draws no random numbers.

    Returns:
        The outputs, with log p(y|x) in nats. The trace has ``candidates`` (B, K, T) in the order of the beam, and
        ``candidate_scores`` (B, K), their gains; −inf marks an empty place.

    Raises:
        ValueError: If an option is out of range, or as the search for candidates says.

    Note:
        The model runs once; the counts cost O(B·K·T·(F + M²)).

    References:
        Tromble et al. 2008, "Lattice minimum Bayes-risk decoding for statistical machine translation", who sum over a
        lattice of candidates, and count an n-gram as often as it stands in h.
    """
    check_arguments(lattice_mbr_decode, beam_size=beam_size, precision=precision, precision_ratio=precision_ratio)
    pad, once = model.config.pad_token_id, RememberedPass(model)
    with inference(model):
        encoded = once.encode(batch["input_ids"], batch["attention_mask"])
        if isinstance(model, CtcModel):
            (logits, mask), blank = once.decode_frames(encoded), blank_of(model.config)
            trace = ctc_prefix_beam_search_decode(once, batch, beam_size=beam_size).trace
            labels = trace["candidates"].masked_fill(trace["candidates"] == pad, IGNORED)
            counts = ctc_target_counts(logits, mask, labels.flatten(0, 1), blank=blank, orders=ORDERS)
        else:
            graph = once.decode_graph(encoded)
            trace = dag_beam_search_decode(once, batch, beam_size=beam_size).trace
            labels = trace["candidates"].masked_fill(trace["candidates"] == pad, IGNORED)
            match, _ = token_matches(graph, labels.flatten(1))
            probs = match.exp().unflatten(1, labels.shape[1:])
            counts = dag_target_counts(probs, graph.links.to(probs.dtype), graph.writing, orders=ORDERS)
        flat, in_beam = labels.flatten(0, 1), trace["candidate_scores"] > -torch.inf
        matches = [clipped_matches(each, flat, order=order) for order, each in zip(ORDERS, counts, strict=True)]
        gains = linear_bleu_gains(
            matches, (flat != IGNORED).sum(1), precision=precision, precision_ratio=precision_ratio
        )
        gains = gains.view_as(in_beam).masked_fill(~in_beam, -torch.inf)
        chosen = labels[torch.arange(len(labels), device=labels.device), gains.argmax(1)]
        num_tokens = (chosen != IGNORED).sum(1)
        chosen = chosen[:, : int(num_tokens.max())]
        sequences = chosen.masked_fill(chosen == IGNORED, pad)
        if isinstance(model, CtcModel):
            log_prob = output_log_prob(
                logits,
                log_normalizers(logits),
                sequences,
                num_frames=count_frames(mask),
                num_tokens=num_tokens,
                blank=blank,
            )
        else:
            # Rounding can lift the probability of a certain output past 1.
            log_prob = score_dag(graph, chosen).log_prob.clamp(max=0)
    return DecodeOutput(
        sequences=sequences,
        log_prob=log_prob,
        num_tokens=num_tokens,
        num_passes=1,
        trace={"candidates": trace["candidates"], "candidate_scores": gains},
    )


def linear_bleu_gains(
    matches: Sequence[Tensor], num_tokens: Tensor, *, precision: float, precision_ratio: float
) -> Tensor:
    """Return the gain G of candidates, in tokens, shape (N,).

    Args:
        matches: Expected matches of orders 1, 2, …, shape (N,) each.
        num_tokens: Lengths of the candidates, shape (N,).
        precision: p, in (0, 1].
        precision_ratio: r, in (0, 1].

    Example:
        >>> linear_bleu_gains([torch.tensor([2.0]), torch.tensor([1.0])], torch.tensor([2]), precision=1.0,
        ...     precision_ratio=0.5)
        tensor([0.])
    """
    weights = [1 / (len(matches) * precision * precision_ratio**shorter) for shorter in range(len(matches))]
    gains: Tensor = sum(weight * each for weight, each in zip(weights, matches, strict=True)) - num_tokens
    return gains


LATTICE_MBR = Decoder(
    lattice_mbr_decode,
    (CtcModel, DagModel),
    Declaration(
        "lattice_mbr",
        "of the candidates of a beam, the one with the largest expected BLEU gain over all outputs, to first order",
        "Tromble et al. 2008",
        maturity="experimental",
    ),
)
