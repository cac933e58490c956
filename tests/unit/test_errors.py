"""errors.py: the tree, its SQLSTATEs and its docstring."""

from __future__ import annotations

import re

from pgml_transform import errors


def test_the_drawn_tree_is_the_real_one() -> None:
    """The module's docstring names every class with its SQLSTATE, and no other."""
    drawn = dict(re.findall(r"[├└]── (\w+) +(\w{5})", errors.__doc__ or ""))
    real = {
        name: value.sqlstate
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.PgmlError) and value is not errors.PgmlError
    }

    assert real == drawn


def test_every_class_says_what_it_means() -> None:
    """Each has a one-sentence docstring of its own."""
    for value in errors.PgmlError.__subclasses__():
        assert (value.__doc__ or "").endswith(".")
