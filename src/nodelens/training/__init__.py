"""Training a network."""

from nodelens.training.assigned import Assignment, assigned_masks
from nodelens.training.precision import resolve_precision
from nodelens.training.recipe import RECIPES, Recipe, recipe
from nodelens.training.train import TrainSettings, accuracy, train

__all__ = [
    "RECIPES",
    "Assignment",
    "Recipe",
    "TrainSettings",
    "accuracy",
    "assigned_masks",
    "recipe",
    "resolve_precision",
    "train",
]
