"""Recipes: one YAML file describes a run. Importing this package loads nothing heavy."""

from sharpseq.recipe.catalogue import RecipeEntry, find_recipe, shipped_recipes
from sharpseq.recipe.loading import dump_recipe, parse_recipe, read_recipe
from sharpseq.recipe.schema import Recipe
from sharpseq.recipe.stages import Stage
from sharpseq.recipe.yaml_text import read_value

__all__ = [
    "Recipe",
    "RecipeEntry",
    "Stage",
    "dump_recipe",
    "find_recipe",
    "parse_recipe",
    "read_recipe",
    "read_value",
    "shipped_recipes",
]
