"""Histograms of how sure every system is of its outputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from sharpseq.evaluation.report.figures import histogram_figure
from sharpseq.evaluation.report.markup import Html, element

_NUM_BINS = 48
# A few hopeless outputs would squeeze everybody else into the first bins.
_SHOWN_QUANTILE = 0.995


def confidence_section(output_nll: Mapping[str, ArrayLike]) -> Html:
    """Return the section: one histogram a system, below each other on one scale.

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
        return Html("")
    pooled = np.concatenate(list(finite.values()))
    upper = max(float(np.quantile(pooled, _SHOWN_QUANTILE)), 1e-3)
    edges = np.linspace(0, upper, _NUM_BINS + 1)
    highest = max(float(np.histogram(nll, edges)[0].max() / nll.size) for nll in finite.values())
    # The colour belongs to the place in the caller's order, whether or not a system before it has values.
    order = list(output_nll)
    rows = [
        element(
            "div",
            element("div", element("strong", system), element("span", f"mean {nll.mean():.3f}"), class_="ridge-name"),
            histogram_figure(
                nll, series=order.index(system), edges=edges, highest_share=highest, prefix=f"nll{order.index(system)}"
            ),
            class_="ridge",
        )
        for system, nll in finite.items()
    ]
    note = "−log p(output) per output token, in nats; the dashed line is the mean over outputs. " + _outside(
        values, upper
    )
    return element(
        "section", element("h2", "Confidence"), *rows, element("p", note.strip(), class_="note"), id="confidence"
    )


def _outside(values: Mapping[str, np.ndarray], upper: float) -> str:
    """Return a sentence about what the histograms leave out; empty if they show everything."""
    outside = {system: int((nll > upper).sum()) for system, nll in values.items()}
    parts = [f"{count:,} of {system}" for system, count in outside.items() if count]
    return f"Above the shown range: {', '.join(parts)}." if parts else ""
