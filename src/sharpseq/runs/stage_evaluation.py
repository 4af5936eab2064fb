"""Evaluation of the models of a run: every stage with every decoding, each of them once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sharpseq.data import Example
from sharpseq.decoding import DECODERS, LanguageModel, Rescorer
from sharpseq.errors import UserError
from sharpseq.evaluation import Comparison, EvaluationResult, MetricSpec, compare_systems, evaluate_system
from sharpseq.generation import SequenceGenerator, default_decoder, incomplete_outputs, load_rescorer, sources_of
from sharpseq.models.adapters import without_wrapper
from sharpseq.processor_bf16 import bf16_is_slow
from sharpseq.recipe import Recipe, Stage
from sharpseq.runs.folder import RunFolder
from sharpseq.runs.model_source import ModelSource
from sharpseq.whole_files import write_whole_file


@dataclass(frozen=True, kw_only=True)
class RunEvaluator:
    """Evaluates the models of a run; finished evaluations are read from its folder.

    Args:
        recipe: The recipe.
        folder: The run's folder.
        source: Where the models come from.
        tokenizer: The run's tokenizer.
        corpora: Validation and test data, by name.
        rescorer: Chooses the output in every decoding that has more than one candidate.
        language_model: There for every decoding that gives it a weight.
        say: Called with each progress message, one line at a time.
    """

    recipe: Recipe
    folder: RunFolder
    source: ModelSource
    tokenizer: PreTrainedTokenizerBase
    corpora: Mapping[str, Sequence[Example]]
    rescorer: Rescorer | None
    language_model: LanguageModel | None
    say: Callable[[str], None]

    def validation_metric(self, stage: Stage, model: PreTrainedModel) -> dict[str, float]:
        """Return the metric that selects the best checkpoint of a stage, of a model in training.

        The model is decoded as in the evaluation at the end, see `validation_decoding`, in the precision of its
        weights. Outputs that reached their length limit are counted and reported.
        """
        metric = self.recipe.validation.metric
        if metric is None:
            return {}
        examples = self.corpora["validation"][: self.recipe.validation.num_examples]
        generator, _ = self._generator(without_wrapper(model), validation_decoding(self.recipe, stage))
        result, outputs = evaluate_system(
            generator,
            sources_of(examples),
            [example.references for example in examples],
            metrics=[metric],
            num_resamples=0,
        )
        for line in incomplete_outputs(outputs):
            self.say(f"stage {stage.name}, validation: {line}")
        counts = {"outputs_at_limit": result.num_at_limit, "sources_too_long": result.num_too_long}
        return {metric: result.metrics[metric].score, **{name: float(count) for name, count in counts.items() if count}}

    def _generator(
        self, model: PreTrainedModel, decoding: Mapping[str, Any]
    ) -> tuple[SequenceGenerator, dict[str, Any]]:
        """Return what decodes with a model, and the settings of that for the record."""
        options = dict(decoding)
        decoder = options.pop("decoder", None) or default_decoder(model)
        is_rescored = self.rescorer is not None and num_candidates(decoder, options) > 1
        generator = SequenceGenerator(
            model,
            self.tokenizer,
            decoder=decoder,
            options=options,
            rescorer=self.rescorer if is_rescored else None,
            language_model=self.language_model if DECODERS[decoder].takes_language_model else None,
            batch_tokens=self.recipe.evaluation.batch_tokens,
        )
        settings = {"decoder": decoder, **options}
        return generator, settings | ({"rescorer": self.recipe.evaluation.rescorer} if is_rescored else {})

    def evaluate(self) -> dict[str, list[EvaluationResult]]:
        """Evaluate every stage that asks for it, with all its decodings, on validation and test data."""
        results: dict[str, list[EvaluationResult]] = {data: [] for data in self.corpora}
        for stage in self.recipe.stages:
            for decoding in self.recipe.decodings_of(stage):
                for data in self.corpora:
                    results[data].append(self._evaluate_once(stage.name, decoding, data))
        return results

    def _evaluate_once(self, stage: str, decoding: str, data: str) -> EvaluationResult:
        file = self.folder.evaluation(stage, decoding, data)
        made_from = self._made_from(stage, decoding, data)
        stored = self._stored(file, made_from)
        if stored is not None:
            return stored
        model = self.source.trained(self.folder.stage_model(stage), self.tokenizer)
        if self.recipe.evaluation.bf16:
            model = model.bfloat16()
            if bf16_is_slow():
                model = model.float()  # the same rounded weights, in numbers that this processor computes with
        generator, settings = self._generator(model, self.recipe.evaluation.decodings[decoding])
        corpus = self.corpora[data]
        name = stage if len(self.recipe.evaluation.decodings) == 1 else f"{stage} {decoding}"
        self.say(f"evaluating {name} on {data} ({len(corpus)} examples)")
        if self.recipe.evaluation.bf16:
            settings["bf16"] = True
        result, outputs = evaluate_system(
            generator,
            sources_of(corpus),
            [example.references for example in corpus],
            metrics=self.recipe.evaluation.metrics,
            name=name,
            data=data,
            latency_sentences=self.recipe.evaluation.latency_sentences if data != "validation" else 0,
            decoder_settings=settings,
            on_progress=self._on_progress,
        )
        for line in incomplete_outputs(outputs):
            self.say(f"{name} on {data}: {line}")
        scores = [{"log_prob": output.log_prob, "num_tokens": output.num_tokens} for output in outputs]
        file.parent.mkdir(exist_ok=True)
        write_whole_file(scores_file(file), "".join(json.dumps(score) + "\n" for score in scores))
        write_whole_file(made_from_file(file), made_from)
        write_whole_file(file, result.to_json())
        return result

    def _made_from(self, stage: str, decoding: str, data: str) -> str:
        """Return a digest of everything that an evaluation follows from: data, decoding, metrics and weights."""
        evaluation = self.recipe.evaluation
        settings = [evaluation.decodings[decoding], evaluation.metrics, evaluation.bf16, evaluation.rescorer]
        corpus = [[example.source, example.history, list(example.references)] for example in self.corpora[data]]
        digest = hashlib.sha256(json.dumps([settings, corpus], sort_keys=True, default=str).encode())
        for weights in sorted(self.folder.stage_model(stage).glob("*.safetensors")):
            with weights.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    def compare(self, data: str, results: Sequence[EvaluationResult]) -> list[Comparison]:
        """Compare every system on a data set with the first one."""
        systems = {result.system: result.hypotheses or () for result in results}
        if len(systems) < 2:
            return []
        references = [example.references for example in self.corpora[data]]
        metrics = self.recipe.evaluation.metrics
        return compare_systems(systems, references, metrics=metrics, data=data, on_progress=self._on_progress)

    def _stored(self, file: Path, made_from: str) -> EvaluationResult | None:
        """Return the result of an earlier evaluation; None if there is none, it has other inputs, or it is broken."""
        if not (file.exists() and scores_file(file).exists()):
            return None
        before = made_from_file(file)
        if not before.exists() or before.read_text(encoding="utf-8", errors="replace") != made_from:
            self.say(f"{file} was made from other data, settings or weights than those of now; evaluating again")
            return None
        try:
            result = EvaluationResult.from_json(file.read_text(encoding="utf-8", errors="replace"), source=str(file))
            if len(read_scores(scores_file(file))) == result.num_sentences:
                return result
            broken = scores_file(file)
        except UserError:
            broken = file
        except ValueError:
            broken = scores_file(file)
        self.say(f"{broken} is {'broken' if broken.stat().st_size else 'empty'}; evaluating again")
        return None

    def _on_progress(self, metric: MetricSpec, done: int) -> None:
        if not done:
            self.say(metric.slow_notice)


def validation_decoding(recipe: Recipe, stage: Stage) -> Mapping[str, Any]:
    """Return how validation decodes the model of a stage: ``validation.decoding``, or the first one of the stage.

    A decoding is passed over that needs a refinement network where the stage trains none, or takes no step with the one
    that it trains. If none is left, it is the model's own default, or one step with the network in training.
    """
    known = recipe.evaluation.decodings
    chosen = recipe.validation.decoding
    names = [*([] if chosen is None else [chosen]), *(recipe.decodings_of(stage) or known)]
    if stage.refiner is None:
        fitting = [known[name] for name in names if _learned_steps(known[name]) is None]
        return fitting[0] if fitting else {}
    fitting = [known[name] for name in names if _learned_steps(known[name])]
    return fitting[0] if fitting else {"decoder": "latent_refinement", "steps": 1}


def _learned_steps(decoding: Mapping[str, Any]) -> int | None:
    """Return how many steps a decoding takes with a refinement network, None if it needs no such network."""
    decoder = decoding.get("decoder")
    if decoder not in ("latent_refinement", "latent_search"):
        return None
    settings = {"refinement": "learned", **DECODERS[decoder].options, **decoding}
    return int(settings["steps"]) if settings["refinement"] == "learned" else None


def made_from_file(file: Path) -> Path:
    """Return the file beside an evaluation that has the digest of its inputs."""
    return file.with_suffix(".made_from")


def scores_file(file: Path) -> Path:
    """Return the file beside an evaluation that has the log-probability and the length of every output."""
    return file.with_suffix(".scores.jsonl")


def read_scores(path: Path) -> list[tuple[float, int]]:
    """Return log-probability, in nats, and length, in tokens, of every output.

    Raises:
        ValueError: If the file is broken.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [(float(row["log_prob"]), int(row["num_tokens"])) for row in rows]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} has a line without scores") from error


def num_candidates(decoder: str, options: Mapping[str, Any]) -> int:
    """Return how many candidates a decoder has that a rescorer can choose from; 1 where it takes none.

    Example:
        >>> num_candidates("argmax", {"length_beam": 3}), num_candidates("ctc_prefix_beam", {})
        (3, 10)
    """
    if not DECODERS[decoder].takes_rescorer:
        return 1
    settings = {**DECODERS[decoder].options, **options}
    return math.prod(settings.get(name, 1) for name in ("length_beam", "num_samples", "beam_size"))


def recipe_rescorer(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Rescorer | None:
    """Load the rescorer that a recipe names, if it names one.

    Raises:
        UserError: If it cannot be loaded, or does not fit the run's tokenizer.
    """
    name = recipe.evaluation.rescorer
    if name is None:
        return None
    try:
        return load_rescorer(name, tokenizer=tokenizer)
    except (UserError, ValueError) as error:
        raise UserError(f"{recipe.place_of('evaluation', 'rescorer')}: `rescorer` {name}: {error}") from error
