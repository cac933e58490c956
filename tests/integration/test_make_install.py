"""`make install` and `make uninstall`, for a packager: everything below DESTDIR, and nothing of DESTDIR in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


def pg_config(option: str) -> str:
    """What the private server's pg_config answers."""
    return subprocess.run(["pg_config", option], capture_output=True, text=True, check=True).stdout.strip()


def make(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run make in the checkout, with no more of the environment than a login has."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "USER") if name in os.environ}
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    command = ["make", "--no-print-directory", "-C", str(CHECKOUT), *words]
    return subprocess.run(command, env={**environment, **pip, **variables}, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("template")
def test_install_and_uninstall_below_destdir(tmp_path: Path) -> None:
    """The files name their final place, the server's user can read them, and uninstall leaves no file."""
    variables = {"DESTDIR": str(tmp_path), "PG_CONFIG": pg_config("--bindir") + "/pg_config", "PYTHONDIR": "/opt/pgml"}

    done = make("install", **variables)
    assert done.returncode == 0, done.stderr

    extension = Path(f"{tmp_path}{pg_config('--sharedir')}/extension")
    python = tmp_path / "opt" / "pgml"
    (script,) = extension.glob("pgml_transform--*.sql")
    (site,) = python.glob("lib/python3.*/site-packages")
    assert (extension / "pgml_transform.control").is_file()
    assert f'sys.path.insert(0, "/opt/pgml/lib/{site.parent.name}/site-packages")' in script.read_text("utf-8")
    assert "@python@" not in script.read_text("utf-8")
    for package in ("pgml_transform", "torch", "transformers", "accelerate", "bitsandbytes"):
        assert (site / package).is_dir()
    assert not (site / "pytest").exists()
    named = subprocess.run(["grep", "-rlIF", str(tmp_path), str(tmp_path)], capture_output=True, text=True, check=False)
    assert named.stdout == ""
    closed = subprocess.run(["find", python, "!", "-perm", "-o=r", "!", "-type", "l"], capture_output=True, check=True)
    assert closed.stdout == b""

    done = make("uninstall", **variables)
    assert done.returncode == 0, done.stderr
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_a_wrong_pg_config_says_what_to_do() -> None:
    """A server that is not there is one clear message with the remedy."""
    done = make("install", PG_CONFIG="/nowhere/pg_config")

    assert done.returncode != 0
    assert "error: /nowhere/pg_config does not work" in done.stderr
    assert "make install PG_CONFIG=/path/to/pg_config" in done.stderr
