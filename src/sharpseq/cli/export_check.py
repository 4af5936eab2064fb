"""The quality gate of an export: its outputs beside those of the model that it was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpseq.errors import UserError

if TYPE_CHECKING:
    from sharpseq.data import Example


def quality_gate(
    model: str, examples: Sequence[Example], *, metric: str, largest_loss: float, name: str
) -> Callable[[Path], dict[str, Any]]:
    """Return what compares an exported folder with its model, and refuses it beyond a limit.

    Args:
        model: The model that is exported.
        examples: What both translate.
        metric: What their outputs are scored by.
        largest_loss: By how much the export may be worse, in the unit of the metric.
        name: Name of the data, for the record.
    """

    def check(folder: Path) -> dict[str, Any]:
        from sharpseq.evaluation import compare_systems
        from sharpseq.evaluation.metrics import metric_spec
        from sharpseq.generation import SequenceGenerator
        from sharpseq.runtime import load

        sources = [example.source for example in examples]
        export = load(folder)
        # The decoder that is exported, which need not be the one that was tuned last.
        generator = SequenceGenerator.from_pretrained(model, is_tuned=False).with_options(**export.manifest.options)
        original = [output.text for output in generator.generate(sources)]
        exported = [output.text for output in export.generate(sources)]
        systems = {"original": original, "export": exported}
        [comparison] = compare_systems(systems, [example.references for example in examples], metrics=[metric])
        found = comparison.bootstrap
        loss = found.difference if metric_spec(metric).higher_is_better is False else -found.difference
        if loss > largest_loss:
            raise UserError(
                f"the export is worse than the model by {loss:.2f} {metric} ({found.baseline_score:.2f} to "
                f"{found.system_score:.2f}), more than --largest-loss {largest_loss:g}; nothing was written"
            )
        equal = sum(one == other for one, other in zip(original, exported, strict=True)) / len(sources)
        return {
            "data": name,
            "sentences": len(sources),
            "equal_outputs": equal,
            "metric": metric,
            "model": found.baseline_score,
            "export": found.system_score,
            "difference": found.difference,
            "interval": [found.low, found.high],
        }

    return check


def described(check: dict[str, Any]) -> str:
    """Say in a line what was found."""
    low, high = check["interval"]
    return (
        f"{100 * check['equal_outputs']:.1f} % of {check['sentences']:,} outputs equal the model's; {check['metric']} "
        f"{check['model']:.2f} to {check['export']:.2f} (difference {check['difference']:+.2f}, 95 % interval "
        f"{low:+.2f} to {high:+.2f})"
    )
