"""doctor.py: what may be wrong, found and told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgml_transform import doctor
from pgml_transform.settings import Settings


def checks(settings: Settings, preloaded: str = "") -> dict[str, doctor.Check]:
    """What the doctor finds, by name."""
    return {check.check_name: check for check in doctor.examine(settings, preloaded)}


def test_what_is_right_has_no_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A healthy installation is told in facts."""
    (tmp_path / "pg_stat_tmp").mkdir()
    monkeypatch.chdir(tmp_path)

    found = checks(Settings(offline=True, hub_cache=str(tmp_path / "hub"), memory_limit=1 << 30))

    assert [check.check_name for check in found.values() if not check.ok or check.hint] == []
    assert found["memory"].detail == "1.0 GB may be taken by models"
    assert found["hub cache"].detail == str(tmp_path / "hub")
    assert found["model hub"].detail == "offline: only models of the cache are used"


def test_what_is_wrong_has_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thing that is not right has a hint that says what to do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))

    no_folder = tmp_path / "file"
    no_folder.write_text("")

    found = checks(Settings(offline=True, hub_cache=str(no_folder)), preloaded='pg_stat_statements, "pgml"')

    assert found["no-such-package"].hint == "run make install again"
    assert found["PostgresML"].hint == "take pgml out of shared_preload_libraries and restart the server"
    assert found["deployments"].hint == "see to the data directory's rights"
    assert found["hub cache"].detail == f"the server's user can't use {no_folder}"
