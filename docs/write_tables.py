"""Writes the tables of the documents that follow from declarations: ``python docs/write_tables.py``.

A table lies between ``<!-- table: NAME -->`` and ``<!-- /table -->``. The tests fail where one is not up to date.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from sharpseq.declarations import SCHEDULES, Parameter, Schedule, parameters_of
from sharpseq.decoding import DECODERS
from sharpseq.decoding.processors import PROCESSORS
from sharpseq.divergences import DIVERGENCES, SAMPLE_DIVERGENCES, FDivergence
from sharpseq.evaluation import METRICS
from sharpseq.models import MODELS
from sharpseq.objectives import OBJECTIVES, TRANSFORMS
from sharpseq.objectives.distillation import TOKEN_DISTILLATIONS
from sharpseq.objectives.policy import POLICY_OBJECTIVES
from sharpseq.objectives.unlearning import UNLEARNING_METHODS
from sharpseq.recipe import shipped_recipes
from sharpseq.training import LOSSES
from sharpseq.training.kl_penalty import KlPenalty

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n)(?P<body>.*?)(<!-- /table -->)", re.DOTALL)
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
LISTS: Mapping[Any, str] = {Sequence: "list of numbers", Mapping: "numbers by name"}
KINDS: Mapping[str, Mapping[str, Any]] = {
    "objective": LOSSES,
    "distillation": {name: each for name, each in TOKEN_DISTILLATIONS.items() if name not in DIVERGENCES},
    "unlearning": UNLEARNING_METHODS,
    "policy": POLICY_OBJECTIVES,
    "transform": TRANSFORMS,
    "divergence": {**DIVERGENCES, **SAMPLE_DIVERGENCES},
    "schedule": SCHEDULES,
    "model": MODELS,
    "decoder": DECODERS,
    "processor": PROCESSORS,
    "metric": METRICS,
}


def kind_of(parameter: Parameter) -> str:
    """Say in words what a parameter takes."""
    setting, hint = parameter.setting, parameter.hint
    if setting.methods is not None:
        return "one of " + ", ".join(f"`{name}`" for name in setting.methods)
    kinds = get_args(hint) or (hint,)
    if get_origin(hint) is Literal:
        words = "one of " + ", ".join(f"`{value}`" for value in kinds)
    else:
        words = LISTS.get(get_origin(hint)) or WORDS[kinds[0]]
    if any(isinstance(kind, type) and issubclass(kind, Schedule) for kind in kinds):
        words += " or schedule"
    return f"{words}, {setting.range}" if setting.range else words


def default_of(parameter: Parameter) -> str:
    """Say the default as a recipe writes it."""
    default = parameter.default
    if parameter.is_required:
        return "required"
    if default is None:
        return "–"
    if hasattr(default, "declaration"):
        default = default.declaration.name
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def makes(method: Any) -> Any:
    """Return what has the parameters of a row: the class, a family's configuration or a decoder's function."""
    return getattr(method, "config", None) or getattr(method, "decode", None) or method


def declared(methods: Mapping[str, Any]) -> list[list[str]]:
    """Return name, summary and reference of each method."""
    rows = [["name", "what it is", "from"]]
    for name, method in methods.items():
        rows.append([f"`{name}`", method.declaration.summary, method.declaration.reference])
    return rows


def parameters(methods: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each parameter of each method."""
    rows = [["name", "parameter", "type", "default", "meaning"]]
    for name, method in methods.items():
        found = parameters_of(makes(method)).values()
        for each in found:
            rows.append([f"`{name}`", f"`{each.name}`", kind_of(each), default_of(each), each.setting.help])
        if not found:
            rows.append([f"`{name}`", "none", "", "", ""])
    return rows


def model_parameters() -> list[list[str]]:
    """Return a row for each parameter of a model family, those that all share once."""
    shared = set.intersection(*(set(parameters_of(family.config)) for family in MODELS.values()))
    rows = [["key", "families", "type", "default", "meaning"]]
    seen: set[str] = set()
    for name, family in MODELS.items():
        for each in parameters_of(family.config).values():
            if each.name not in seen:
                seen.add(each.name)
                families = "all" if each.name in shared else f"`{name}`"
                rows.append([f"`{each.name}`", families, kind_of(each), default_of(each), each.setting.help])
    return rows


def decoder_settings() -> list[list[str]]:
    """Return the settings of each decoder with their defaults."""
    rows = [["decoder", "settings and their defaults"]]
    for name, decoder in DECODERS.items():
        settings = ", ".join(f"`{option}={default}`" for option, default in decoder.options.items())
        rows.append([f"`{name}`", settings or "none"])
    return rows


def processors() -> list[list[str]]:
    """Return the logits processors with what they cost."""
    rows = [["name", "what it is", "passes and memory besides", "from"]]
    for name, each in PROCESSORS.items():
        rows.append([f"`{name}`", each.declaration.summary, each.cost, each.declaration.reference])
    return rows


def generators() -> list[list[str]]:
    """Return what the f of each f-divergence costs at the ends, with its defaults, and whether (f')⁻¹ exists."""
    rows = [["name", "f(0): only the model has it", "f'(∞): only the target has it", "f'(0)", "(f')⁻¹", "symmetric"]]
    for name, method in DIVERGENCES.items():
        if issubclass(method, FDivergence):
            made = method()
            properties = method.declaration.examples[0].properties
            limits = (f"{value:.3g}" for value in (made.at_zero, made.slope_at_infinity, made.slope_at_zero))
            declared = ("yes" if each in properties else "no" for each in ("inverse_exists", "symmetric"))
            rows.append([f"`{name}`", *(limit.replace("inf", "∞") for limit in limits), *declared])
    return rows


def every_method() -> list[list[str]]:
    """Return all methods with their tier, maturity, file and reference."""
    rows = [["kind", "name", "tier, maturity", "file", "from"]]
    for kind, methods in KINDS.items():
        for name, method in methods.items():
            declaration = method.declaration
            file = Path(inspect.getfile(inspect.unwrap(_source(method)))).resolve().relative_to(ROOT)
            state = f"{declaration.tier}, {declaration.maturity}"
            rows.append([kind, f"`{name}`", state, f"`{file.as_posix()}`", declaration.reference])
    return rows


def _source(method: Any) -> Any:
    made = getattr(method, "decode", None) or getattr(method, "model", None) or getattr(method, "factory", None)
    return getattr(made or method, "func", made or method)


def recipes() -> list[list[str]]:
    """Return the shipped recipes."""
    return [["name", "task"], *([f"`{entry.name}`", entry.description] for entry in shipped_recipes())]


def metrics() -> list[list[str]]:
    """Return the metrics with their units and directions."""
    better = {True: "higher", False: "lower", None: "near 1"}
    rows = [["name", "unit", "what it counts", "better", "from"]]
    for name, metric in METRICS.items():
        said = metric.declaration
        rows.append([f"`{name}`", metric.unit, said.summary, better[metric.higher_is_better], said.reference])
    return rows


TABLES = {
    "objectives": lambda: declared(OBJECTIVES),
    "objective-parameters": lambda: parameters(LOSSES),
    "transforms": lambda: declared(TRANSFORMS),
    "token-distillations": lambda: declared(TOKEN_DISTILLATIONS),
    "token-distillation-parameters": lambda: parameters(TOKEN_DISTILLATIONS),
    "unlearning-methods": lambda: declared(UNLEARNING_METHODS),
    "unlearning-parameters": lambda: parameters({"unlearning": LOSSES["unlearning"], **UNLEARNING_METHODS}),
    "demonstration-parameters": lambda: parameters(
        {name: LOSSES[name] for name in ("sequence_match", "adversarial_imitation", "direction_agreement")}
    ),
    "policy-objectives": lambda: declared(POLICY_OBJECTIVES),
    "policy-objective-parameters": lambda: parameters(POLICY_OBJECTIVES),
    "transform-parameters": lambda: parameters(TRANSFORMS),
    "divergences": lambda: declared(DIVERGENCES),
    "sample-divergences": lambda: declared(SAMPLE_DIVERGENCES),
    "divergence-parameters": lambda: parameters({**DIVERGENCES, **SAMPLE_DIVERGENCES}),
    "divergence-generators": generators,
    "schedules": lambda: declared(SCHEDULES),
    "schedule-parameters": lambda: parameters(SCHEDULES),
    "kl-parameters": lambda: parameters({"kl_penalty": KlPenalty}),
    "models": lambda: declared(MODELS),
    "model-parameters": model_parameters,
    "decoders": lambda: declared(DECODERS),
    "decoder-settings": decoder_settings,
    "decoder-parameters": lambda: parameters(DECODERS),
    "processors": processors,
    "processor-parameters": lambda: parameters(PROCESSORS),
    "metrics": metrics,
    "recipes": recipes,
    "methods": every_method,
}


def markdown(rows: Iterable[Sequence[str]]) -> str:
    """Return rows, the heads first, as a table of Markdown."""
    head, *body = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def with_tables(text: str) -> str:
    """Return a document with its tables as the declarations have them."""
    return BLOCK.sub(lambda block: f"{block[1]}\n{markdown(TABLES[block['name']]())}\n{block[4]}", text)


def main() -> None:
    """Rewrite the tables of all documents."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        if (written := with_tables(text)) != text:
            document.write_text(written, encoding="utf-8")
            print(f"wrote {document.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
