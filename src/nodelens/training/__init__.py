"""Training a network."""

from nodelens.training.precision import resolve_precision
from nodelens.training.recipe import RECIPES, Recipe, recipe
from nodelens.training.train import TrainSettings, accuracy, train

__all__ = ["RECIPES", "Recipe", "TrainSettings", "accuracy", "recipe", "resolve_precision", "train"]
