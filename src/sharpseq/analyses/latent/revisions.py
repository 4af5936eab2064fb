"""Translations before and after refinement, with the phrases marked that changed their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sharpseq.analyses.latent.moved_phrases import Segment, mark_moved_phrases
from sharpseq.analyses.latent.readable_pairs import readable_pairs, texts_of
from sharpseq.analyses.latent.sampled_outputs import sampled_texts
from sharpseq.analyses.latent.step_outputs import check_refinement, step_outputs
from sharpseq.data import Example
from sharpseq.generation import SequenceGenerator


@dataclass(frozen=True)
class Revision:
    """A translation and what refinement made of it.

    Args:
        number: Line of the source, from 1.
        source: The source text.
        references: Its references.
        before: The translation before, in pieces.
        after: The translation after, in pieces.
    """

    number: int
    source: str
    references: tuple[str, ...]
    before: tuple[Segment, ...]
    after: tuple[Segment, ...]

    @property
    def num_moved(self) -> int:
        """How many phrases stand elsewhere."""
        return sum(segment.kind == "moved" for segment in self.after)

    @property
    def differs(self) -> bool:
        """Whether refinement changed anything."""
        return text_of(self.before) != text_of(self.after)


@dataclass(frozen=True)
class RevisionReport:
    """Revisions of a corpus.

    Args:
        refinement: "delta" or "learned".
        steps: Refinement steps.
        seed: Seed of the samples that were refined; None where it was the prior mean.
        num_sentences: Sources that were translated.
        num_changed: Of them, those whose translation changed.
        revisions: Those that changed, the ones in which most phrases moved first, then as in the corpus.
        left_out: Lines that the model cannot read, with the reason.
    """

    refinement: str
    steps: int
    seed: int | None
    num_sentences: int
    num_changed: int
    revisions: tuple[Revision, ...]
    left_out: tuple[tuple[int, str], ...]


def revise(
    generator: SequenceGenerator,
    examples: Sequence[Example],
    *,
    refinement: str = "learned",
    steps: int = 1,
    seed: int | None = None,
    min_words: int = 2,
) -> RevisionReport:
    """Translate from a latent before and after its refinement, at the most probable length, and compare.

    Args:
        generator: A latent-variable model with its tokenizer.
        examples: Sources; references are passed on.
        refinement: "delta" or "learned".
        steps: Refinement steps, at least 1.
        seed: Start from a sample of the prior, as in the paper's table, with this seed; from its mean when None.
        min_words: Least number of words of a phrase; see `mark_moved_phrases`.

    Raises:
        ValueError: If the model has no latent or lacks the refinement network, nothing can be read, or a number is out
            of its range.

    References:
        Lee, Shu and Cho 2020, section 6.2 and table 2.
    """
    if steps < 1:
        raise ValueError(f"`steps` must be at least 1; got {steps}")
    check_refinement(generator, refinement)
    readable = readable_pairs(generator, examples, with_targets=False)
    if seed is None:
        by_step = step_outputs(generator, readable.pairs, refinement=refinement, steps=steps)
        before, after = (texts_of(generator.tokenizer, [of_pair[place] for of_pair in by_step]) for place in (0, -1))
    else:
        before = sampled_texts(generator, readable.pairs, refinement=None, steps=0, seed=seed)
        after = sampled_texts(generator, readable.pairs, refinement=refinement, steps=steps, seed=seed)
    revisions = []
    for pair, old, new in zip(readable.pairs, before, after, strict=True):
        marked = mark_moved_phrases(old, new, min_words=min_words)
        revisions.append(
            Revision(pair.number, pair.example.source, pair.example.references, tuple(marked[0]), tuple(marked[1]))
        )
    changed = [revision for revision in revisions if revision.differs]
    return RevisionReport(
        refinement=refinement,
        steps=steps,
        seed=seed,
        num_sentences=len(revisions),
        num_changed=len(changed),
        revisions=tuple(sorted(changed, key=lambda revision: -revision.num_moved)),
        left_out=tuple(readable.left_out),
    )


def text_of(segments: Sequence[Segment]) -> str:
    """Return the text that segments are pieces of."""
    return "".join(segment.text for segment in segments)
