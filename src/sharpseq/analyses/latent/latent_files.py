"""The analyses of a latent as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sharpseq.analyses import AnalysisFiles, analysis_page, number_table, picture, png, record_json, section
from sharpseq.analyses.latent.corpus_marginals import MarginalReport
from sharpseq.analyses.latent.diversity import DiversityReport
from sharpseq.analyses.latent.field_pictures import field_figure
from sharpseq.analyses.latent.gradient_field import GradientField
from sharpseq.analyses.latent.latent_tables import diversity_rows, marginal_rows, step_rows, text_rows
from sharpseq.analyses.latent.revision_markup import revisions_section
from sharpseq.analyses.latent.revisions import RevisionReport
from sharpseq.analyses.latent.step_pictures import diversity_figure, marginal_figure, steps_figure
from sharpseq.analyses.latent.step_statistics import RefinementReport

_BARS = "Bars are one standard error: over sentences, and of the sampling where a log-probability itself is shown. "


def marginal_files(report: MarginalReport, *, model: str, data: str) -> AnalysisFiles:
    """Return marginal log-probabilities of a corpus as files."""
    image = png(
        marginal_figure(
            [sentence.log_prob / sentence.num_tokens for sentence in report.sentences],
            [100 * sentence.effective_samples / report.num_samples for sentence in report.sentences],
        )
    )
    note = (
        "Importance sampling from the posterior; log p(y|x, T) is given the length, and log p(T|x) comes on top of it. "
        "Errors are those of the sampling. A small effective sample size means that few samples carry the estimate, "
        "which then lies too low."
    )
    shown = section(
        "Marginal log-probability",
        picture(image, description="Histograms of log-probability and effective sample size"),
        number_table(marginal_rows(report)),
        note=note,
    )
    return _files("marginal", report, [shown], {"": image}, model=model, data=data)


def steps_files(reports: Sequence[RefinementReport], *, model: str, data: str) -> AnalysisFiles:
    """Return statistics over refinement steps as files."""
    image = png(steps_figure(reports))
    note = (
        _BARS + "Edits, repetitions and log-probabilities are those of the outputs before repetitions are removed; "
        "BLEU is of the outputs after it."
    )
    shown = section(
        "Step by step",
        picture(image, description="Statistics of the outputs over refinement steps"),
        number_table(step_rows(reports)),
        note=note,
    )
    return _files("steps", list(reports), [shown], {"": image}, model=model, data=data)


def field_files(
    fields: GradientField, *, model: str, data: str, positions: Sequence[int] | None = None
) -> AnalysisFiles:
    """Return the planes of a two-dimensional latent as files."""
    image = png(field_figure(fields, positions=positions))
    note = (
        "Each plane is the latent of one target position, all others at their prior mean. Colours are the tokens that "
        "a point is read as. Arrows point along −∇E; their lengths compare within a plane. Markers get smaller step by "
        "step; all positions move at once, so a path need not follow the arrows."
    )
    shown = section(
        f"Latent and gradient ({fields.parameterization} network)",
        number_table(text_rows(fields)),
        picture(image, description="Gradient field and refinement paths of each position"),
        note=note,
    )
    return _files("field", fields, [shown], {"": image}, model=model, data=data)


def revisions_files(report: RevisionReport, *, model: str, data: str, num_shown: int = 20) -> AnalysisFiles:
    """Return revisions as files; the page shows the first ones, the JSON has all."""
    return _files(
        "revisions", report, [revisions_section(report, report.revisions[:num_shown])], {}, model=model, data=data
    )


def diversity_files(report: DiversityReport, *, model: str, data: str) -> AnalysisFiles:
    """Return scores of sampled translations as files."""
    image = png(diversity_figure(report))
    note = f"sacreBLEU {report.signature}. Dots are single scores, bars mean and standard deviation."
    shown = section(
        "Sampled translations",
        picture(image, description="BLEU of samples against references and against each other"),
        number_table(diversity_rows(report)),
        note=note,
    )
    return _files("diversity", report, [shown], {"": image}, model=model, data=data)


def _files(
    name: str, result: Any, sections: Sequence[Any], pictures: Mapping[str, bytes], *, model: str, data: str
) -> AnalysisFiles:
    page = analysis_page(f"{model} on {data}", "latent-variable model", sections)
    return AnalysisFiles(name, record_json(result, model=model, data=data), page, pictures)
