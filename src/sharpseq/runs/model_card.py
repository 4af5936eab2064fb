"""The README of a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharpseq.data.hub_names import expanded_path
from sharpseq.models import MODELS
from sharpseq.recipe import Recipe, Stage, dump_recipe, schema
from sharpseq.recipe.sections import MethodChoice


def model_card(recipe: Recipe) -> str:
    """Return a model card in Markdown, with the recipe in full."""
    stages = "\n".join(
        f"{number}. `{stage.name}`, from {_start(recipe, stage)}: {_objective(stage.objective)}{_trained(stage)}"
        for number, stage in enumerate(recipe.stages, start=1)
    )
    return f"""---
{_metadata(recipe.model)}
---

# {recipe.name}

{recipe.description or "A model trained with sharpseq."}

{_origin(recipe.model)}

Stages of training; these are the weights of `{recipe.final_stage}`:

{stages}

```sh
echo "a line of text" | sharpseq generate PATH_TO_THIS_FOLDER
```

The whole recipe:

```yaml
{dump_recipe(recipe)}```
"""


def _metadata(model: schema.Model) -> str:
    if not isinstance(model, schema.Pretrained):
        return f"library_name: sharpseq\ntags: [sharpseq, {model.type}]"
    library = "peft" if model.lora else "transformers"
    lines = [f"library_name: {library}", f"tags: [sharpseq{', lora' if model.lora else ''}]"]
    # The Hub accepts only Hub ids here.
    if not Path(expanded_path(model.pretrained)).exists() and not model.pretrained.endswith(".gguf"):
        lines.append(f"base_model: {model.pretrained}")
    return "\n".join(lines)


def _origin(model: schema.Model) -> str:
    if not isinstance(model, schema.Pretrained):
        family = MODELS[model.type]
        return f"Family: {model.type} — {family.declaration.summary} ({family.declaration.reference})."
    if model.lora is None:
        return f"All weights of {model.pretrained} were trained; `from_pretrained` of transformers loads this folder."
    return (
        f"This folder holds an adapter (LoRA) of {model.pretrained}: `AutoModelForCausalLM.from_pretrained` or "
        "`AutoModelForSeq2SeqLM.from_pretrained` of transformers loads both where PEFT is installed, and "
        "`sharpseq export FOLDER PLAIN_FOLDER --to hugging_face` merges them."
    )


def _start(recipe: Recipe, stage: Stage) -> str:
    start = recipe.start_of(stage)
    if start is not None:
        return f"`{start}`"
    return "the pretrained weights" if isinstance(recipe.model, schema.Pretrained) else "random weights"


def _trained(stage: Stage) -> str:
    return "" if stage.refiner is None else f"; a refinement network ({stage.refiner.parameterization}), nothing else"


def _objective(objective: MethodChoice) -> str:
    return _in_words(objective.plain)


def _in_words(settings: Mapping[str, Any]) -> str:
    name, *values = settings.values()
    keys = list(settings)[1:]
    words = [
        f"{key} {_in_words(value) if isinstance(value, Mapping) else value}"
        for key, value in zip(keys, values, strict=True)
    ]
    return f"{name} ({', '.join(words)})" if words else str(name)
