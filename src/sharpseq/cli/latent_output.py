"""What the commands of ``sharpseq latent`` share: reading and checking."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from sharpseq.cli.analysis_output import check_folder
from sharpseq.errors import UserError

if TYPE_CHECKING:
    from sharpseq.data import Example
    from sharpseq.generation import SequenceGenerator

T = TypeVar("T")


def load_inputs(
    model: str, data: str, *, limit: int | None, output: Path | None
) -> tuple[SequenceGenerator, list[Example]]:
    """Load the model and the first lines of the data, after checking that the output folder can be written.

    Raises:
        UserError: If something is missing or broken.
    """
    from sharpseq.cli.corpus_argument import load_corpus, normalize_for
    from sharpseq.cli.model_argument import load_generator

    check_folder(output)
    examples = load_corpus(data, unicode_normalization="none")[:limit]
    generator = load_generator(model, decoder=None, settings=[])
    return generator, normalize_for(generator.tokenizer, examples)


def check_inputs(
    generator: SequenceGenerator,
    examples: Sequence[Example],
    *,
    model: str,
    refinements: Sequence[str] = (),
    with_targets: bool = True,
) -> None:
    """Check that model and data fit the analysis before it begins.

    Raises:
        UserError: If they do not.
    """
    from sharpseq.analyses.latent import check_refinement, latent_model, readable_pairs

    as_user_errors(model, latent_model, generator)
    for refinement in refinements:
        as_user_errors(model, check_refinement, generator, refinement)
    as_user_errors(model, readable_pairs, generator, examples, with_targets=with_targets)


def as_user_errors(where: str, check: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Run a check of the library, and report its error as the user's mistake; ``where`` names the wrong argument."""
    try:
        return check(*arguments, **options)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def check_step_size(step_size: float) -> None:
    """Check a step size, whose range typer cannot express.

    Raises:
        UserError: If it is not a number above 0.
    """
    if not 0 < step_size < math.inf:
        raise UserError(f"--step-size {step_size:g}: give a number greater than 0")


def report_left_out(left_out: Sequence[tuple[int, str]]) -> None:
    """Report on standard error which lines could not be read."""
    if left_out:
        reasons = "; ".join(f"line {number}: {reason}" for number, reason in left_out[:5])
        typer.echo(f"{len(left_out)} left out ({reasons}{'; …' if len(left_out) > 5 else ''})", err=True)
