"""Histograms of how sure every system is of its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sharpseq.evaluation.report.figures import histogram_figure

_NUM_BINS = 48
# A few hopeless outputs would squeeze everybody else into the first bins.
_SHOWN_QUANTILE = 0.995


@dataclass(frozen=True)
class Histogram:
    """The confidence of one system.

    Args:
        system: Its name.
        mean: Mean of its finite values, in nats per token.
        figure: The histogram as SVG.
    """

    system: str
    mean: float
    figure: str


@dataclass(frozen=True)
class ConfidenceSection:
    """Histograms of all systems below each other, on one scale.

    Args:
        histograms: One for each system.
        note: How to read them, and what they leave out.
    """

    histograms: Sequence[Histogram]
    note: str


def confidence_section(output_nll: Mapping[str, ArrayLike]) -> ConfidenceSection | None:
    """Return the histograms; None if there is nothing to draw.

    Args:
        output_nll: -log p(output) / T in nats per token of every output, by name of the system.

    Raises:
        ValueError: If a value is NaN.
    """
    values = {system: np.asarray(nll, dtype=np.float64) for system, nll in output_nll.items()}
    for system, nll in values.items():
        if np.isnan(nll).any():
            raise ValueError(f"`output_nll[{system!r}]` must not hold NaN; got {int(np.isnan(nll).sum())}")
    finite = {system: nll[np.isfinite(nll)] for system, nll in values.items()}
    finite = {system: nll for system, nll in finite.items() if nll.size}
    if not finite:
        return None
    pooled = np.concatenate(list(finite.values()))
    upper = max(float(np.quantile(pooled, _SHOWN_QUANTILE)), 1e-3)
    edges = np.linspace(0, upper, _NUM_BINS + 1)
    highest = max(float(np.histogram(nll, edges)[0].max() / nll.size) for nll in finite.values())
    # The colour belongs to the place in the caller's order, whether or not a system before it has values.
    order = {system: place for place, system in enumerate(output_nll)}
    histograms = [
        Histogram(
            system=system,
            mean=float(nll.mean()),
            figure=histogram_figure(
                nll, series=order[system], edges=edges, highest_share=highest, prefix=f"nll{order[system]}"
            ),
        )
        for system, nll in finite.items()
    ]
    note = "−log p(output) per output token, in nats; the dashed line is the mean over outputs."
    outside = {system: int((nll > upper).sum()) for system, nll in values.items()}
    left_out = ", ".join(f"{count:,} of {system}" for system, count in outside.items() if count)
    return ConfidenceSection(histograms, f"{note} Above the shown range: {left_out}." if left_out else note)
