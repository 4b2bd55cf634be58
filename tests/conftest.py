"""Shapes in signatures are enforced while the tests run (jaxtyping with beartype)."""

from jaxtyping import install_import_hook

install_import_hook("nodelens", "beartype.beartype")
