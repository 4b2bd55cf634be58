"""Texts as a network reads them: numbers of tokens.

A network's tokeniser lies in its checkpoint, so that nothing else has to be kept beside its weights. Its rules are
those of the package `tokenizers`; one for a network of our own is learnt from the words of the training texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import Tensor

from nodelens.data.examples import Examples
from nodelens.data.lookup import find_texts
from nodelens.errors import InputError

PADDING, UNKNOWN, FIRST, LAST = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
"""Tokens of a tokeniser that was learnt: what fills up a short text, a word not learnt, and the two ends of a text."""
LEAST_COUNT = 2
"""A word that occurs less often is not learnt."""
LONGEST = 512
"""Tokens of a text; of a longer one the first are read."""


@dataclass(frozen=True)
class Tokeniser:
    """How texts become numbers.

    Attributes:
        definition: the rules, as the package `tokenizers` writes them (JSON).
        padding: the number that fills up a short text.
    """

    definition: str
    padding: int = 0

    def __post_init__(self) -> None:
        try:
            _ = self._rules
        except InputError:
            raise
        except Exception as error:  # the package's own, of no particular kind
            raise InputError(f"the checkpoint's tokeniser is damaged: {error}") from error

    @cached_property
    def _rules(self) -> Any:
        rules = _package().Tokenizer.from_str(self.definition)
        rules.no_padding()
        rules.no_truncation()
        return rules

    @property
    def size(self) -> int:
        """Number of different tokens."""
        return int(self._rules.get_vocab_size())

    def tokens(self, texts: Sequence[str], length: int) -> Int64[Tensor, "text {length}"]:
        """The numbers of each text: the first `length` of a long one, a short one filled up.

        Raises:
            InputError: a text in which the tokeniser finds nothing.
        """
        return self._filled(self._numbers(texts, length), length)

    def fitted(self, texts: Sequence[str], most: int) -> Int64[Tensor, "text length"]:
        """The same, no longer than the longest of these texts.

        Args:
            most: tokens of the longest text at most.
        """
        numbers = self._numbers(texts, most)
        return self._filled(numbers, max(map(len, numbers)))

    def _numbers(self, texts: Sequence[str], most: int) -> list[list[int]]:
        self._rules.enable_truncation(most)
        try:
            return [one.ids for one in self._rules.encode_batch(list(texts))]
        finally:
            self._rules.no_truncation()

    def _filled(self, numbers: Sequence[Sequence[int]], length: int) -> Int64[Tensor, "text {length}"]:
        if not all(numbers):
            raise InputError("the tokeniser finds nothing in one of the texts; leave out empty ones")
        found = torch.full((len(numbers), length), self.padding)
        for row, one in zip(found, numbers, strict=True):
            row[: len(one)] = torch.tensor(one)
        return found

    def metadata(self) -> dict[str, str]:
        """Metadata of a checkpoint."""
        return {"tokenizer": self.definition, "padding": str(self.padding)}


def _package() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise InputError('texts need the package tokenizers; pip install "nodelens[text]"') from error
    return tokenizers


def tokeniser_from(metadata: Mapping[str, str]) -> Tokeniser | None:
    """The tokeniser that a checkpoint brings along; None where its network reads no texts."""
    if "tokenizer" not in metadata:
        return None
    return Tokeniser(metadata["tokenizer"], int(metadata.get("padding", 0)))


def learnt_tokeniser(texts: Sequence[str]) -> Tokeniser:
    """One token for every word, in small letters, and every mark that occurs at least twice in these texts.

    >>> rules = learnt_tokeniser(["Where is my card?", "Where is my money?"])
    >>> rules.size, rules.tokens(["My card is lost!"], length=8).tolist()
    (8, [[2, 6, 1, 5, 1, 1, 3, 0]])
    """
    package = _package()
    rules = package.Tokenizer(package.models.WordLevel(unk_token=UNKNOWN))
    rules.normalizer = package.normalizers.BertNormalizer()
    rules.pre_tokenizer = package.pre_tokenizers.BertPreTokenizer()
    special = [PADDING, UNKNOWN, FIRST, LAST]
    # A network of another vocabulary would be another one: every word is kept, however many there are.
    trainer = package.trainers.WordLevelTrainer(
        vocab_size=2**31, min_frequency=LEAST_COUNT, special_tokens=special, show_progress=False
    )
    rules.train_from_iterator(texts, trainer)
    ends = [(token, rules.token_to_id(token)) for token in (FIRST, LAST)]
    rules.post_processor = package.processors.TemplateProcessing(single=f"{FIRST} $A {LAST}", special_tokens=ends)
    return Tokeniser(rules.to_str(), rules.token_to_id(PADDING))


@dataclass(frozen=True, eq=False, kw_only=True)
class TextExamples(Examples):
    """Texts with their labels, as tokens.

    Attributes:
        texts: what the tokens stand for.
        tokeniser: what made them of the texts.
    """

    texts: Sequence[str]
    tokeniser: Tokeniser

    def take(self, positions: Int[np.ndarray, " batch"] | Int[Tensor, " batch"], split_name: str) -> TextExamples:
        """The texts at these positions, in their order."""
        taken = super().take(positions, split_name)
        assert isinstance(taken, TextExamples)
        return replace(taken, texts=tuple(self.texts[i] for i in torch.as_tensor(positions).tolist()))


@dataclass(frozen=True)
class Texts:
    """One split of a text data set.

    Attributes:
        labels: of each text.
        superclass_names: empty when there are none.
        superclass_of_label: an index into `superclass_names` per label; empty when there are none.
    """

    name: str
    split: str
    texts: tuple[str, ...]
    labels: Int64[Tensor, " text"]
    label_names: tuple[str, ...]
    superclass_names: tuple[str, ...] = ()
    superclass_of_label: tuple[int, ...] = ()

    def examples(self, tokens: Int64[Tensor, "text token"], tokeniser: Tokeniser) -> TextExamples:
        """The texts as a network reads them: by the tokens that a tokeniser made of them."""
        return TextExamples(
            tokens,
            self.labels,
            self.label_names,
            self.split,
            self.name,
            self.superclass_names,
            self.superclass_of_label,
            texts=self.texts,
            tokeniser=tokeniser,
        )


def load_texts(name: str, split: str) -> Texts:
    """Loads one split of texts.

    Args:
        name, split: as `nodelens.data.lookup.find_texts` takes them.

    Raises:
        InputError: no such data set or split, an empty split, a row without text, labels out of range.
    """
    source = find_texts(name, split)
    column, texts = source.labels(), tuple(source.texts())
    if not texts:
        raise InputError(f"{name} ({split}) is empty; give a split with texts")
    labels = torch.from_numpy(column.values)
    return Texts(name, split, texts, labels, column.names, column.superclass_names, column.superclass_of_label)


def check_no_images(image_size: int | None = None, skip_undecodable: bool = False) -> None:
    """
    Raises:
        InputError: something is asked for that only images have.
    """
    if image_size is not None:
        raise InputError("texts have no size in pixels; leave out --image-size")
    if skip_undecodable:
        raise InputError("texts are not decoded as images are; leave out --skip-undecodable")


def text_splits(
    name: str, splits: Sequence[str], tokeniser: Tokeniser | None = None, most: int = LONGEST
) -> list[TextExamples]:
    """Splits of a data set as a network reads them: all as long as the first one's longest text.

    Args:
        splits: the first is the one that is learnt.
        tokeniser: of the network; by default one is learnt.
        most: tokens that the network reads at most.

    Raises:
        InputError: what `load_texts` raises.
    """
    learnt, *others = (load_texts(name, split) for split in splits)
    tokeniser = tokeniser or learnt_tokeniser(learnt.texts)
    tokens = tokeniser.fitted(learnt.texts, most)
    alike = [(texts, tokeniser.tokens(texts.texts, tokens.shape[1])) for texts in others]
    return [texts.examples(found, tokeniser) for texts, found in [(learnt, tokens), *alike]]
