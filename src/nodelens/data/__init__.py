"""Real data sets in, batches out."""

from nodelens.data.augment import Augmentation, augment, mix, normalise
from nodelens.data.datasets import ImageSet, holdout, load_images
from nodelens.data.draws import Draws, draws_of
from nodelens.data.examples import Examples
from nodelens.data.lookup import is_at_hand
from nodelens.data.normalisation import Normalisation, normalisation_of

__all__ = [
    "Augmentation",
    "Draws",
    "Examples",
    "ImageSet",
    "Normalisation",
    "augment",
    "draws_of",
    "holdout",
    "is_at_hand",
    "load_images",
    "mix",
    "normalisation_of",
    "normalise",
]
