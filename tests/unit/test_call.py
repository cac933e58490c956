"""call.py: args made into a frozen Call."""

from __future__ import annotations

import pytest

from pgml_transform import call
from pgml_transform.errors import InvalidArgument


def test_our_own_keywords_are_taken_out() -> None:
    """batch_size and seed are ours, the rest is the pipeline's, in one order."""
    asked = call.parse('{"top_k": 2, "batch_size": 8, "seed": 7, "do_sample": true}')

    assert asked == call.Call('{"do_sample":true,"top_k":2}', 8, 7)


def test_the_task_sets_defaults() -> None:
    """What the task says holds unless the call says otherwise."""
    asked = call.parse('{"top_k": 2}', '{"batch_size":4,"stride":1,"top_k":5}')

    assert asked == call.Call('{"stride":1,"top_k":2}', 4, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "args is [], not an object"),
        ("null", "args is null, not an object"),
        ('{"batch_size": 0}', '"batch_size" is 0'),
        ('{"batch_size": "8"}', '"batch_size" is "8"'),
        ('{"batch_size": true}', '"batch_size" is true'),
        ('{"seed": -1}', '"seed" is -1'),
        ('{"seed": 1.5}', '"seed" is 1.5'),
        ('{"seed": 1e30}', '"seed" is 1e+30'),
        ("{", "args is not valid JSON"),
    ],
)
def test_refused(text: str, message: str) -> None:
    """What is no object, or a bad value for our own keywords, is an error with the value."""
    with pytest.raises(InvalidArgument) as caught:
        call.parse(text)

    assert message == str(caught.value)
