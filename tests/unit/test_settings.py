"""settings.py: the table, its values and who may change them."""

from __future__ import annotations

import pytest

from pgml_transform import settings
from pgml_transform.errors import InvalidSetting


def test_defaults() -> None:
    """Nothing configured and nothing SET gives the defaults of the table."""
    assert settings.in_force({}, {}) == settings.Settings()


def test_a_preference_can_be_set_and_a_protection_can_not() -> None:
    """What a session SETs counts for preferences alone; what is configured counts for both."""
    values = settings.in_force({"device": "cpu", "max_pipelines": "3"}, {"device": "cuda:1", "max_pipelines": "99"})

    assert (values.device, values.max_pipelines) == ("cuda:1", 3)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("memory_limit", "8GB", 8 << 30),
        ("memory_limit", "512 mb", 512 << 20),
        ("memory_limit", "1000", 1000),
        ("memory_limit", "", None),
        ("max_pipelines", "1", 1),
        ("offline", "on", True),
        ("offline", "FALSE", False),
        ("hub_cache", "/srv/models", "/srv/models"),
        ("hub_cache", "", None),
    ],
)
def test_values(name: str, text: str, value: object) -> None:
    """Each type has its words."""
    assert settings.parse(settings.BY_NAME[name], text) == value


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("memory_limit", "much", "write a number and a unit: kB, MB, GB or TB"),
        ("memory_limit", "0", "write a number and a unit: kB, MB, GB or TB"),
        ("memory_limit", "-5GB", "write a number and a unit: kB, MB, GB or TB"),
        ("max_pipelines", "0", "write a whole number from 1 up"),
        ("max_pipelines", "²", "write a whole number from 1 up"),
        ("offline", "maybe", "write on or off"),
    ],
)
def test_bad_values(name: str, text: str, hint: str) -> None:
    """A value that the type does not have is an error with the value, the meaning and the words."""
    with pytest.raises(InvalidSetting) as caught:
        settings.parse(settings.BY_NAME[name], text)

    assert str(caught.value) == f'invalid value for pgml.{name}: "{text}"'
    assert caught.value.hint == hint


def test_names() -> None:
    """A setting is found with its prefix or without; no other name is."""
    assert settings.find("pgml.device") is settings.find("device")
    with pytest.raises(InvalidSetting, match=r'^unknown setting "pgml\.venv"$'):
        settings.find("pgml.venv")
