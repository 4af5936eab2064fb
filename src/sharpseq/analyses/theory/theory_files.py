"""A study as files: numbers as JSON, pictures as PNG, and a page with both."""

from __future__ import annotations

from sharpseq.analyses import AnalysisFiles, analysis_page, number_table, picture, png, record_json, section
from sharpseq.analyses.theory.optimum_pictures import length_figure, optimum_figure
from sharpseq.analyses.theory.product_pictures import comparison_figure, product_figure
from sharpseq.analyses.theory.study import TheoryStudy
from sharpseq.analyses.theory.theory_tables import optimum_rows, product_rows, switch_sentence, training_rows
from sharpseq.analyses.theory.training_pictures import gradient_figure, training_figure
from sharpseq.evaluation.report.markup import Html, element


def theory_files(study: TheoryStudy) -> AnalysisFiles:
    """Return a study as files; pictures and sections about what the data do not have are left out."""
    pictures: dict[str, bytes] = {}
    sections = [
        *_optimum_sections(study, pictures),
        *_product_sections(study, pictures),
        *_training_sections(study, pictures),
    ]
    page = analysis_page("What each objective wants", study.optima.name, sections)
    return AnalysisFiles("theory", record_json(study, data=study.optima.name), page, pictures)


def _optimum_sections(study: TheoryStudy, pictures: dict[str, bytes]) -> list[Html]:
    pictures["-optimum"] = png(optimum_figure(study.optima))
    sections = [
        section(
            "Optimal distributions",
            picture(pictures["-optimum"], description="Optimal probabilities of the outcomes against k"),
            number_table(optimum_rows(study.optima.optima, num_outcomes=study.optima.num_outcomes)),
            note="The distribution over outcomes that minimises the loss, were the model able to represent it. Curves: "
            "the exponential objective, (exp(k·log p/T) − 1)/k. Each optimum is exact; the JSON has its certificate.",
        )
    ]
    if study.optima.length_bias is not None:
        pictures["-lengths"] = png(length_figure(study.optima.length_bias))
        sections.append(
            section(
                "Short against long",
                picture(pictures["-lengths"], description="What a short outcome gets beside a long one, against k"),
                note=f"Left: the short outcome occurs in {study.optima.length_bias.share:.0%} of the data, the dashed "
                "line; more than that is a bias towards it, and a fair sharpening gives it less. Right: what share of "
                "the data the short one needs to get half of the mass; a half is fair.",
            )
        )
    return sections


def _product_sections(study: TheoryStudy, pictures: dict[str, bytes]) -> list[Html]:
    sections = []
    if study.factorised is not None:
        pictures["-factorised"] = png(product_figure(study.factorised))
        sections.append(
            section(
                f"A model that chooses its words independently: {study.factorised.name}",
                picture(pictures["-factorised"], description="Outputs of the best product distribution, against k"),
                number_table(product_rows(study.factorised)),
                note=f"{switch_sentence(study.factorised)} “Proved within” bounds how much better any such model could "
                "be, in units of the loss; where it is not exact, the optimum is the best of all starts.",
            )
        )
    if study.mixing:
        pairs = [(mixing.ctc, mixing.factorised) for mixing in study.mixing]
        pictures["-ctc"] = png(comparison_figure(pairs))
        contents: list[Html] = [picture(pictures["-ctc"], description="What CTC mixes up, against k")]
        for ctc, _ in pairs:
            contents += [element("h3", f"{ctc.name}, {ctc.model}"), number_table(product_rows(ctc))]
        note = " ".join(f"{ctc.name}: {switch_sentence(ctc)}" for ctc, _ in pairs if switch_sentence(ctc))
        sections.append(section("CTC, with all its alignments", *contents, note=note))
    return sections


def _training_sections(study: TheoryStudy, pictures: dict[str, bytes]) -> list[Html]:
    pictures["-gradients"] = png(gradient_figure(study.gradients))
    sections = [
        section(
            "Gradients",
            picture(pictures["-gradients"], description="Weight and gradient norm against sequence probability"),
            note="The gradient is that of maximum likelihood times f'(g). The dashed line is a plain convex function, "
            "the probability of the whole sequence. Every token of the sequence is equally probable.",
        )
    ]
    if study.training:
        pictures["-training"] = png(training_figure(study.training))
        tables = [
            part
            for training in study.training
            for part in (element("h3", f"k = {training.k:g}"), number_table(training_rows(training)))
        ]
        first = study.training[0]
        sections.append(
            section(
                "Training from random starts",
                picture(pictures["-training"], description="Distance to the optimum over updates, fate of the starts"),
                *tables,
                note=f"A softmax over {first.num_choices} outcomes, {first.num_outcomes} of which occur, and gradient "
                f"descent on the exact expectation with a learning rate of {first.learning_rate:g}. Arrived: within "
                f"{first.tolerance:g} of the exact optimum in total variation. Starved: more than half of the mass is "
                "still on outcomes that never occur. Maximum likelihood goes to its own optimum.",
            )
        )
    return sections
