"""The analyses of a latent as files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sharpseq.analyses import AnalysisFiles, NumberTable, Picture, Section, analysis_page, png, record_json
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
    parts = (
        Picture(image, "Histograms of log-probability and effective sample size"),
        NumberTable(marginal_rows(report)),
    )
    return _files("marginal", report, Section("Marginal log-probability", parts, note), image, model=model, data=data)


def steps_files(reports: Sequence[RefinementReport], *, model: str, data: str) -> AnalysisFiles:
    """Return statistics over refinement steps as files."""
    image = png(steps_figure(reports))
    note = (
        _BARS + "Edits, repetitions and log-probabilities are those of the outputs before repetitions are removed; "
        "BLEU is of the outputs after it."
    )
    parts = (Picture(image, "Statistics of the outputs over refinement steps"), NumberTable(step_rows(reports)))
    return _files("steps", list(reports), Section("Step by step", parts, note), image, model=model, data=data)


def field_files(
    fields: GradientField, *, model: str, data: str, positions: Sequence[int] | None = None
) -> AnalysisFiles:
    """Return the planes of a two-dimensional latent as files."""
    image = png(field_figure(fields, positions=positions))
    heading = f"Latent and gradient ({fields.parameterization} network)"
    note = (
        "Each plane is the latent of one target position, all others at their prior mean. Colours are the tokens that "
        "a point is read as. Arrows point along −∇E; their lengths compare within a plane. Markers get smaller step by "
        "step; all positions move at once, so a path need not follow the arrows."
    )
    parts = (
        NumberTable(text_rows(fields)),
        Picture(image, "Gradient field and refinement paths of each position"),
    )
    return _files("field", fields, Section(heading, parts, note), image, model=model, data=data)


def revisions_files(report: RevisionReport, *, model: str, data: str, num_shown: int = 20) -> AnalysisFiles:
    """Return revisions as files; the page shows the first ones, the JSON has all."""
    shown = revisions_section(report, report.revisions[:num_shown])
    return _files("revisions", report, shown, None, model=model, data=data)


def diversity_files(report: DiversityReport, *, model: str, data: str) -> AnalysisFiles:
    """Return scores of sampled translations as files."""
    image = png(diversity_figure(report))
    note = f"sacreBLEU {report.signature}. Dots are single scores, bars mean and standard deviation."
    parts = (
        Picture(image, "BLEU of samples against references and against each other"),
        NumberTable(diversity_rows(report)),
    )
    return _files("diversity", report, Section("Sampled translations", parts, note), image, model=model, data=data)


def _files(name: str, result: Any, shown: Section, image: bytes | None, *, model: str, data: str) -> AnalysisFiles:
    page = analysis_page(f"{model} on {data}", "latent-variable model", [shown])
    pictures = {} if image is None else {"": image}
    return AnalysisFiles(name, record_json(result, model=model, data=data), page, pictures)
