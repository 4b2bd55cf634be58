"""Real data sets in, batches out."""

from nodelens.data.augment import Augmentation, augment, mix, normalise
from nodelens.data.datasets import ImageSet, holdout, load_images
from nodelens.data.draws import Draws, draws_of
from nodelens.data.examples import Examples, Samples
from nodelens.data.lookup import is_at_hand
from nodelens.data.normalisation import Normalisation, normalisation_of
from nodelens.data.texts import TextExamples, load_texts, text_splits, tokeniser_from

__all__ = [
    "Augmentation",
    "Draws",
    "Examples",
    "ImageSet",
    "Normalisation",
    "Samples",
    "TextExamples",
    "augment",
    "draws_of",
    "holdout",
    "is_at_hand",
    "load_images",
    "load_texts",
    "mix",
    "normalisation_of",
    "normalise",
    "text_splits",
    "tokeniser_from",
]
