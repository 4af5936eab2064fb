"""The numbers of an analysis as rows of text, for terminals and pages alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sharpseq.analyses import Row
from sharpseq.analyses.latent.corpus_marginals import MarginalReport
from sharpseq.analyses.latent.diversity import DiversityReport, Spread
from sharpseq.analyses.latent.gradient_field import GradientField
from sharpseq.analyses.latent.refinement_styles import REFINEMENT_STYLES
from sharpseq.analyses.latent.step_statistics import Mean, RefinementReport
from sharpseq.evaluation.tables import format_number


def marginal_rows(report: MarginalReport) -> list[Row]:
    """Return one row a quantity."""
    quantities = [
        ("log p(y|x, T), nats a sentence", with_error(report.log_prob, 3)),
        ("log p(y|x, T), nats a token", with_error(report.log_prob_per_token, 4)),
        ("evidence lower bound, nats a sentence", format_number(report.lower_bound, decimals=3)),
        ("log p(T|x), nats a sentence", format_number(report.length_log_prob, decimals=3)),
        ("effective samples, mean", f"{report.effective_samples:.1f} of {report.num_samples}"),
        ("effective samples, least", f"{report.least_effective_samples:.1f} of {report.num_samples}"),
        ("sentences", str(report.num_sentences)),
    ]
    return [{"quantity": name, "value": value} for name, value in quantities]


def step_rows(reports: Sequence[RefinementReport]) -> list[Row]:
    """Return one row a refinement and number of steps."""
    rows = []
    for report in reports:
        for line in report.statistics:
            row = {
                "refinement": REFINEMENT_STYLES[report.refinement][2],
                "L": str(line.steps),
                "edits": with_error(line.edit_distance, 2),
                "changed %": f"{line.changed:.1f}",
                "repetitions": with_error(line.repetitions, 2),
                "since L = 0": with_error(line.repetitions_since_start, 2, signed=True),
            }
            if line.marginal is not None:
                row["log p(ŷ|x, T)"] = with_error(line.marginal.log_prob, 2)
                row["gain"] = with_error(line.marginal.gain, 2, signed=True)
                row["effective samples (least)"] = (
                    f"{line.marginal.effective_samples:.0f} ({line.marginal.least_effective_samples:.1f}) "
                    f"of {line.marginal.num_samples}"
                )
            if line.bleu is not None:
                row["BLEU"] = f"{line.bleu:.2f}"
            rows.append(row)
    return rows


def text_rows(field: GradientField) -> list[Row]:
    """Return the source and the translations of a gradient field."""
    return [{"": "source", "text": field.source}, *({"": name, "text": text} for name, text in field.texts.items())]


def diversity_rows(report: DiversityReport) -> list[Row]:
    """Return one row a quantity."""
    quantities = [
        ("BLEU against the references", _with_deviation(report.reference_bleu)),
        ("BLEU against each other", _with_deviation(report.pairwise_bleu)),
        ("sources with one translation only, %", f"{report.all_equal:.1f}"),
        ("samples", str(report.num_samples)),
        ("sentences", str(report.num_sentences)),
    ]
    return [{"quantity": name, "value": value} for name, value in quantities]


def with_error(mean: Mean, decimals: int, *, signed: bool = False) -> str:
    """Return a mean with its standard error, which is left out where there is none.

    Example:
        >>> with_error(Mean(1.234, 0.05), 2), with_error(Mean(0.5, math.nan), 1, signed=True)
        ('1.23 ± 0.05', '+0.5')
    """
    value = format_number(mean.value, decimals=decimals, signed=signed)
    return value if math.isnan(mean.standard_error) else f"{value} ± {mean.standard_error:.{decimals}f}"


def _with_deviation(spread: Spread) -> str:
    return with_error(Mean(spread.mean, spread.deviation), 2)
