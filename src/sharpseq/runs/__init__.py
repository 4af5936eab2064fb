"""From a recipe to a run folder: stages, resuming, evaluation and report."""

from sharpseq.runs.run import RunResult, run_recipe

__all__ = ["RunResult", "run_recipe"]
