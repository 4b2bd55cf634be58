"""Training a network."""

from nodelens.training.assigned import Assignment, assigned_masks
from nodelens.training.enforced import EnforcedHeads, enforced_heads
from nodelens.training.precision import resolve_precision
from nodelens.training.recipe import RECIPES, Recipe, recipe
from nodelens.training.settings import TrainSettings
from nodelens.training.train import accuracy, train

__all__ = [
    "RECIPES",
    "Assignment",
    "EnforcedHeads",
    "Recipe",
    "TrainSettings",
    "accuracy",
    "assigned_masks",
    "enforced_heads",
    "recipe",
    "resolve_precision",
    "train",
]
