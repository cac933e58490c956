"""The shape of the package: one way, plpy in one module, nothing heavy at import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pgml_transform

PACKAGE = Path(pgml_transform.__file__).parent
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")

# What each module may import of ours. A step knows the values of the steps before it, never those after it.
MAY_IMPORT = {
    "errors": set(),
    "sizes": set(),
    "catalog": set(),
    "interrupts": set(),
    "result": set(),
    "deployments": set(),
    "values": {"errors"},
    "settings": {"errors"},
    "hardware": set(),
    "signatures": {"errors"},
    "quantization": {"errors", "values"},
    "call": {"errors", "values"},
    "task": {"catalog", "errors", "quantization", "values"},
    "policy": {"errors", "task"},
    "failures": {"errors", "policy", "quantization", "task"},
    "hub": {"errors", "failures", "settings", "task"},
    "memory": {"errors", "failures", "hardware"},
    "checkpoint": {"errors", "hub", "quantization", "settings", "task"},
    "devices": {"errors", "hardware"},
    "footprint": {"checkpoint", "quantization"},
    "placement": {
        "checkpoint",
        "devices",
        "errors",
        "footprint",
        "hardware",
        "quantization",
        "sizes",
        "task",
        "values",
    },
    "cache": {"deployments", "devices", "placement", "task"},
    "loader": {
        "checkpoint",
        "devices",
        "errors",
        "failures",
        "hub",
        "memory",
        "placement",
        "settings",
        "signatures",
        "task",
    },
    "runner": {"call", "deployments", "errors", "failures", "signatures", "values"},
    "server": {"errors", "interrupts", "memory", "policy", "result", "settings"},
    "doctor": {"deployments", "hardware", "settings", "sizes"},
    "engine": set(MODULES) - {"entry", "server", "policy", "result", "interrupts", "engine", "doctor"},
    "entry": set(MODULES) - {"entry"},
}


def imports(module: str) -> tuple[set[str], set[str]]:
    """(our modules, other packages) that a module imports, anywhere in it."""
    ours, others = set(), set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text("utf-8"))):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "pgml_transform":
            ours |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pgml_transform."):
            ours.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.ImportFrom):
            others.add((node.module or "").split(".")[0])
    return ours & set(MODULES), others - {"pgml_transform"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    """A module imports of ours only what the table allows it."""
    assert imports(module)[0] - MAY_IMPORT[module] == set()


def test_plpy_is_in_one_module() -> None:
    """Only server.py knows that it runs inside PostgreSQL."""
    assert [module for module in MODULES if "plpy" in imports(module)[1]] == ["server"]


def test_the_docstring_names_every_module() -> None:
    """The package's docstring is the map of it."""
    words = set(re.findall(r"\w+", pgml_transform.__doc__ or ""))

    assert set(MODULES) - words == set()


@pytest.mark.parametrize("module", MODULES)
def test_modules_fit_in_the_head(module: str) -> None:
    """No module is longer than 300 lines, and each opens with what it is."""
    text = (PACKAGE / f"{module}.py").read_text("utf-8")

    assert text.startswith('"""')
    assert len(text.splitlines()) <= 300


def test_validation_imports_nothing_heavy() -> None:
    """What a call needs to be refused imports no library of models: a bad task answers in milliseconds."""
    light = [module for module in MODULES if module not in {"server", "entry"}]
    program = (
        "import sys, importlib\n"
        f"for module in {light!r}: importlib.import_module('pgml_transform.' + module)\n"
        "heavy = {'torch', 'transformers', 'accelerate', 'bitsandbytes', 'huggingface_hub', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
