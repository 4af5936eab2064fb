"""The analyses of latent models count what they say they count, and refuse what they cannot do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import sacrebleu
import torch
from tiny_latent import EXAMPLES, tiny_generator

from sharpseq import SequenceGenerator
from sharpseq.analyses.latent import (
    diversity_of,
    gradient_field,
    marginal_log_prob,
    measure_diversity,
    measure_marginals,
    measure_steps,
    readable_pairs,
    revise,
)
from sharpseq.analyses.latent.revisions import text_of
from sharpseq.data import Example, train_tokenizer
from sharpseq.models import VanillaNat, VanillaNatConfig

TOKENIZER = train_tokenizer(["abcdefgh"], kind="characters")


def ids(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False).input_ids


def written(monkeypatch: pytest.MonkeyPatch, *by_step: Sequence[str]) -> None:
    """Let a refinement write these texts: one sequence a sentence, with the text of every step."""

    def outputs(generator: Any, pairs: Any, *, refinement: str, steps: int, step_size: float = 1.0) -> Any:
        assert len(pairs) == len(by_step)
        return [[ids(text) for text in of_sentence[: steps + 1]] for of_sentence in by_step]

    for module in ("step_statistics", "revisions"):
        monkeypatch.setattr(f"sharpseq.analyses.latent.{module}.step_outputs", outputs)


# Which lines are read


def test_what_cannot_be_read_is_left_out_with_a_reason() -> None:
    generator = tiny_generator()
    examples = [
        Example("abc", "cba"),
        Example(" ", "a"),
        Example("a" * 12, "a"),
        Example("a", ""),
        Example("a", "b" * 13),
    ]
    found = readable_pairs(generator, examples)
    assert [pair.number for pair in found.pairs] == [1]
    assert found.left_out == [
        (2, "empty source"),
        (3, "source of 13 tokens, the model reads 12"),
        (4, "empty target"),
        (5, "target of 13 tokens, the model writes 12"),
    ]
    assert [pair.number for pair in readable_pairs(generator, examples, with_targets=False).pairs] == [1, 4, 5]
    with pytest.raises(ValueError, match="at least one that the model can read; got none: empty source in line 1"):
        readable_pairs(generator, [Example("", "")])


# Step by step


def test_edits_repetitions_changes_and_bleu_are_counted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    written(monkeypatch, ("aab", "abb", "abc"), ("cc", "cc", "cd"), ("efg", "efg", "efg"))
    examples = [Example("abc", "a b c"), Example("cd", "c d"), Example("efg", "")]
    [report] = measure_steps(tiny_generator(), examples, refinements=["delta"], steps=[2, 1], num_samples=0)
    assert [row.steps for row in report.statistics] == [0, 1, 2]
    assert [row.edit_distance.value for row in report.statistics] == pytest.approx([0, 1 / 3, 1])
    # 2, 1 and 0 edits have standard deviation 1.
    assert report.statistics[2].edit_distance.standard_error == pytest.approx(1 / math.sqrt(3))
    assert [row.repetitions.value for row in report.statistics] == pytest.approx([2 / 3, 2 / 3, 0])
    assert [row.repetitions_since_start.value for row in report.statistics] == pytest.approx([0, 0, -2 / 3])
    assert [row.changed for row in report.statistics] == pytest.approx([0, 100 / 3, 200 / 3])
    # Repetitions are removed, and the sentence without a reference does not count.
    texts = [["ab", "c"], ["ab", "c"], ["abc", "cd"]]
    expected = [sacrebleu.corpus_bleu(outputs, [["a b c", "c d"]]).score for outputs in texts]
    assert [row.bleu for row in report.statistics] == pytest.approx(expected)
    assert all(row.marginal is None for row in report.statistics)


def test_probabilities_are_those_of_the_marginal_and_gains_are_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = (("aab", "abc"), ("cc", "cc"))
    written(monkeypatch, *texts)
    generator, done = tiny_generator(), []
    examples = [Example("abc", ""), Example("cd", "")]
    reports = measure_steps(generator, examples, steps=[1], num_samples=20, seed=3, on_progress=done.append)
    assert (done, [report.refinement for report in reports]) == ([1, 2], ["delta", "learned"])
    found: dict[tuple[int, int], tuple[float, float]] = {}
    for row, (example, of_sentence) in enumerate(zip(examples, texts, strict=True)):
        source = torch.tensor([[*ids(example.source), generator.tokenizer.eos_token_id]])
        for step, text in enumerate(of_sentence):
            estimate = marginal_log_prob(
                generator.model,
                {"input_ids": source, "attention_mask": torch.ones_like(source)},
                torch.tensor([ids(text)]),
                torch.tensor([len(text)]),
                num_samples=20,
                seed=3,
            )
            found[row, step] = (estimate.log_prob.item(), estimate.standard_error.item())
    for report in reports:
        for step, statistics in enumerate(report.statistics):
            assert statistics.bleu is None
            assert statistics.marginal is not None
            values = [found[row, step] for row in (0, 1)]
            assert statistics.marginal.log_prob.value == pytest.approx(sum(value for value, _ in values) / 2)
            assert statistics.marginal.log_prob.standard_error == pytest.approx(
                math.sqrt(sum(error**2 for _, error in values)) / 2
            )
            gains = [found[row, step][0] - found[row, 0][0] for row in (0, 1)]
            assert statistics.marginal.gain.value == pytest.approx(sum(gains) / 2)
            assert statistics.marginal.gain.standard_error == pytest.approx(abs(gains[0] - gains[1]) / 2)


def test_the_steps_of_a_real_model_start_at_the_prior_mean() -> None:
    generator = tiny_generator()
    reports = measure_steps(generator, EXAMPLES, steps=[0, 1, 4], num_samples=10)
    first = [report.statistics[0] for report in reports]
    assert first[0] == first[1]
    assert first[0].edit_distance.value == first[0].marginal.gain.value == 0  # type: ignore[union-attr]
    assert reports[0].num_sentences == 4
    again = measure_steps(generator, EXAMPLES[:2], refinements=["learned"], steps=[4], num_samples=0)
    assert again[0].statistics[1].changed in {0, 50, 100}


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"refinements": []}, "`refinements` must name at least one of delta, learned; got none"),
        ({"refinements": ["both"]}, "`refinement` must be one of delta, learned; got 'both'"),
        ({"steps": []}, r"`steps` must be numbers from 0; got \[\]"),
        ({"steps": [1, -1]}, r"`steps` must be numbers from 0; got \[1, -1\]"),
        ({"num_samples": 1}, "`num_samples` must be 0, or at least 2; got 1"),
    ],
)
def test_steps_that_make_no_sense_are_refused(changes: dict[str, Any], reported: str) -> None:
    with pytest.raises(ValueError, match=reported):
        measure_steps(tiny_generator(), EXAMPLES, **changes)


# A corpus


def test_marginals_of_a_corpus_add_up() -> None:
    report = measure_marginals(tiny_generator(), EXAMPLES, num_samples=20)
    values = [sentence.log_prob for sentence in report.sentences]
    assert report.log_prob.value == pytest.approx(sum(values) / 4)
    assert report.log_prob_per_token.value == pytest.approx(sum(values) / 13)
    errors = math.sqrt(sum(sentence.standard_error**2 for sentence in report.sentences))
    assert report.log_prob.standard_error == pytest.approx(errors / 4)
    assert report.lower_bound < report.log_prob.value
    assert report.least_effective_samples == min(sentence.effective_samples for sentence in report.sentences)


# The plane


@pytest.mark.parametrize("parameterization", ["score", "energy"])
def test_every_position_has_a_window_that_holds_all_that_is_drawn(parameterization: str) -> None:
    field = gradient_field(
        tiny_generator(parameterization=parameterization), Example("abc", "cba"), steps=3, grid_size=3
    )
    assert [plane.position for plane in field.fields] == [1, 2, 3]
    assert field.parameterization == parameterization
    for plane in field.fields:
        assert len(plane.delta) == len(plane.learned) == 4
        for point in (*plane.delta, *plane.learned, plane.posterior_mean):
            assert point is not None
            assert plane.horizontal[0] <= point[0] <= plane.horizontal[-1]
            assert plane.vertical[0] <= point[1] <= plane.vertical[-1]


@torch.no_grad()
def test_the_plane_is_read_with_all_other_positions_at_their_prior_mean() -> None:
    generator = tiny_generator()
    model: Any = generator.model
    field = gradient_field(generator, Example("abc", "cb"), steps=2, grid_size=4)
    source = torch.tensor([[*ids("abc"), generator.tokenizer.eos_token_id]])
    encoded, length = model.encode(source, torch.ones_like(source)), torch.tensor([2])
    start = model.prior(encoded, length).mean
    assert len(field.fields) == 2
    for place, plane in enumerate(field.fields):
        assert plane.prior_mean == pytest.approx(start[0, place].tolist())
        assert plane.delta[0] == plane.learned[0] == plane.prior_mean
        for row, column in ((0, 0), (1, 3), (3, 2)):
            latent = start.clone()
            latent[0, place] = torch.tensor([plane.horizontal[column], plane.vertical[row]])
            direction = -model.refiner(latent, length, encoded).gradient[0, place]
            assert plane.directions[row][column] == pytest.approx(direction.tolist(), abs=1e-5)
            logits = model.decode_latent(encoded, latent, length)[0, place]
            logits[[0, 1, 3, 4]] = -torch.inf
            assert plane.grid_tokens[row][column] == generator.tokenizer.decode([int(logits.argmax())])
    learned = start - model.refiner(start, length, encoded).gradient
    assert field.fields[0].learned[1] == pytest.approx(learned[0, 0].tolist(), abs=1e-5)
    assert list(field.texts) == ["reference", "posterior", "prior", "delta", "learned"]
    assert field.texts["reference"] == "cb"


def test_without_a_reference_the_length_is_predicted() -> None:
    generator = tiny_generator()
    field = gradient_field(generator, Example("abc", ""), grid_size=2)
    assert list(field.texts) == ["prior", "delta", "learned"]
    assert all(plane.posterior_mean is None for plane in field.fields)
    [output] = generator.generate(["abc"])
    assert field.texts["prior"]
    assert len(field.fields) >= output.num_tokens


# Revisions


def test_revisions_are_sorted_by_what_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = tiny_generator()
    monkeypatch.setattr(
        "sharpseq.analyses.latent.revisions.texts_of",
        lambda tokenizer, rows: [TEXTS["".join(tokenizer.convert_ids_to_tokens(row))] for row in rows],
    )
    TEXTS = {"a": "one two three", "b": "one two four", "c": "he sings in the rain", "d": "in the rain he sings"}
    written(monkeypatch, ("a", "b"), ("a", "a"), ("c", "d"))
    examples = [Example("a", ""), Example("b", ""), Example("c", "")]
    report = revise(generator, examples, refinement="delta")
    assert (report.num_sentences, report.num_changed) == (3, 2)
    assert [revision.number for revision in report.revisions] == [3, 1]
    assert [revision.num_moved for revision in report.revisions] == [1, 0]
    assert text_of(report.revisions[0].after) == "in the rain he sings"


def test_revisions_of_a_real_model_from_the_mean_and_from_a_sample() -> None:
    generator = tiny_generator()
    for seed in (None, 5):
        report = revise(generator, EXAMPLES, steps=2, seed=seed, min_words=1)
        assert (report.num_sentences, report.seed) == (4, seed)
        assert report == revise(generator, EXAMPLES, steps=2, seed=seed, min_words=1)
    with pytest.raises(ValueError, match="`steps` must be at least 1; got 0"):
        revise(generator, EXAMPLES, steps=0)


# Diversity


def test_diversity_is_the_bleu_of_every_sample_and_every_ordered_pair() -> None:
    samples = [["the cat sat down here", "a b c d"], ["the cat sat down", "a b c e"], ["the cat sat down", "a b c d"]]
    report = diversity_of(samples, [["the cat sat down here"], ["a b c d"]])

    def score(outputs: list[str], references: list[str]) -> float:
        return float(sacrebleu.corpus_bleu(outputs, [references]).score)

    references = ["the cat sat down here", "a b c d"]
    scores = [score(sample, references) for sample in samples]
    assert report.reference_bleu.scores == pytest.approx(scores)
    assert report.reference_bleu.mean == pytest.approx(sum(scores) / 3)
    mean = sum(scores) / 3
    assert report.reference_bleu.deviation == pytest.approx(math.sqrt(sum((s - mean) ** 2 for s in scores) / 2))
    pairs = [score(samples[i], samples[j]) for i in range(3) for j in range(3) if i != j]
    assert sorted(report.pairwise_bleu.scores) == pytest.approx(sorted(pairs))
    assert report.all_equal == 0
    with pytest.raises(ValueError, match="`samples` must hold at least 2 samples; got 1"):
        diversity_of(samples[:1], [["x"], ["y"]])


def test_samples_of_a_real_model_follow_the_seed() -> None:
    generator = tiny_generator()
    report = measure_diversity(generator, EXAMPLES, num_samples=3)
    assert report.samples[1:] == measure_diversity(generator, EXAMPLES, num_samples=2, seed=1).samples
    assert report == measure_diversity(generator, EXAMPLES, num_samples=3)
    assert len(set(report.samples)) > 1
    measure_diversity(generator, EXAMPLES, num_samples=2, refinement="learned", steps=1)
    with pytest.raises(ValueError, match="`num_samples` must be at least 2; got 1"):
        measure_diversity(generator, EXAMPLES, num_samples=1)
    with pytest.raises(ValueError, match="`steps` and `refinement` go together; got 1 and None"):
        measure_diversity(generator, EXAMPLES, steps=1)


# Models that do not fit


def test_models_that_do_not_fit_are_refused() -> None:
    nat = VanillaNat(
        VanillaNatConfig(
            vocab_size=len(TOKENIZER), d_model=16, encoder_layers=1, decoder_layers=1, num_attention_heads=2, ffn_dim=16
        )
    )
    with pytest.raises(ValueError, match=r"`model` must be a latent-variable model \(latent_nat\); got VanillaNat"):
        measure_marginals(SequenceGenerator(nat, TOKENIZER), EXAMPLES)
    bare = tiny_generator(parameterization=None)
    with pytest.raises(ValueError, match="`model` has no refinement network; train one with a stage"):
        revise(bare, EXAMPLES)
    with pytest.raises(ValueError, match="`model` has no refinement network"):
        gradient_field(bare, EXAMPLES[0])
    wide = tiny_generator(latent_size=3)
    with pytest.raises(ValueError, match=r"a latent of 2 dimensions \(latent_size 2\); it has 3"):
        gradient_field(wide, EXAMPLES[0])
    for name, value in (("steps", 0), ("grid_size", 1)):
        with pytest.raises(ValueError, match=f"`{name}` must be at least"):
            gradient_field(tiny_generator(), EXAMPLES[0], **{name: value})
