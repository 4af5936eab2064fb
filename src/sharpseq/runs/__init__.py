"""From a recipe to a run folder: stages, resuming, evaluation and report."""

from sharpseq.runs.recipe_methods import load_recipe
from sharpseq.runs.run import RunResult, run_recipe

__all__ = ["RunResult", "load_recipe", "run_recipe"]
