"""Parts, kills and repetition."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from killed import kill_this, killed
from tiny_models import Collected, same, small_job

from specmoe.errors import InputError
from specmoe.traces.collect import collect
from specmoe.traces.collect_run import Runner


def test_equal_jobs_give_equal_bytes_whatever_the_part_size(run: Collected) -> None:
    traces = [run(out=f"{rows}-{i}", part_rows=rows) for i, rows in enumerate((96, 96, 10_000))]
    for phase in ("encode", "decode"):
        assert len({trace[phase].path.read_bytes() for trace in traces}) == 1


def test_nothing_but_the_traces_is_left(run: Collected, tmp_path: Path) -> None:
    run(out="out")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")) == [
        "out/decode.parquet",
        "out/encode.parquet",
    ]


def test_progress_reaches_the_total(home: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    collect(small_job(home, tmp_path / "out"), lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    assert len({total for _, total in seen}) == 1
    assert len({done for done, _ in seen}) == 3  # three batches


def killed_after(home: Path, out: Path, calls: int) -> None:
    """Collect in another process that is killed with SIGKILL at a progress call."""
    left = iter(range(calls - 1))
    killed(lambda: collect(small_job(home, out), lambda *_: None if next(left, None) is not None else kill_this()))


def test_a_killed_collection_resumes_to_the_same_bytes(home: Path, tmp_path: Path, run: Collected) -> None:
    killed_after(home, tmp_path / "killed", calls=3)  # part 0 is finished, the batch of part 1 has run
    left = tmp_path / "killed.partial"
    assert {path.name for path in left.glob("*.parquet")} == {"encode-00000.parquet", "decode-00000.parquet"}
    kept = (left / "encode-00000.parquet").stat().st_mtime_ns
    batches: list[int] = []
    original = Runner.run

    def counting(self: Runner, examples: Any, first: int) -> Any:
        batches.append(first)
        assert (left / "encode-00000.parquet").stat().st_mtime_ns == kept
        return original(self, examples, first)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "run", counting)
        resumed = run(out="killed")
    whole = run(out="whole")
    assert batches == [3, 6]
    assert not left.exists()
    for phase in ("encode", "decode"):
        assert resumed[phase].path.read_bytes() == whole[phase].path.read_bytes()


@pytest.fixture(scope="module")
def begun(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a collection leaves that stopped after its first part."""
    left = tmp_path_factory.mktemp("begun") / "out.partial"

    def stop(done: int, total: int | None) -> None:
        if (left / "decode-00000.parquet").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(small_job(home, left.with_name("out")), stop)
    return left


@pytest.fixture
def interrupted(begun: Path, tmp_path: Path) -> Path:
    """A collection into `out` that stopped after its first part."""
    shutil.copytree(begun, tmp_path / begun.name)
    return tmp_path / "out"


def test_a_resumed_collection_keeps_its_date(interrupted: Path, run: Collected, monkeypatch: Any) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert run(out="out")["decode"].meta.date != "1970-01-01"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"window": 16}, "text"),
        ({"batch": 2}, "batch"),
        ({"sequences": 5}, "text"),
        ({"dtype": "bfloat16"}, "dtype"),
        ({"candidates": 2}, "candidates"),
        ({"phase": "both", "capacity": 3}, "capacity"),
        ({"model": "mixtral"}, "model"),
    ],
)
def test_other_settings_are_refused_by_name(changes: dict[str, Any], named: str, interrupted: Path, run: Any) -> None:
    with pytest.raises(InputError, match=rf"out\.partial: begun with another {named}: .* --restart"):
        run(out="out", **changes)


def test_restart_throws_the_parts_away(interrupted: Path, run: Collected) -> None:
    traces = run(out="out", seed=1, restart=True)
    assert same(traces["decode"], run(out="other", seed=1)["decode"])


@pytest.mark.parametrize("restart", [False, True])
def test_parts_without_a_record_are_never_used(
    restart: bool, interrupted: Path, tmp_path: Path, run: Collected
) -> None:
    partial = tmp_path / "out.partial"
    (partial / "job.json").unlink()  # killed while it removed its parts
    (partial / ".decode-00001.parquet.1.tmp").touch()
    assert list(partial.glob("decode-*.parquet"))
    traces = run(out="out", seed=1, restart=restart)
    assert same(traces["decode"], run(out="other", seed=1)["decode"])
    assert not partial.exists()


def test_a_record_is_removed_before_the_parts(run: Collected, monkeypatch: pytest.MonkeyPatch) -> None:
    removed = []
    unlink = Path.unlink

    def watched(self: Path, missing_ok: bool = False) -> None:
        if self.parent.name == "out.partial" and self.suffix != ".tmp":
            removed.append(self.name)
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", watched)
    run(out="out")
    assert removed[0] == "job.json"
    assert {"decode-00000.parquet", "encode-00000.parquet"} < set(removed[1:])


def test_what_is_not_of_a_collection_stays(tmp_path: Path, run: Collected) -> None:
    mine = tmp_path / "out.partial" / "notes.txt"
    mine.parent.mkdir()
    mine.touch()
    run(out="out", restart=True)
    assert mine.exists()


def test_a_damaged_job_record_is_one_line(interrupted: Path, run: Collected) -> None:
    (interrupted.parent / "out.partial" / "job.json").write_text("{")
    with pytest.raises(InputError, match=r"job\.json: damaged: .* --restart"):
        run(out="out")


def test_a_changed_checkpoint_is_not_resumed(home: Path, tmp_path: Path, interrupted: Path, run: Collected) -> None:
    model = home / "switch_transformers" / "model.safetensors"
    times = model.stat()
    os.utime(model, ns=(times.st_atime_ns, times.st_mtime_ns + 1000))
    try:
        with pytest.raises(InputError, match="another model"):
            run(out="out")
    finally:
        os.utime(model, ns=(times.st_atime_ns, times.st_mtime_ns))
