"""``sharpseq models``, ``objectives``, ``decoders``, ``metrics``, ``recipes``: what there is, a line each."""

from __future__ import annotations

from collections.abc import Iterable

import typer


def models() -> None:
    """List the model families."""
    from sharpseq.models import MODELS

    _print((name, spec.description, spec.reference) for name, spec in MODELS.items())


def objectives() -> None:
    """List the objectives."""
    from sharpseq.training import LOSSES

    _print((name, loss.declaration.summary, loss.declaration.reference) for name, loss in LOSSES.items())


def decoders() -> None:
    """List the decoders with their settings."""
    from sharpseq.decoding import DECODERS

    for_people = {
        name: ", ".join(f"{option}={default}" for option, default in spec.options.items())
        for name, spec in DECODERS.items()
    }
    _print(
        (name, f"{spec.description} ({for_people[name]})" if for_people[name] else spec.description, spec.reference)
        for name, spec in DECODERS.items()
    )


def metrics() -> None:
    """List the metrics."""
    from sharpseq.evaluation import METRICS

    _print((name, spec.description, spec.reference) for name, spec in METRICS.items())


def recipes() -> None:
    """List the shipped recipes."""
    from sharpseq.recipe import shipped_recipes

    _print((entry.name, entry.description) for entry in shipped_recipes())


def _print(rows: Iterable[tuple[str, ...]]) -> None:
    gathered = list(rows)
    width = max(len(row[0]) for row in gathered)
    for name, *rest in gathered:
        typer.echo(f"{name:<{width}}  " + "  · ".join(rest))
