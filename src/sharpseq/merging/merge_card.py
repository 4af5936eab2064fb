"""The README of a merged model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sharpseq.merging.merge_models import MergeReport

_METHODS = {
    "divmerge": "coefficients learned by minimising a divergence between outputs (DivMerge, Touayouch et al. 2026)",
    "grid_search": "the best single coefficient of a grid",
    "task_arithmetic": "one coefficient for all tasks (task arithmetic, Ilharco et al. 2023)",
}


def merge_card(report: MergeReport) -> str:
    """Return a model card in Markdown, with all coefficients."""
    settings = report.settings
    lines = [f"- base: {report.base}", f"- method: {_METHODS[settings.method]}"]
    if report.after:
        lines.append(f"- divergence: {settings.divergence}, in nats per position; seed {settings.seed}")
    if settings.method == "divmerge":
        lines.append(f"- {settings.steps} steps, learning rate {settings.learning_rate:g}")
    return f"""---
{_metadata(report)}
---

# A merge of {len(report.tasks)} model{"s" if len(report.tasks) > 1 else ""}

Its weights are those of the base plus, for each task, a coefficient times what the task's fine-tuning changed.

{chr(10).join(lines)}

{_tasks(report)}

Coefficients; they have no effect on weights that a task left as they were:

{_table(["weights", *_names(report)], [[layer, *_column(report, n)] for n, layer in enumerate(report.layers)])}
"""


def _metadata(report: MergeReport) -> str:
    lines = ["library_name: transformers", "tags: [sharpseq, merge]"]
    # The Hub accepts only Hub ids here.
    if not Path(report.base).exists():
        lines.append(f"base_model: {report.base}")
    return "\n".join(lines)


def _tasks(report: MergeReport) -> str:
    header = ["task", "model"]
    rows = [[name, model] for name, model in zip(_names(report), report.tasks, strict=True)]
    if any(report.prompts):
        header.append("prompt")
        rows = [[*row, f"`{prompt}`" if prompt else ""] for row, prompt in zip(rows, report.prompts, strict=True)]
    if report.after:
        header += ["sources", "divergence at the first coefficients", "at the final ones"]
        figures = zip(rows, report.num_examples, report.before, report.after, strict=True)
        rows = [[*row, str(count), in_nats(before), in_nats(after)] for row, count, before, after in figures]
    return _table(header, rows)


def in_nats(divergence: float) -> str:
    """Return a divergence with four digits; one of 0 may be a little less by rounding."""
    return f"{round(divergence, 4) + 0.0:.4f}"


def _names(report: MergeReport) -> list[str]:
    return [f"task {number}" for number in range(1, len(report.tasks) + 1)]


def _column(report: MergeReport, layer: int) -> list[str]:
    return [f"{value:.4f}" for value in report.coefficients[:, layer].tolist()]


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *([_one_line(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _one_line(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
