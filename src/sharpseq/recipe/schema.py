"""The schema of a recipe: one YAML file that describes a run from data to report."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, PrivateAttr, Tag, field_validator, model_validator

from sharpseq.errors import SettingError, nearest
from sharpseq.recipe.corpus_sections import Corpus, Preferences
from sharpseq.recipe.sections import Section, check_name
from sharpseq.recipe.stages import PRETRAINED, Stage
from sharpseq.recipe.yaml_text import Places

# Data


class Limits(Section):
    """Which training examples are kept; lengths in tokens. What is dropped is reported."""

    max_source_length: int = Field(128, ge=1)
    max_target_length: int = Field(128, ge=1)
    max_length_ratio: float | None = Field(None, ge=1)


class PreferenceData(Section):
    """What stages with an objective of preferences learn from, and are validated on."""

    train: Preferences
    validation: Preferences


class Data(Section):
    """Corpora. Relative paths start at ``folder``; without it, or with ``./`` before them, at the current folder.

    With ``stream: true`` the training corpus is read during training and never held in memory as a whole: it is
    shuffled within buffers of 20,000 examples, the tokenizer is trained on the first 200,000, and stages are counted in
    ``max_steps``, not in epochs.
    """

    folder: str | None = None
    train: Corpus
    validation: Corpus
    test: dict[str, Corpus] = Field({})
    preferences: PreferenceData | None = None
    limits: Limits = Limits()
    stream: bool = False

    @field_validator("test")
    @classmethod
    def _names_make_files(cls, test: dict[str, Any]) -> dict[str, Any]:
        for name in test:
            check_name(name, at=name)
            if name in ("train", "validation"):
                raise SettingError(f"`{name}` is the corpus beside `test`; choose another name", name)
        return test


class Tokenizer(Section):
    """A tokenizer trained on the training corpus, or an existing one by Hub id or folder."""

    kind: Literal["bpe", "unigram", "characters", "pretrained"] = "bpe"
    vocab_size: int | None = Field(None, ge=8)
    symbols: str | None = None
    source_lowercase: bool = False
    unicode_normalization: Literal["nfc", "none"] = "nfc"
    name: str | None = None
    source_language: str | None = None
    target_language: str | None = None

    @model_validator(mode="after")
    def _fits_kind(self) -> Tokenizer:
        if (self.kind == "pretrained") != (self.name is not None):
            raise ValueError("`name` goes with `kind: pretrained`, and only with it")
        if self.kind != "pretrained" and (self.source_language or self.target_language):
            raise ValueError("`source_language` and `target_language` go with `kind: pretrained` only")
        if self.kind in ("bpe", "unigram") and self.vocab_size is None:
            raise ValueError(f"`vocab_size` must be given for `kind: {self.kind}`")
        if self.symbols is not None:
            try:
                re.compile(self.symbols)
            except re.error as error:
                raise ValueError(f"`symbols` must be a regular expression; {error}") from error
        return self


# Models

LATENT = "latent_nat"
"""The family that can have a refinement network."""


class Family(Section):
    """A model with random weights: its family, and the sizes that the family declares; `sharpseq.runs` checks them."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(min_length=1)

    @property
    def sizes(self) -> dict[str, Any]:
        """The family's parameters as the recipe gives them."""
        return self.model_dump(exclude={"type"})


class Lora(Section):
    """Train low-rank adapters and leave the pretrained weights as they are."""

    r: int = Field(16, ge=1)
    lora_alpha: float = Field(32.0, gt=0)
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


class PromptTemplate(Section):
    """The text around a source in the input of a causal language model, ``{source}`` in the template."""

    kind: Literal["plain", "chat"]
    template: str = "{source}"
    system: str | None = None

    @model_validator(mode="after")
    def _fits_kind(self) -> PromptTemplate:
        if self.template.count("{source}") != 1:
            message = f"`template` must hold {{source}} exactly once; got {self.template!r}"
            raise SettingError(message, "template")
        if self.system is not None and self.kind != "chat":
            raise SettingError("`system` goes with `kind: chat` only", "system")
        return self


class Pretrained(Section):
    """A Hugging Face language model, causal or seq2seq, trained further from its pretrained weights."""

    type: Literal["hugging_face"] = "hugging_face"
    pretrained: str = Field(min_length=1)
    lora: Lora | None = None
    prompt: PromptTemplate | None = None
    source_language: str | None = None
    target_language: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


MODEL_SECTIONS = ("family", "hugging_face")
"""The tags of the two kinds of models in pydantic's errors."""


def _section_of_model(model: object) -> str:
    if isinstance(model, dict):
        return "hugging_face" if "pretrained" in model or model.get("type") == "hugging_face" else "family"
    return "hugging_face" if isinstance(model, Pretrained) else "family"


Model = Annotated[
    Annotated[Family, Tag("family")] | Annotated[Pretrained, Tag("hugging_face")], Discriminator(_section_of_model)
]


class NgramLanguageModel(Section):
    """An n-gram model of the training targets that searches of one-pass models can weigh in."""

    order: int = Field(4, ge=2)


# The run


class Validation(Section):
    """What selects the best checkpoint: a metric of decoded validation sentences; by default the validation loss.

    Sentences are decoded as the evaluation at the end does, with the ``decoding`` of that name in
    ``evaluation.decodings``; by default the first one of the stage.
    """

    metric: str | None = None
    decoding: str | None = None
    num_examples: int | None = Field(None, ge=1)


class Evaluation(Section):
    """What is measured at the end: each evaluated stage, decoded each way, on validation and every test set."""

    metrics: list[str] = Field(["bleu", "chrf"])
    decodings: dict[str, dict[str, Any]] = Field({"default": {}})
    batch_tokens: int = Field(4000, ge=1)
    bf16: bool = False
    latency_sentences: int = Field(100, ge=0)
    rescorer: str | None = Field(None, min_length=1)

    @field_validator("decodings")
    @classmethod
    def _names_make_files(cls, decodings: dict[str, Any]) -> dict[str, Any]:
        for name in decodings:
            check_name(name, at=name)
        return decodings


class Recipe(Section):
    """A run from data to report."""

    name: str
    description: str = ""
    seed: int = Field(1, ge=0)
    data: Data
    tokenizer: Tokenizer | None = None
    model: Model
    language_model: NgramLanguageModel | None = None
    stages: list[Stage] = Field(min_length=1)
    validation: Validation = Validation()
    evaluation: Evaluation = Evaluation()
    final: str | None = None

    _places: Places = PrivateAttr(default_factory=Places)

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        return check_name(name)

    @model_validator(mode="after")
    def _tokenizer_fits_the_model(self) -> Recipe:
        if self.tokenizer is None and not isinstance(self.model, Pretrained):
            raise ValueError("`tokenizer` is missing; add it")
        if isinstance(self.model, Pretrained) and self.tokenizer is not None and self.tokenizer.kind != "pretrained":
            kind = self.tokenizer.kind
            message = f"a pretrained model cannot use a new tokenizer; leave `tokenizer` out, got {kind!r}"
            raise SettingError(message, "tokenizer", "kind")
        for key in ("source_language", "target_language"):
            if isinstance(self.model, Pretrained) and self.tokenizer is not None and getattr(self.tokenizer, key):
                raise SettingError(f"write the `{key}` of a pretrained model into `model`", "tokenizer", key)
        return self

    @model_validator(mode="after")
    def _averages_fit_the_model(self) -> Recipe:
        has_adapters = isinstance(self.model, Pretrained) and self.model.lora is not None
        for position, stage in enumerate(self.stages):
            averages = {"average_checkpoints": stage.average_checkpoints, "ema_decay": stage.training.get("ema_decay")}
            paths = {"average_checkpoints": (), "ema_decay": ("training",)}
            for name in (name for name, value in averages.items() if value and has_adapters):
                message = (
                    f"`{name}` does not go with `model.lora`: the mean of the factors is not the mean of their products"
                )
                raise SettingError(message, "stages", position, *paths[name], name)
            if all(averages.values()):
                message = "`average_checkpoints` does not go with `ema_decay`, which averages already; leave one out"
                raise SettingError(message, "stages", position, "average_checkpoints")
        return self

    @model_validator(mode="after")
    def _stages_fit_together(self) -> Recipe:
        seen: list[str] = []
        always = [PRETRAINED] if isinstance(self.model, Pretrained) else []
        for position, stage in enumerate(self.stages):
            if stage.name in seen:
                message = f"`stages` has two named {stage.name!r}; give each its own name"
                raise SettingError(message, "stages", position, "name")
            if stage.name in always:
                message = f"{PRETRAINED!r} is what `start_from` calls the pretrained weights; choose another name"
                raise SettingError(message, "stages", position, "name")
            if stage.start_from is not None and stage.start_from not in [*always, *seen]:
                known = [*always, *seen]
                fix = nearest(stage.start_from, known) if known else "this is the first one"
                raise SettingError(f"`start_from` must name an earlier stage; {fix}", "stages", position, "start_from")
            seen.append(stage.name)
        if self.final is not None and self.final not in seen:
            raise SettingError(f"`final` must name a stage; {nearest(self.final, seen)}", "final")
        return self

    @model_validator(mode="after")
    def _refiners_have_a_model(self) -> Recipe:
        translation_model: dict[str, str] = {}
        for position, stage in enumerate(self.stages):
            start = self.start_of(stage)
            if stage.refiner is not None and self.model.type != LATENT:
                message = f"`gradient_matching` needs `model.type: latent_nat`; got {self.model.type}"
                raise SettingError(message, "stages", position, "objective", "name")
            if stage.refiner is not None and start is None:
                message = "`gradient_matching` refines a trained model; put the stage that trains it first"
                raise SettingError(message, "stages", position, "objective", "name")
            if stage.refiner is None and start is not None and translation_model[start] != start:
                message = (
                    f"`start_from` leads to {start!r}, whose refinement network fits no other weights; start from "
                    f"{translation_model[start]!r}, which has the same without it"
                )
                raise SettingError(message, "stages", position, "start_from")
            keeps_weights = stage.refiner is not None and start is not None
            translation_model[stage.name] = translation_model[str(start)] if keeps_weights else stage.name
        return self

    @model_validator(mode="after")
    def _decodings_are_known(self) -> Recipe:
        known = list(self.evaluation.decodings)
        chosen = self.validation.decoding
        if chosen is not None and chosen not in known:
            message = f"`decoding` must name one of `evaluation.decodings`; {nearest(chosen, known)}"
            raise SettingError(message, "validation", "decoding")
        for position, stage in enumerate(self.stages):
            for index, name in enumerate(stage.decodings or ()):
                path = ("stages", position, "decodings", index)
                if name not in known:
                    message = f"`decodings` must name some of `evaluation.decodings`; {nearest(name, known)}"
                    raise SettingError(message, *path)
                if name in (stage.decodings or ())[:index]:
                    raise SettingError(f"`decodings` has {name!r} twice; leave one out", *path)
        return self

    @property
    def unicode_normalization(self) -> Literal["nfc", "none"]:
        """How texts are normalised: as the tokenizer says, NFC for a pretrained model's own."""
        return "nfc" if self.tokenizer is None else self.tokenizer.unicode_normalization

    def place_of(self, *path: str | int) -> str:
        """Return the place of a key, for errors that are found later: ``g2p.yaml:31``, ``--set …``, or the name."""
        return self._places.of(path) or f"recipe {self.name}"

    @property
    def final_stage(self) -> str:
        """The stage whose model is the run's: ``final``, or the last one."""
        return self.final or self.stages[-1].name

    def decodings_of(self, stage: Stage) -> dict[str, dict[str, Any]]:
        """Return how the model of a stage is decoded in the end, by name: its ``decodings``, or all of them."""
        names = self.evaluation.decodings if stage.decodings is None else stage.decodings
        return {name: self.evaluation.decodings[name] for name in names} if stage.evaluate else {}

    def start_of(self, stage: Stage) -> str | None:
        """Return the stage that another one starts from: ``start_from``, or the one before it; None for a first one.

        With a pretrained model, ``start_from: pretrained`` makes any stage start as the first one does.
        """
        if stage.start_from is not None:
            return None if self._is_pretrained(stage.start_from) else stage.start_from
        position = [other.name for other in self.stages].index(stage.name)
        return self.stages[position - 1].name if position else None

    def _is_pretrained(self, start: str) -> bool:
        return start == PRETRAINED and isinstance(self.model, Pretrained)
