"""Running a recipe: stages, evaluation and report, each resumed where it stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PreTrainedTokenizerBase, set_seed

from sharpseq.data import EncodedExample, EncodedPair, Example, Preference, StreamingBatches, encode, load_tokenizer
from sharpseq.errors import UserError
from sharpseq.evaluation import Comparison, EvaluationResult
from sharpseq.models.adapters import keep_generation_config
from sharpseq.models.length_prediction import MAX_DIFFERENCE
from sharpseq.objectives.preference import PREFERENCES
from sharpseq.processor_threads import ThreadWatch
from sharpseq.recipe import Recipe, Stage
from sharpseq.recipe.process_count import check_process_count, process_count_file
from sharpseq.runs.building import build_arguments, build_filter, build_stream
from sharpseq.runs.checks import check_budgets, check_metrics, check_model
from sharpseq.runs.conclusion import Conclusion, conclude
from sharpseq.runs.corpus_reading import build_corpus, stream_corpus
from sharpseq.runs.folder import RunFolder
from sharpseq.runs.forgetting import check_forget, encoded_forget, retained_beside
from sharpseq.runs.lost_files import check_finished_stage, copy_lost_files
from sharpseq.runs.model_card import model_card
from sharpseq.runs.model_shape import ModelShape
from sharpseq.runs.model_source import ModelSource, source_of
from sharpseq.runs.preference_data import encoded_preferences, read_preferences_of
from sharpseq.runs.recipe_methods import with_methods
from sharpseq.runs.reporting import selection_note, write_run_report
from sharpseq.runs.run_language_model import add_language_model, language_model_of_run, make_language_model
from sharpseq.runs.stage_evaluation import RunEvaluator, recipe_rescorer
from sharpseq.runs.stage_training import build_trainer
from sharpseq.runs.teacher_choice import check_teacher
from sharpseq.runs.tokenizer_making import make_tokenizer
from sharpseq.training.arguments import SequenceTrainingArguments
from sharpseq.training.checkpoints import average_weights, list_checkpoints, newest_checkpoint
from sharpseq.training.endless_stream import TOKENIZER_EXAMPLES
from sharpseq.training.feasibility import count_beyond_prediction
from sharpseq.training.progress import MetricsFile, ProgressBar, read_metrics
from sharpseq.training.thread_callback import ThreadCallback
from sharpseq.training.trainer import SequenceTrainer
from sharpseq.whole_files import whole_folder, write_whole_file

Say = Callable[[str], None]


@dataclass(frozen=True)
class RunResult:
    """What a run produced.

    Args:
        folder: The run folder.
        model: The final model's folder, which every command takes.
        report: The report for people.
        results: Every evaluation, in the order of stages and decodings, by name of the data set.
        comparisons: Every system against the first one, by name of the data set.
        conclusion: The final system beside the first one, on the last data set.
        example: A source to try the model on, from the last data set.
    """

    folder: Path
    model: Path
    report: Path
    results: Mapping[str, Sequence[EvaluationResult]]
    comparisons: Mapping[str, Sequence[Comparison]]
    conclusion: Conclusion
    example: str


def run_recipe(recipe: Recipe, folder: str | Path | None = None, *, say: Say = print) -> RunResult | None:
    """Train, evaluate and report as a recipe says; when called again, resume where it stopped.

    Under ``accelerate launch`` every process trains, and only the first one evaluates and reports. To start two
    processes on CPUs, also use ``--multi_gpu --num_processes 2``: with ``--cpu``, accelerate starts only one.

    Args:
        recipe: The recipe, from `load_recipe`.
        folder: The run folder; by default ``runs/`` and the recipe's name.
        say: Called with each progress message, one line at a time.

    Returns:
        Where everything is, and the results; None in the other processes of a distributed run.

    Raises:
        UserError: If data are missing or broken, the folder belongs to another recipe, or a loss is not finite.

    Example:
        >>> from sharpseq import load_recipe, run_recipe  # doctest: +SKIP
        >>> run_recipe(load_recipe("quickstart")).model  # doctest: +SKIP
        PosixPath('runs/quickstart/model')
    """
    recipe = with_methods(recipe)
    processes = PartialState(cpu=not torch.accelerator.is_available())
    run = _Run(recipe, RunFolder(Path(folder) if folder else Path("runs") / recipe.name), processes, say)
    run.check_before_work()
    run.claim()
    with run.folder.held() if processes.is_main_process else nullcontext():
        run.train()
        return run.conclude() if processes.is_main_process else None


@dataclass
class _Run:
    """One run: the recipe, its folder, and what is loaded once and used by all stages."""

    recipe: Recipe
    folder: RunFolder
    processes: PartialState
    speak: Say
    test_corpora: dict[str, list[Example]] = field(default_factory=dict)
    preferences: dict[str, list[Preference]] = field(default_factory=dict)
    shape: ModelShape = field(init=False)
    source: ModelSource = field(init=False)
    evaluator: RunEvaluator = field(init=False)
    threads: ThreadWatch = field(init=False)

    def __post_init__(self) -> None:
        self.source = source_of(self.recipe, base=self.folder.base)
        self.threads = ThreadWatch(self.say)

    def say(self, line: str) -> None:
        if self.processes.is_main_process:
            self.speak(line)

    def claim(self) -> None:
        """Claim the folder for this run."""
        with self.processes.main_process_first():
            if self.folder.claim(self.recipe):
                is_trained = self.folder.model.exists()
                self.say(f"{self.folder.path} is trained already" if is_trained else f"resuming {self.folder.path}")

    def train(self) -> None:
        """Train the stages that are not done."""
        # Every process must come by here, so neither can be a lazy property.
        with self.processes.main_process_first():
            make_tokenizer(self.recipe, self.folder, self.source, self._tokenizer_examples, say=self.say)
            make_language_model(self.recipe, self.folder, self.tokenizer, self._tokenizer_examples, say=self.say)
        self.evaluator = RunEvaluator(
            recipe=self.recipe,
            folder=self.folder,
            source=self.source,
            tokenizer=self.tokenizer,
            corpora=self.test_corpora,
            rescorer=recipe_rescorer(self.recipe, self.tokenizer),
            language_model=language_model_of_run(
                self.recipe, self.folder, self.tokenizer, device=self.processes.device
            ),
            say=self.say,
        )
        for stage in self.recipe.stages:
            self._train(stage)

    def conclude(self) -> RunResult:
        """Save the final model, evaluate and report."""
        self._finish_model()
        self.threads.begin()
        results = self.evaluator.evaluate()
        comparisons = {data: self.evaluator.compare(data, systems) for data, systems in results.items()}
        last = list(self.test_corpora)[-1]
        conclusion = conclude(self.recipe.final_stage, self.test_corpora[last], results[last], comparisons[last])
        write_run_report(
            self.folder,
            self.recipe,
            rows=read_metrics(self.folder.metrics) if self.folder.metrics.exists() else [],
            corpora=self.test_corpora,
            results=results,
            comparisons=comparisons,
            verdict=conclusion.verdict,
        )
        sources = [example.source for example in self.test_corpora[last]]
        example = next((source for source in sources if source.strip() and "'" not in source), sources[0])
        return RunResult(
            self.folder.path, self.folder.model, self.folder.report, results, comparisons, conclusion, example
        )

    def check_before_work(self) -> None:
        """Find mistakes in the recipe before training, and before anything is written."""
        check_metrics(self.recipe)
        self.shape = check_model(self.recipe)
        for stage in self.recipe.stages:
            build_arguments(self.recipe, stage, self.folder.stage(stage.name))
            if stage.teacher is not None:
                check_teacher(stage.teacher)
            check_forget(self.recipe, stage)
        self.preferences = read_preferences_of(self.recipe)
        data, form = self.recipe.data, self.recipe.unicode_normalization
        if (
            data.stream
            and next(stream_corpus(data.train, folder=data.folder, unicode_normalization=form), None) is None
        ):
            raise UserError(
                f"{self.recipe.place_of('data', 'train')}: the corpus is empty; there is nothing to learn from"
            )
        for name, corpus in {"validation": data.validation, **data.test}.items():
            self.test_corpora[name] = build_corpus(corpus, folder=data.folder, unicode_normalization=form)
            if not self.test_corpora[name]:
                place = self.recipe.place_of("data", *([] if name == "validation" else ["test"]), name)
                raise UserError(f"{place}: the corpus `{name}` is empty; give data with at least one line")

    # Data

    @cached_property
    def _train_corpus(self) -> list[Example]:
        form = self.recipe.unicode_normalization
        corpus = build_corpus(self.recipe.data.train, folder=self.recipe.data.folder, unicode_normalization=form)
        if not corpus:
            raise UserError("`data.train` is empty; there is nothing to learn from")
        return corpus

    @property
    def _validation_corpus(self) -> list[Example]:
        return self.test_corpora["validation"]

    def _tokenizer_examples(self) -> Iterable[Example]:
        if not self.recipe.data.stream:
            return self._train_corpus
        form = self.recipe.unicode_normalization
        stream = stream_corpus(self.recipe.data.train, folder=self.recipe.data.folder, unicode_normalization=form)
        return islice(stream, TOKENIZER_EXAMPLES)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.folder.tokenizer)

    @cached_property
    def _train_examples(self) -> list[EncodedExample]:
        encoded = encode(self._train_corpus, self.tokenizer, append_eos_to_target=self.shape.is_autoregressive)
        kept, report = build_filter(self.recipe, self.shape, self.tokenizer).apply(encoded)
        self.say(f"training data: {report}")
        if not kept:
            raise UserError("no training example is left; loosen `data.limits`, or take a model with more positions")
        num_beyond = count_beyond_prediction(kept, self.shape.family)
        if num_beyond:
            self.say(
                f"training data: {num_beyond:,} of {len(kept):,} targets are over {MAX_DIFFERENCE} tokens longer or "
                "shorter than their source, the most that the model predicts; its outputs are cut there, or too long"
            )
        return kept

    @cached_property
    def _validation_examples(self) -> list[EncodedExample]:
        encoded = encode(self._validation_corpus, self.tokenizer, append_eos_to_target=self.shape.is_autoregressive)
        kept, report = self.shape.length_filter.apply(encoded)
        if report.num_dropped:
            self.say(f"validation loss: {report}")
        if not kept:
            raise UserError("no validation example fits the model: all are longer than its positions")
        return kept

    @cached_property
    def _pairs(self) -> dict[str, list[EncodedPair]]:
        return encoded_preferences(self.recipe, self.shape, self.tokenizer, self.preferences, say=self.say)

    # Training

    def _train(self, stage: Stage) -> None:
        if self.folder.stage_model(stage.name).exists():
            with self.processes.main_process_first():
                check_finished_stage(self.folder, stage.name, say=self.say)
            self.say(f"stage {stage.name}: done before")
            if self.processes.is_main_process:
                self._clear(stage)  # where a kill came between the model and this
            return
        folder = self.folder.stage(stage.name)
        arguments = build_arguments(self.recipe, stage, folder)
        with self.processes.main_process_first():
            folder.mkdir(parents=True, exist_ok=True)
            checkpoint = newest_checkpoint(folder)
        if checkpoint is not None:
            self.say(f"stage {stage.name}: resuming at step {checkpoint.name.split('-')[-1]}")
        else:
            self.say(f"stage {stage.name}: starting from {self.recipe.start_of(stage) or self.source.first_weights}")
        if stage.training.get("bf16") and not arguments.bf16:
            self.say(f"stage {stage.name}: in float32; this processor has no bfloat16 and would be many times slower")
        self._check_processes(stage, resumes=checkpoint is not None)
        training, validation = self._data_of(stage, arguments)
        check_budgets(
            self.recipe,
            stage,
            arguments,
            training=[] if isinstance(training, StreamingBatches) else training,
            validation=validation,
            in_one_row=self.shape.in_one_row,
        )
        set_seed(self.recipe.seed)
        trainer = build_trainer(
            self.recipe,
            stage,
            self._starting_model(stage),
            arguments,
            load_reference=partial(self._starting_model, stage),
            train_dataset=training,
            eval_dataset=validation,
            retained=retained_beside(training, stage, lambda: self._train_examples, say=self.say),
            processing_class=self.tokenizer,
            evaluators=[partial(self.evaluator.validation_metric, stage)] if self.recipe.validation.metric else [],
            callbacks=[MetricsFile(self.folder.metrics, stage=stage.name), ThreadCallback(self.threads)],
            description=stage.name,
        )
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        finally:
            for callback in trainer.callback_handler.callbacks:
                if isinstance(callback, ProgressBar):
                    callback.close()
        if trainer.filter_report.num_examples:
            self.say(f"training data: {trainer.filter_report}")
        elif self.recipe.data.stream and arguments.dataloader_num_workers:
            self.say("training data: what `data.limits` left out is not counted where `dataloader_num_workers` read")
        note = selection_note(self.recipe, trainer.state.log_history)
        if note is not None:
            self.say(f"stage {stage.name}: {note}")
        self._save_stage(stage, trainer)

    def _check_processes(self, stage: Stage, *, resumes: bool) -> None:
        """Check that a stage goes on with as many processes as it began with, where epochs are counted."""
        file, now = process_count_file(self.folder.path, stage), self.processes.num_processes
        check_process_count(self.recipe, self.folder.path, now)
        if self.processes.is_main_process and not (resumes and file.exists()):
            write_whole_file(file, str(now))

    def _data_of(self, stage: Stage, arguments: SequenceTrainingArguments) -> tuple[Any, Any]:
        """Return what a stage is trained and validated on."""
        if stage.objective.name in PREFERENCES:
            return self._pairs["train"], self._pairs["validation"]
        if stage.forget is not None:
            examples = encoded_forget(self.recipe, stage, self.shape, self.tokenizer, say=self.say)
            return examples, self._validation_examples
        if self.recipe.data.stream:
            stream = build_stream(self.recipe, self.shape, self.tokenizer, arguments)
            return stream, self._validation_examples
        return self._train_examples, self._validation_examples

    def _starting_model(self, stage: Stage) -> Any:
        start = self.recipe.start_of(stage)
        if start is None:
            return self.source.first(self.tokenizer)
        return self.source.further(self.folder.stage_model(start), self.tokenizer)

    def _save_stage(self, stage: Stage, trainer: SequenceTrainer) -> None:
        # The checkpoints are deleted below, so no process may still be reading the best one.
        trainer.accelerator.wait_for_everyone()
        is_split = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if is_split else None
        if not trainer.is_world_process_zero():
            trainer.accelerator.wait_for_everyone()
            return
        model = trainer.accelerator.unwrap_model(trainer.model)
        if stage.average_checkpoints:
            folders = list_checkpoints(self.folder.stage(stage.name))[-stage.average_checkpoints :]
            model.load_state_dict(average_weights(folders), strict=False)
            self.say(f"stage {stage.name}: mean of the last {len(folders)} checkpoints")
        whole = trainer.accelerator.unwrap_model(trainer.whole_model)
        with whole_folder(self.folder.stage_model(stage.name)) as folder:
            whole.save_pretrained(folder, state_dict=weights)
            keep_generation_config(whole, folder)
            self.tokenizer.save_pretrained(folder)
            add_language_model(self.folder, folder)
        self._clear(stage)
        trainer.accelerator.wait_for_everyone()

    def _clear(self, stage: Stage) -> None:
        """Delete what a finished stage no longer needs."""
        for checkpoint in self.folder.stage(stage.name).glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        process_count_file(self.folder.path, stage).unlink(missing_ok=True)

    # Results

    def _finish_model(self) -> None:
        """Copy the model of the last stage, or what is lost or damaged of the copy, and write a card for it."""
        source, model = self.folder.stage_model(self.recipe.final_stage), self.folder.model
        if not model.exists():
            with whole_folder(model) as folder:
                shutil.copytree(source, folder, dirs_exist_ok=True)
                write_whole_file(folder / "README.md", model_card(self.recipe))
            return
        if not (model / "README.md").exists():
            write_whole_file(model / "README.md", model_card(self.recipe))
        copy_lost_files(source, model, say=self.say)
