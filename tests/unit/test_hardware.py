"""hardware.py: memory under every limit on it."""

from __future__ import annotations

from pathlib import Path

from pgml_transform import hardware


def group(folder: Path, limit: str, used: int, cache: int) -> None:
    """A memory cgroup, version 2."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\n")


def test_every_group_above_counts(tmp_path: Path) -> None:
    """The limit of each group from the process's own to the root is found, with what it uses beside droppable cache."""
    group(tmp_path / "a", "1000", 300, 100)
    group(tmp_path / "a" / "b", "max", 9, 9)
    group(tmp_path / "a" / "b" / "c", "500", 50, 0)

    found = hardware._walk(tmp_path, "/a/b/c", "memory.max", "memory.current", "inactive_file")

    assert found == [(500, 50), (1000, 200)]


def test_the_administrators_limit_counts_what_is_held() -> None:
    """memory_limit bounds what this backend's models take together, mapped from files or not."""
    limit = 64 << 20

    assert hardware.free_ram({}, limit) == limit
    assert hardware.free_ram({"cpu": 60 << 20}, limit) == 4 << 20
    assert hardware.free_ram({"cpu": 70 << 20}, limit) == 0
    machine = hardware.probe({"cpu": 60 << 20}, limit, private=0)
    assert (machine.ram_free, machine.ram_free + machine.ram_held) == (4 << 20, limit)


def test_what_is_mapped_does_not_come_back_to_the_machine() -> None:
    """Without a limit, letting go of a mapped model makes no room: the system could drop its pages anyway."""
    assert hardware.probe({"cpu": 60 << 20}, private=0).ram_held == 0
    assert hardware.probe({"cpu": 60 << 20}, private=20 << 20).ram_held == 20 << 20


def test_this_machine_has_memory() -> None:
    """What is free is not more than all, and both are there."""
    machine = hardware.probe()

    assert 0 < machine.ram_free <= machine.ram_total
