"""The listings, such as ``sharpseq models`` and ``sharpseq objectives``: one line for each entry."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from sharpseq.declarations import Declaration


def models() -> None:
    """List the model families."""
    from sharpseq.models import MODELS

    _print(_row(each.declaration) for each in MODELS.values())


def objectives() -> None:
    """List the objectives, those of a policy's own samples, and what `unlearning` does to the answers to forget."""
    from sharpseq.objectives.policy import POLICY_OBJECTIVES
    from sharpseq.objectives.unlearning import UNLEARNING_METHODS
    from sharpseq.training import LOSSES, Policy, Unlearning

    rows = [_row(each.declaration) for each in LOSSES.values()]
    for owner, table in ((Policy, POLICY_OBJECTIVES), (Unlearning, UNLEARNING_METHODS)):
        for each in table.values():
            name, summary, reference = _row(each.declaration)
            rows.append((name, f"{summary}; of `{owner.declaration.name}`", reference))
    _print(rows)


def divergences() -> None:
    """List the divergences, what else a student can minimise at a position, and those between sets of vectors."""
    from sharpseq.divergences import SAMPLE_DIVERGENCES
    from sharpseq.objectives.distillation import TOKEN_DISTILLATIONS

    _print(_row(each.declaration) for each in (*TOKEN_DISTILLATIONS.values(), *SAMPLE_DIVERGENCES.values()))


def decoders() -> None:
    """List the decoders with their settings."""
    from sharpseq.decoding import DECODERS

    rows = []
    for decoder in DECODERS.values():
        settings = ", ".join(f"{option}={default}" for option, default in decoder.options.items())
        name, summary, reference = _row(decoder.declaration)
        rows.append((name, f"{summary} ({settings})" if settings else summary, reference))
    _print(rows)


def processors() -> None:
    """List the logits processors, which change what an autoregressive decoder chooses from, with what they cost."""
    from sharpseq.decoding.processors import PROCESSORS

    rows = []
    for processor in PROCESSORS.values():
        name, summary, reference = _row(processor.declaration)
        rows.append((name, f"{summary} ({processor.cost})", reference))
    _print(rows)


def metrics() -> None:
    """List the metrics."""
    from sharpseq.evaluation import METRICS

    _print(_row(each.declaration) for each in METRICS.values())


def recipes() -> None:
    """List the shipped recipes."""
    from sharpseq.recipe import shipped_recipes

    _print((entry.name, entry.description) for entry in shipped_recipes())


def _row(declaration: Declaration) -> tuple[str, str, str]:
    return declaration.name, declaration.summary, declaration.reference


def _print(rows: Iterable[tuple[str, ...]]) -> None:
    gathered = list(rows)
    width = max(len(row[0]) for row in gathered)
    for name, *rest in gathered:
        typer.echo(f"{name:<{width}}  " + "  · ".join(rest))
