"""Kills, interruptions and repetition."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from killed import kill_this, killed
from safetensors.torch import load_file
from tiny_runs import CHECKPOINT, UNFINISHED, Run, left_in, small_job, stop, tensors_equal, write_corpus

from specmoe.errors import InputError
from specmoe.traces.pretrain import pretrain
from specmoe.traces.pretrain_data import Corpus
from specmoe.traces.pretrain_loop import Trainer


def test_a_finished_run_is_returned_as_it_is(finished: Path, home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    steps: list[int] = []
    card = pretrain(small_job(home, finished), lambda step, terms: steps.append(step))
    assert card == json.loads((finished / "specmoe.json").read_text())
    assert before == {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    assert steps == []


def test_a_killed_run_resumes_to_the_same_weights(
    run: Run, finished: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with SIGKILL at step 20, ten after its save."""
    out = tmp_path / "out"
    job = small_job(home, out, measure_every=10)
    killed(lambda: pretrain(job, lambda step, _: kill_this() if step == 20 else None))
    assert left_in(out) == UNFINISHED
    steps: list[int] = []
    original = Corpus.batch
    monkeypatch.setattr(Corpus, "batch", lambda self, step, size: steps.append(step) or original(self, step, size))
    run(measure_every=10)
    assert steps == list(range(10, 24))
    assert left_in(out) == CHECKPOINT
    for name in ("model.safetensors", "history.json", "config.json", "tokenizer.json"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()


def test_an_interrupted_run_leaves_its_save_only(stopped: Path) -> None:
    assert left_in(stopped) == UNFINISHED


def test_an_interrupted_save_leaves_the_former(stopped: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (stopped / "resume" / "state.safetensors").read_bytes()

    def torn(tensors: Any, file: Path, metadata: Any) -> None:
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("specmoe.traces.pretrain_loop.save_file", torn)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert left_in(stopped) == UNFINISHED
    assert (stopped / "resume" / "state.safetensors").read_bytes() == before


def test_a_run_that_goes_on_keeps_the_tokenizer_it_trained(run: Run, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(on_progress=stop, tokenizer=None)
    trained = (tmp_path / "out" / "resume" / "tokenizer.json").read_bytes()
    run(tokenizer=None)
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == trained


def test_a_tokenizer_of_a_run_that_never_saved_is_not_kept(run: Run, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(on_progress=stop, tokenizer=None, save_every=100)
    (tmp_path / "out" / "resume" / "tokenizer.json").write_text("half")
    run(tokenizer=None, vocabulary=330)
    assert left_in(tmp_path / "out") == CHECKPOINT


def half_export(trainer: Trainer, directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"half")
    raise KeyboardInterrupt


def half_moved(source: Path, target: Path) -> None:
    if target.name == "tokenizer_config.json":
        raise KeyboardInterrupt
    shutil.move(source, target)


@pytest.mark.parametrize(("owner", "name", "torn"), [(Trainer, "export", half_export), (Path, "replace", half_moved)])
def test_an_interrupted_end_leaves_nothing_that_looks_finished(
    owner: Any, name: str, torn: Any, run: Run, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, torn)
        with pytest.raises(KeyboardInterrupt):
            run(measure_every=10, save_every=100)
    assert not (tmp_path / "out" / "model.safetensors").exists()
    run(measure_every=10)
    assert left_in(tmp_path / "out") == CHECKPOINT
    weights = [load_file(directory / "model.safetensors") for directory in (tmp_path / "out", finished)]
    assert tensors_equal(*weights)


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"seed": 1}, r"another seed \(0, not 1\)"),
    ({"steps": 30}, r"another steps \(24, not 30\)"),
    ({"learning_rate": 0.03}, "another learning_rate"),
    ({"preset": "dense-mini"}, "another preset"),
]


@pytest.mark.parametrize(("changes", "message"), OTHERS)
def test_another_run_does_not_go_on(changes: dict[str, Any], message: str, stopped: Path, run: Run) -> None:
    before = left_in(stopped)
    with pytest.raises(InputError, match=rf"state\.safetensors: of a run with {message}.*delete it or") as raised:
        run(**changes)
    assert "\n" not in str(raised.value)
    assert left_in(stopped) == before


@pytest.mark.parametrize(("changes", "message"), OTHERS)
def test_a_finished_run_is_not_another(changes: dict[str, Any], message: str, finished: Path, home: Path) -> None:
    with pytest.raises(InputError, match=rf"specmoe\.json: of a run with {message}.*delete it or"):
        pretrain(small_job(home, finished, **changes))


def test_another_text_or_tokenizer_does_not_go_on(stopped: Path, home: Path, run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another corpus"):
        run(text=(home / "text" / "verse.txt",))
    with pytest.raises(InputError, match="another text"):
        run(text=(write_corpus(tmp_path / "text", words=70),))
    (tmp_path / "tokenizer").mkdir()
    retrain(tmp_path / "tokenizer", home)
    with pytest.raises(InputError, match="another text"):
        run(tokenizer=tmp_path / "tokenizer")


def retrain(directory: Path, home: Path) -> None:
    from specmoe.traces.tokenizer import train_tokenizer

    train_tokenizer([(home / "text" / "verse.txt").read_text()[:100]], 310).save_pretrained(directory)
