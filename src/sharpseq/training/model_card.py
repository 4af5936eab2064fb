"""The README of a trained model."""

from __future__ import annotations

from sharpseq.models import MODELS
from sharpseq.recipe import Recipe, dump_recipe


def model_card(recipe: Recipe) -> str:
    """Return a model card in Markdown, with the recipe in full."""
    family = MODELS[recipe.model.type]
    stages = "\n".join(
        f"{number}. `{stage.name}`: {_objective(stage.objective)}"
        for number, stage in enumerate(recipe.stages, start=1)
    )
    return f"""---
library_name: sharpseq
tags: [sharpseq, {recipe.model.type}]
---

# {recipe.name}

{recipe.description or "A model trained with sharpseq."}

Family: {recipe.model.type} — {family.description} ({family.reference}).

Stages of training; these are the weights of `{recipe.final_stage}`:

{stages}

```sh
echo "a line of text" | sharpseq generate PATH_TO_THIS_FOLDER
```

The whole recipe:

```yaml
{dump_recipe(recipe)}```
"""


def _objective(objective: object) -> str:
    settings = {key: value for key, value in vars(objective).items() if key != "name" and value not in (None, False)}
    name = getattr(objective, "name", "objective")
    return f"{name} ({', '.join(f'{key} {value}' for key, value in settings.items())})"
