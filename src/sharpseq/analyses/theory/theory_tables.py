"""The numbers of a study as rows of text, for terminals and pages alike."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.analyses import Row
from sharpseq.analyses.theory.optimum_study import ObjectiveOptimum
from sharpseq.analyses.theory.product_study import ProductStudy
from sharpseq.analyses.theory.training_study import TrainingStudy


def optimum_rows(optima: Sequence[ObjectiveOptimum], *, num_outcomes: int) -> list[Row]:
    """Return one row for each objective and weighting."""
    return [
        {
            "objective": best.objective,
            "weighted": best.weighting.replace("_", " "),
            "most probable": best.top,
            "probability": f"{best.top_prob:.3f}",
            "entropy, nats": f"{abs(best.entropy):.3f}",
            "outcomes with mass": f"{best.support} of {num_outcomes}",
            "found by": best.method,
        }
        for best in optima
    ]


def product_rows(study: ProductStudy) -> list[Row]:
    """Return one row for each objective."""
    return [
        {
            "objective": row.objective,
            "most probable": row.outputs[0].text or "(empty)",
            "probability": f"{row.outputs[0].prob:.3f}",
            "occurs in the data": "yes" if row.outputs[0].seen else "no",
            "outputs that occur nowhere": f"{100 * row.unseen_mass:.1f} %",
            "proved within": "exact" if row.gap < 1e-9 else f"{row.gap:.1e}",
            "starts that found it": f"{100 * row.share_of_starts:.0f} %",
        }
        for row in study.rows
    ]


def switch_sentence(study: ProductStudy) -> str:
    """Return in words where a study's most probable output changes, and from where on nothing is mixed."""
    parts = [
        f"The most probable output turns from “{s.before}” to “{s.after}” at k = {s.k:.3f}." for s in study.switches
    ]
    if study.resolved_at is None:
        parts.append("Outputs that occur nowhere keep more than 1 % at every k shown.")
    elif study.resolved_at > 0:
        parts.append(f"From k = {study.resolved_at:.3f} on, outputs that occur nowhere have less than 1 % together.")
    return " ".join(parts)


def training_rows(study: TrainingStudy) -> list[Row]:
    """Return one row for each schedule."""
    return [
        {
            "training": course.name,
            "arrived": f"{100 * course.share_arrived:.0f} %",
            "elsewhere, or late": f"{100 * course.share_elsewhere:.0f} %",
            "starved": f"{100 * course.share_starved:.0f} %",
            "updates, median": "–" if course.median_updates is None else f"{course.median_updates:.0f}",
        }
        for course in study.courses
    ]
