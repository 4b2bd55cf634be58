"""The examples in the docstrings run, in the package as it is installed."""

import doctest
import importlib
import pkgutil

import pytest

import nodelens

MODULES = ["nodelens", *(found.name for found in pkgutil.walk_packages(nodelens.__path__, "nodelens."))]
WITHOUT_EXAMPLES = {"nodelens.__main__"}  # runs the command line when it is imported


@pytest.mark.parametrize("name", [name for name in MODULES if name not in WITHOUT_EXAMPLES])
def test_examples(name: str) -> None:
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(importlib.import_module(name), optionflags=flags).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    measures = [name for name in MODULES if name.startswith("nodelens.measures.")]
    examples = [test for name in measures for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(examples) > 20
