"""A study as files: numbers as JSON, pictures as PNG, and a page with both."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.analyses import AnalysisFiles, NumberTable, Picture, Section, analysis_page, png, record_json
from sharpseq.analyses.theory.optimum_pictures import length_figure, optimum_figure
from sharpseq.analyses.theory.optimum_study import LengthBias, OptimumStudy
from sharpseq.analyses.theory.product_pictures import comparison_figure, product_figure
from sharpseq.analyses.theory.product_study import ProductStudy
from sharpseq.analyses.theory.study import ModeMixing, TheoryStudy
from sharpseq.analyses.theory.theory_tables import optimum_rows, product_rows, switch_sentence, training_rows
from sharpseq.analyses.theory.training_pictures import gradient_figure, training_figure
from sharpseq.analyses.theory.training_study import GradientStudy, TrainingStudy


def theory_files(study: TheoryStudy) -> AnalysisFiles:
    """Return a study as files; pictures and sections about what the data do not have are left out."""
    sections = {"-optimum": _optimum_section(study.optima)}
    if study.optima.length_bias is not None:
        sections["-lengths"] = _length_section(study.optima.length_bias)
    if study.factorised is not None:
        sections["-factorised"] = _factorised_section(study.factorised)
    if study.mixing:
        sections["-ctc"] = _ctc_section(study.mixing)
    sections["-gradients"] = _gradient_section(study.gradients)
    if study.training:
        sections["-training"] = _training_section(study.training)
    pictures = {
        ending: part.image
        for ending, section in sections.items()
        for part in section.parts
        if isinstance(part, Picture)
    }
    page = analysis_page("What each objective wants", study.optima.name, list(sections.values()))
    return AnalysisFiles("theory", record_json(study, data=study.optima.name), page, pictures)


def _optimum_section(study: OptimumStudy) -> Section:
    note = (
        "The distribution over outcomes that minimises the loss, were the model able to represent it. Curves: the "
        "exponential objective, (exp(k·log p/T) − 1)/k. Each optimum is exact; the JSON has its certificate."
    )
    picture = Picture(png(optimum_figure(study)), "Optimal probabilities of the outcomes against k")
    table = NumberTable(optimum_rows(study.optima, num_outcomes=study.num_outcomes))
    return Section("Optimal distributions", [picture, table], note)


def _length_section(bias: LengthBias) -> Section:
    note = (
        f"Left: the short outcome occurs in {bias.share:.0%} of the data, the dashed line; more than that is a bias "
        "towards it, and a fair sharpening gives it less. Right: what share of the data the short one needs to get "
        "half of the mass; a half is fair."
    )
    picture = Picture(png(length_figure(bias)), "What a short outcome gets beside a long one, against k")
    return Section("Short against long", [picture], note)


def _factorised_section(study: ProductStudy) -> Section:
    note = (
        f"{switch_sentence(study)} “Proved within” bounds how much better any such model could be, in units of the "
        "loss; where it is not exact, the optimum is the best of all starts."
    )
    picture = Picture(png(product_figure(study)), "Outputs of the best product distribution, against k")
    heading = f"A model that chooses its words independently: {study.name}"
    return Section(heading, [picture, NumberTable(product_rows(study))], note)


def _ctc_section(mixing: Sequence[ModeMixing]) -> Section:
    figure = comparison_figure([(mixed.ctc, mixed.factorised) for mixed in mixing])
    picture = Picture(png(figure), "What CTC mixes up, against k")
    studies = [mixed.ctc for mixed in mixing]
    tables = [NumberTable(product_rows(study), f"{study.name}, {study.model}") for study in studies]
    note = " ".join(f"{study.name}: {switch_sentence(study)}" for study in studies if switch_sentence(study))
    return Section("CTC, with all its alignments", [picture, *tables], note)


def _gradient_section(study: GradientStudy) -> Section:
    note = (
        "The gradient is that of maximum likelihood times f'(g). The dashed line is a plain convex function, the "
        "probability of the whole sequence. Every token of the sequence is equally probable."
    )
    picture = Picture(png(gradient_figure(study)), "Weight and gradient norm against sequence probability")
    return Section("Gradients", [picture], note)


def _training_section(studies: Sequence[TrainingStudy]) -> Section:
    first = studies[0]
    note = (
        f"A softmax over {first.num_choices} outcomes, {first.num_outcomes} of which occur, and gradient descent on "
        f"the exact expectation with a learning rate of {first.learning_rate:g}. Arrived: within {first.tolerance:g} "
        "of the exact optimum in total variation. Starved: more than half of the mass is still on outcomes that never "
        "occur. Maximum likelihood goes to its own optimum."
    )
    picture = Picture(png(training_figure(studies)), "Distance to the optimum over updates, fate of the starts")
    tables = [NumberTable(training_rows(study), f"k = {study.k:g}") for study in studies]
    return Section("Training from random starts", [picture, *tables], note)
