"""Merging from end to end: load, choose coefficients, write a model folder with a card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from sharpseq.data import Example, normalize_example, prompt_of, unicode_normalization_of
from sharpseq.data.prompts import detach_prompt
from sharpseq.decoding import longest_training_target, remember_longest_target
from sharpseq.errors import UserError, nearest
from sharpseq.merging.coefficient_search import GRID, best_coefficient, learn_coefficients
from sharpseq.merging.merge_card import merge_card
from sharpseq.merging.merged_model import MergedModel
from sharpseq.merging.output_divergence import DIVERGENCES, TaskBatches, write_batches
from sharpseq.merging.task_models import SavedModel, load_models
from sharpseq.whole_files import whole_folder, write_whole_file

METHODS = ("divmerge", "grid_search", "task_arithmetic")
LEVELS = ("layer", "task")


@dataclass(frozen=True)
class MergeSettings:
    """How models are merged.

    Args:
        method: ``divmerge`` learns coefficients, ``grid_search`` tries ten single ones, ``task_arithmetic`` takes one.
        level: Of ``divmerge``: coefficients for each task and layer, or for each task.
        divergence: What is minimised: ``jensen_shannon``, ``kl`` (task ‖ merged) or ``reverse_kl`` (merged ‖ task).
        coefficient: The coefficient of ``task_arithmetic``, 0.4 by default; where ``divmerge`` begins, 1 divided by the
            number of tasks by default.
        steps: Steps of ``divmerge``.
        learning_rate: Its first learning rate.
        batch_tokens: Token budget of a batch of each task.
        decoding: Options with which task models write the outputs that are compared.
        seed: Seed of the batches.

    Raises:
        UserError: If a value is impossible.
    """

    method: str = "divmerge"
    level: str = "layer"
    divergence: str = "jensen_shannon"
    coefficient: float | None = None
    steps: int = 100
    learning_rate: float = 0.05
    batch_tokens: int = 2000
    decoding: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("method", METHODS), ("level", LEVELS), ("divergence", tuple(DIVERGENCES))):
            if getattr(self, name) not in known:
                raise UserError(f"`{name}` must not be {getattr(self, name)!r}; {nearest(getattr(self, name), known)}")
        if self.steps < 1 or not self.learning_rate > 0:
            raise UserError(f"`steps` and `learning_rate` must be positive; got {self.steps} and {self.learning_rate}")
        if self.method == "grid_search" and self.coefficient is not None:
            raise UserError(f"`coefficient` does not go with `grid_search`, which tries {GRID[0]} to {GRID[-1]}")

    @property
    def needs_data(self) -> bool:
        """Whether outputs are compared."""
        return self.method != "task_arithmetic"

    def start(self, num_tasks: int) -> float:
        """Return the coefficient that is taken, or that learning starts from."""
        if self.coefficient is not None:
            return self.coefficient
        return 0.4 if self.method == "task_arithmetic" else 1 / num_tasks


@dataclass(frozen=True)
class MergeReport:
    """What a merge did.

    Args:
        settings: How it was done.
        base: The base, as it was named.
        tasks: The task models, as they were named.
        layers: Names of the layers.
        coefficients: Shape (tasks, layers).
        num_examples: Sources that each task was compared on; empty without data.
        before: Divergence of each task with the first coefficients, in nats per position; empty without data.
        after: The same with the final ones.
        prompts: Template of each task's prompt; None for models without.
    """

    settings: MergeSettings
    base: str
    tasks: Sequence[str]
    layers: Sequence[str]
    coefficients: Tensor
    num_examples: Sequence[int]
    before: Sequence[float]
    after: Sequence[float]
    prompts: Sequence[str | None]


def merge_models(
    base: str,
    tasks: Sequence[str],
    output_folder: str | Path,
    *,
    data: Sequence[Sequence[Example]] = (),
    prompts: Sequence[str] = (),
    settings: MergeSettings | None = None,
    on_stage: Callable[[str, int], None] = lambda stage, total: None,
    on_step: Callable[[int], None] = lambda done: None,
) -> MergeReport:
    r"""Merge fine-tuned models into one, :math:`\theta_0 + \sum_t \lambda_t (\theta_t - \theta_0)`.

    Coefficients make the outputs of the merged model those of each task's model on the task's own sources; labels are
    not read. For causal and seq2seq models and for one-pass models alike, the task's model writes an output for each
    source, and the distributions of both models are compared at each position of it (at each frame, for CTC). Adapters
    are added to the weights of the base first. Learned coefficients that are no better than the first ones over all
    sources are not taken. Memory holds two models more than there are tasks, in float32.

    Args:
        base: The model that all tasks were fine-tuned from: a run folder, a model folder, or a Hub id.
        tasks: The fine-tuned models, whole or as adapters.
        output_folder: The folder to make; it must not exist, or be empty. It is there whole or not at all.
        data: Unlabelled sources of each task; targets are not read. Not needed for ``task_arithmetic``.
        prompts: Templates of prompts of causal language models, one for all tasks or one for each; by default those
            saved with the models.
        settings: How to merge.
        on_stage: Called when a stage of the work begins, with its name and its number of steps.
        on_step: Called with the number of steps made in the stage.

    Returns:
        What was done.

    Raises:
        UserError: If models do not belong together, data are missing, or the output folder is not empty.

    Example:
        >>> merge_models("base", ["runs/translation", "runs/g2p"], "merged", data=[a, b])  # doctest: +SKIP

    References:
        Ilharco et al. 2023, "Editing models with task arithmetic"; Touayouch et al. 2026, "DivMerge" (#58).
    """
    settings = settings or MergeSettings()
    if settings.needs_data and len(data) != len(tasks):
        raise UserError(f"give sources of each task in the order of the tasks; got {len(data)} for {len(tasks)} tasks")
    with whole_folder(Path(output_folder)) as folder:
        on_stage("loading", len(tasks) + 1)
        origin, models = load_models(base, tasks, prompts=prompts)
        compared = _compared(models, data, settings, on_stage, on_step)
        merged = MergedModel(
            origin.weights,
            [model.weights for model in models],
            template=models[0].model,
            per_layer=settings.method == "divmerge" and settings.level == "layer",
        )
        start = merged.coefficients(settings.start(len(tasks)))
        before = _divergences(merged, start, compared, settings)
        if settings.method == "divmerge":
            on_stage("learning coefficients", settings.steps)
            coefficients = learn_coefficients(
                merged,
                compared,
                start=settings.start(len(tasks)),
                divergence=settings.divergence,
                steps=settings.steps,
                learning_rate=settings.learning_rate,
                on_step=on_step,
            )
            after = _divergences(merged, coefficients, compared, settings)
            if sum(after) >= sum(before):
                # Adam takes steps of the same length however little there is to gain.
                coefficients = start
        elif settings.method == "grid_search":
            on_stage("trying coefficients", len(GRID))
            best = best_coefficient(merged, compared, divergence=settings.divergence, on_step=on_step)
            coefficients = merged.coefficients(best)
        else:
            coefficients = start
        report = MergeReport(
            settings=settings,
            base=base,
            tasks=tasks,
            layers=merged.layers,
            coefficients=coefficients,
            num_examples=[each.num_examples for each in compared],
            before=before,
            after=_divergences(merged, coefficients, compared, settings),
            prompts=[prompt.template if (prompt := prompt_of(model.tokenizer)) else None for model in models],
        )
        merged.set(coefficients)
        longest = [longest_training_target(model.model) for model in models]
        remember_longest_target(merged.network, max((each for each in longest if each is not None), default=None))
        merged.network.save_pretrained(folder)
        tokenizer = models[0].tokenizer
        if len(set(report.prompts)) > 1:
            # Each task has its own; whoever generates must say which.
            detach_prompt(tokenizer)
        tokenizer.save_pretrained(folder)
        write_whole_file(folder / "README.md", merge_card(report))
    return report


def _compared(
    models: Sequence[SavedModel],
    data: Sequence[Sequence[Example]],
    settings: MergeSettings,
    on_stage: Callable[[str, int], None],
    on_step: Callable[[int], None],
) -> list[TaskBatches]:
    if not data:
        return []
    on_stage("writing outputs of tasks", len(models))
    found = []
    for number, (model, examples) in enumerate(zip(models, data, strict=True), start=1):
        form = unicode_normalization_of(model.tokenizer)
        normalized = [normalize_example(example, form) for example in examples]
        found.append(
            write_batches(
                model,
                normalized,
                options=settings.decoding,
                batch_tokens=settings.batch_tokens,
                seed=settings.seed,
            )
        )
        on_step(number)
    return found


def _divergences(
    merged: MergedModel, coefficients: Tensor, tasks: Sequence[TaskBatches], settings: MergeSettings
) -> list[float]:
    merged.set(coefficients)
    return [task.mean(merged.network, divergence=settings.divergence) for task in tasks]
