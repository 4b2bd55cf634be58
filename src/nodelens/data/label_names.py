"""What labels are called where a data set only numbers them."""

from __future__ import annotations

from collections.abc import Sequence


def names_of_labels(data: str, names: Sequence[str]) -> tuple[str, ...]:
    """The label names of a data set; copies of Flowers-102 number them, by the categories of its authors.

    Args:
        data: the data set, as it was asked for.
        names: of the files.

    >>> names_of_labels("flowers102:cct", [str(category) for category in range(1, 103)])[28]
    'artichoke'
    >>> names_of_labels("photos", ["1", "2"])
    ('1', '2')
    """
    numbered = [str(category) for category in range(1, 103)]
    if "flowers" not in data.lower() or list(names) != numbered:
        return tuple(names)
    from torchvision.datasets import Flowers102

    return tuple(Flowers102.classes)
