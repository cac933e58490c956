"""deployments.py: files that tell what each backend holds."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from pgml_transform import deployments
from pgml_transform.deployments import Board, Deployment

HERE = os.getpid()


@pytest.fixture
def gone() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def board(folder: Path, pid: int = HERE, start: int = 7) -> Board:
    """A board with one row."""
    made = Board(pid, start, folder=folder / "stat")
    (folder / "stat").mkdir(exist_ok=True)
    made.add(Deployment("fill-mask", "org/model"))
    return made


def models(folder: Path, alive: dict[int, int]) -> list[tuple[int, str]]:
    """What a reader sees."""
    return [(pid, row["model"]) for pid, row in deployments.read(alive, folder / "stat")]


def test_rows_are_seen_by_others(tmp_path: Path) -> None:
    """What a backend adds is read back, and what it removes is not."""
    shown = board(tmp_path)
    assert models(tmp_path, {HERE: 7}) == [(HERE, "org/model")]

    shown.remove(shown.rows)
    assert models(tmp_path, {HERE: 7}) == []
    assert list((tmp_path / "stat").iterdir()) == []


def test_a_backend_that_is_gone_leaves_no_row(tmp_path: Path, gone: int) -> None:
    """The file of a process that is no more is not shown, and the reader removes it."""
    board(tmp_path, pid=gone)

    assert models(tmp_path, {HERE: 7}) == []
    assert list((tmp_path / "stat").iterdir()) == []


def test_a_process_number_used_again_is_another_backend(tmp_path: Path) -> None:
    """A file is matched by the backend's start, too; of a process that lives it is not removed."""
    board(tmp_path, start=6)

    assert models(tmp_path, {HERE: 7}) == []
    assert len(list((tmp_path / "stat").iterdir())) == 1


def test_the_folder_is_made_when_it_is_needed(tmp_path: Path) -> None:
    """A server that never held a model has no folder, and reading it shows nothing."""
    assert models(tmp_path, {HERE: 7}) == []
    Board(HERE, 7, folder=tmp_path / "stat").add(Deployment("fill-mask", "org/model"))
    assert models(tmp_path, {HERE: 7}) == [(HERE, "org/model")]


def test_sweep_removes_what_is_left_of_dead_backends(tmp_path: Path, gone: int) -> None:
    """Files of processes that are no more go, half-written ones too; those of the living stay."""
    board(tmp_path)
    board(tmp_path, pid=gone)
    (tmp_path / "stat" / f"{gone}.9.json").write_text("half")

    deployments.sweep(tmp_path / "stat")

    assert [path.name for path in (tmp_path / "stat").iterdir()] == [f"{HERE}.7.json"]


def test_progress_is_published_as_it_goes(tmp_path: Path) -> None:
    """A reader sees how far a load is, without a file for every tensor."""
    shown = board(tmp_path)
    shown._published_at = 0.0
    shown.publish_progress(shown.rows[0], 0.5)
    shown.publish_progress(shown.rows[0], 0.6)

    assert deployments.read({HERE: 7}, tmp_path / "stat")[0][1]["progress"] == 0.5


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    """A file of another name is not read, not removed, and no error."""
    board(tmp_path)
    (tmp_path / "stat" / "notes.json").write_text("{")

    deployments.sweep(tmp_path / "stat")

    assert models(tmp_path, {HERE: 7}) == [(HERE, "org/model")]
    assert (tmp_path / "stat" / "notes.json").exists()


def test_a_full_disk_fails_no_call(tmp_path: Path) -> None:
    """Where nothing can be written, nothing is shown, and the work goes on."""
    (tmp_path / "file").write_text("")

    Board(HERE, 7, folder=tmp_path / "file").add(Deployment("fill-mask", "org/model"))


def test_a_shorter_file_is_whole(tmp_path: Path) -> None:
    """What is written over a longer file is read as it is, without the rest of that."""
    shown = board(tmp_path)
    shown.add(Deployment("fill-mask", "org/" + "long" * 100))
    shown.remove(shown.rows[1:])

    assert models(tmp_path, {HERE: 7}) == [(HERE, "org/model")]


def test_a_write_that_was_cut_off_shows_nothing(tmp_path: Path) -> None:
    """A checksum that does not fit is not taken for rows."""
    board(tmp_path)
    (path,) = (tmp_path / "stat").iterdir()
    path.write_bytes(path.read_bytes()[:-3])

    assert models(tmp_path, {HERE: 7}) == []


def test_readers_and_a_writer_at_once(tmp_path: Path) -> None:
    """However often a file is read while it is written, its rows are whole."""
    shown = board(tmp_path)
    reads: list[int] = []

    def read() -> None:
        reads.extend(len(models(tmp_path, {HERE: 7})) for _ in range(300))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    while any(reader.is_alive() for reader in readers):
        shown.rows[0].model = "x" * (shown.rows[0].calls % 3000)
        shown.rows[0].calls += 1
        shown.publish()

    assert set(reads) == {1}
