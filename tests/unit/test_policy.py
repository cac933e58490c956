"""policy.py: who may load what, and every key that would open or run something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pgml_transform import policy, task
from pgml_transform.errors import NotAllowed
from pgml_transform.policy import Policy, Rule

ANYBODY = Policy()
SUPERUSER = Policy(superuser=True)


def check(keywords: dict[str, Any], of: Policy = ANYBODY) -> None:
    """Check a task with these keywords."""
    policy.check_task(task.parse(json.dumps({"task": "fill-mask", **keywords})), of)


def refused(keywords: dict[str, Any], of: Policy = ANYBODY) -> NotAllowed:
    """The error that these keywords get."""
    with pytest.raises(NotAllowed) as caught:
        check(keywords, of)
    return caught.value


@pytest.mark.parametrize("model", ["gpt2", "org/model", "Qwen/Qwen2.5-0.5B", "a/b_c.d-e"])
def test_without_rules_hub_models_are_allowed(model: str) -> None:
    """An empty table allows every model of the hub, to everybody."""
    check({"model": model})


def test_with_rules_only_what_matches_is_allowed() -> None:
    """A table with rows allows the models that match one of them, and no other, not even to superusers."""
    of = Policy((Rule("Qwen/*"), Rule("org/model")), superuser=True)

    check({"model": "Qwen/Qwen2.5-0.5B"}, of)
    check({"model": "org/model"}, of)
    error = refused({"model": "org/other"}, of)
    assert str(error) == 'model "org/other" is not allowed'
    assert error.detail == "No pattern in pgml.allowed_models matches it."
    assert error.hint == "an administrator can allow it: INSERT INTO pgml.allowed_models (pattern) VALUES ('org/other')"
    assert str(refused({"model": "qwen/x"}, of)) == 'model "qwen/x" is not allowed'


def test_the_default_model_is_checked_too() -> None:
    """A task without a model names its default model, and policy sees it."""
    assert str(refused({}, Policy((Rule("Qwen/*"),)))) == 'model "distilbert/distilroberta-base" is not allowed'


def test_directories_are_for_superusers_or_rules(tmp_path: Path) -> None:
    """A directory of the server needs a superuser or a rule that matches its real path, through every link."""
    real = tmp_path / "model"
    real.mkdir()
    link = tmp_path / "link"
    link.symlink_to(real)

    check({"model": str(real)}, SUPERUSER)
    check({"model": str(link)}, Policy((Rule(f"{tmp_path}/model"),)))
    assert str(refused({"model": str(real)})) == f'model "{real}" is a directory of the server'
    assert str(refused({"model": str(link)}, Policy((Rule(f"{tmp_path}/link"),)))) == f'model "{real}" is not allowed'


@pytest.mark.parametrize(
    "model", ["../x", "./x", "a/b/c", "a b", "", "https://x/y", "a/../b", "~/x", "a/b\n", "\uff41/b", "x/"]
)
def test_what_is_no_name_of_the_hub_is_refused(model: str) -> None:
    """Relative paths, addresses, look-alikes and the rest are no models."""
    with pytest.raises(NotAllowed) as caught:
        policy.check_task(task.Task("fill-mask", model), SUPERUSER)

    assert str(caught.value) == f'"{model}" is neither a model of the hub nor an absolute path'


def test_a_path_in_the_data_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub id that is also a path below the working directory would be read as that path."""
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)

    assert str(refused({"model": "base"}, SUPERUSER)) == '"base" names a path in the data directory'


def test_remote_code_needs_a_rule_that_says_so() -> None:
    """trust_remote_code is for models of a rule that has it, not for superusers, and not when nested."""
    check({"model": "org/model", "trust_remote_code": True}, Policy((Rule("org/*", trust_remote_code=True),)))
    for of in (ANYBODY, SUPERUSER, Policy((Rule("org/*"),))):
        error = refused({"model": "org/model", "trust_remote_code": True}, of)
        assert str(error) == '"trust_remote_code" is not allowed for model "org/model"'
    assert str(refused({"model": "org/model", "model_kwargs": {"trust_remote_code": True}})) == (
        '"trust_remote_code" is not allowed for model "org/model"'
    )


@pytest.mark.parametrize("key", ["tokenizer", "dataset", "cache_dir"])
def test_a_quantization_names_no_other_place(key: str) -> None:
    """Calibration would open the repositories and paths that a configuration names."""
    config = {"quant_method": "gptq", "bits": 4, key: "x/y"}

    assert str(refused({"quantization_config": config}, SUPERUSER)) == f'"{key}" is not allowed in quantization_config'


def test_another_repositorys_tokenizer_is_checked_as_a_model() -> None:
    """The tokenizer that a task names has to be allowed as its model has."""
    of = Policy((Rule("org/*"),))

    check({"model": "org/model", "tokenizer": "org/other"}, of)
    assert str(refused({"model": "org/model", "tokenizer": "evil/other"}, of)) == 'model "evil/other" is not allowed'


@pytest.mark.parametrize("key", sorted(policy.REFUSED))
def test_refused_keys(key: str) -> None:
    """Each key of the list is refused in the task, nested in it, in args, and nested in args, with its reason."""
    for keywords in ({key: "x"}, {"model_kwargs": {key: "x"}}, {"generate_kwargs": {key: "x"}}, {"a": [{key: "x"}]}):
        error = refused(keywords, SUPERUSER)
        assert str(error) == f'"{key}" is not allowed in the task'
        assert error.detail == f"Here, {policy.REFUSED[key]}."
    for arguments in ({key: "x"}, {"tokenizer_kwargs": {key: "x"}}):
        with pytest.raises(NotAllowed) as caught:
            policy.check_arguments(json.dumps(arguments))
        assert str(caught.value) == f'"{key}" is not allowed in args'


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"subfolder": "../x"}, '"subfolder" is "../x"'),
        ({"subfolder": "/etc"}, '"subfolder" is "/etc"'),
        ({"variant": "../../x"}, '"variant" is "../../x"'),
        ({"revision": "/etc/hostname"}, '"revision" is "/etc/hostname"'),
        ({"revision": "../../refs/main"}, '"revision" is "../../refs/main"'),
        ({"model": "a/b", "code_revision": "../x"}, '"code_revision" is "../x"'),
        ({"attn_implementation": "evil/kernel"}, '"attn_implementation" is "evil/kernel"'),
        ({"attn_implementation": {"": "evil/kernel"}}, '"attn_implementation" is {"": "evil/kernel"}'),
        ({"use_safetensors": False}, '"use_safetensors" is false'),
    ],
)
def test_values_that_lead_outside_are_refused(keywords: dict[str, Any], message: str) -> None:
    """A keyword that is taken may still not name a path outside the repository, a kernel of the hub, or pickles."""
    assert message == str(refused(keywords, SUPERUSER))
