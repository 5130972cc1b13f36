"""What bad input gets: one line, and nothing half-written."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from tiny_runs import CHECKPOINT, UNFINISHED, Run, left_in, write_corpus

from specmoe.errors import InputError, MissingExtraError, ModelError
from specmoe.traces.pretrain_loop import Trainer


def cut_off(state: Path) -> None:
    state.write_bytes(state.read_bytes()[:-1000])


def empty(state: Path) -> None:
    state.write_bytes(b"")


def foreign(state: Path) -> None:
    save_file({"weight": torch.zeros(3)}, state)


def incomplete(state: Path) -> None:
    with safe_open(state, "pt") as stored:
        metadata = stored.metadata()
    save_file({"random.cpu": torch.get_rng_state()}, state, metadata)


def broken_json(state: Path) -> None:
    save_file(load_file(state), state, {"state": "{"})


@pytest.mark.parametrize("damage", [cut_off, empty, foreign, incomplete, broken_json])
def test_a_damaged_save_is_one_line(damage: Any, stopped: Path, run: Run) -> None:
    damage(stopped / "resume" / "state.safetensors")
    with pytest.raises(InputError, match=r"state\.safetensors: damaged \(.*delete it to begin again") as raised:
        run()
    assert "\n" not in str(raised.value)
    (stopped / "resume" / "state.safetensors").unlink()
    run()


@pytest.mark.parametrize("card", [None, "{", "[]", '{"recipe": 3}', '{"kind": "pretrained"}'])
def test_a_foreign_checkpoint_is_left_alone(card: str | None, run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.safetensors").write_bytes(b"precious")
    if card is not None:
        (tmp_path / "out" / "specmoe.json").write_text(card)
    with pytest.raises(InputError, match="out: holds a checkpoint that `specmoe pretrain` did not make"):
        run()
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"preset": "switch-huge"},
            "preset 'switch-huge': one of decoder-mini-64, decoder-mini-dense, ",
        ),
        ({"overrides": (("colour", 1.0),)}, "'colour' is not a field of a preset; they are experts, d_model"),
        ({"steps": 2.5}, r"steps=2\.5: a whole number >= 1 expected"),
        ({"steps": 0}, "steps=0: a whole number >= 1 expected"),
        ({"batch": -1}, "batch=-1: a whole number >= 1 expected"),
        ({"layers": 1}, "layers=1: a whole number >= 2 expected"),
        ({"encoder_length": 7}, "encoder_length=7: a whole number >= 8 expected"),
        ({"warmup": -1}, "warmup=-1: a whole number >= 0 expected"),
        ({"steps": math.nan}, "steps=nan: a whole number"),
        ({"batch": math.inf}, "batch=inf: a whole number"),
        ({"dropout": 1.0}, "dropout=1: a number >= 0 and < 1 expected"),
        ({"learning_rate": -0.1}, r"learning_rate=-0\.1: a number >= 0 expected"),
        ({"vocabulary": 259, "tokenizer": None}, "a vocabulary of 259: 259 ids are reserved"),
        ({"seed": -1}, "--seed -1: at least 0 expected"),
        ({"save_every": 0}, "--save-every 0: at least 1 expected"),
        ({"measure_every": 0}, "--measure-every 0: at least 1 expected"),
        ({"device": "toaster", "tokenizer": Path("/nowhere")}, "--device toaster: auto, cpu or cuda expected"),
        ({"text": (Path("/nowhere/at/all"),)}, "/nowhere/at/all: no such file or directory"),
        ({"tokenizer": Path("/nowhere")}, r"/nowhere: no tokenizer\.json"),
        ({"encoder_length": 2000}, "none of 12 documents has .* tokens: longer documents expected"),
    ],
)
def test_bad_options_are_one_line(changes: dict[str, Any], message: str, run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as raised:
        run(**changes)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_no_cuda_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="--device cuda: no CUDA device here; use --device cpu"):
        run(device="cuda")


@pytest.mark.parametrize("out", ["file", "file/below", "file/far/below"])
def test_an_output_that_cannot_be_written_is_found_first(out: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=rf"--out {tmp_path / out}: {tmp_path / 'file'} is not a directory that can"):
        run(out=out, text=())


def test_a_directory_without_permission_is_found_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(InputError, match="is not a directory that can be written"):
        run()


def test_missing_parents_are_made(run: Run, tmp_path: Path) -> None:
    run(out="far/away", steps=2)
    assert left_in(tmp_path / "far" / "away") == CHECKPOINT


def test_a_domain_of_one_document_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "lonely.txt").write_text("the cat sat")
    with pytest.raises(InputError, match="'lonely' has 1 document"):
        run(text=(tmp_path / "lonely.txt",))


def test_more_spans_than_sentinels_are_one_line(run: Run, tmp_path: Path) -> None:
    text = write_corpus(tmp_path / "text", documents=4, words=2200)
    with pytest.raises(InputError, match=r"has 1\d\d spans, but there are 100 sentinels"):
        run(text=(text,), encoder_length=2048)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("attribute", "message"), [("eos_token", "no end token"), ("vocab", "no sentinels")])
def test_a_tokenizer_of_another_kind_is_one_line(attribute: str, message: str, run: Run, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    names = ["<unk>", "</s>", *(f"<extra_id_{i}>" for i in range(20) if attribute == "eos_token")]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
    ends = {} if attribute == "eos_token" else {"eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **ends).save_pretrained(tmp_path / "foreign")
    with pytest.raises(ModelError, match=message):
        run(tokenizer=tmp_path / "foreign")


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 9"), MemoryError()]
)
def test_out_of_memory_suggests_a_smaller_batch(error: Exception, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Trainer, "train", explode)
    with pytest.raises(InputError, match="out of memory with batch=2: try --set batch=1"):
        run()


@pytest.mark.parametrize("error", [RuntimeError("a bug"), NotImplementedError("no such kernel")])
def test_other_runtime_errors_are_not_hidden(error: Exception, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Trainer, "train", explode)
    with pytest.raises(type(error), match=str(error)):
        run()


def test_a_full_disk_is_one_line_and_keeps_the_former_save(
    stopped: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (stopped / "resume" / "state.safetensors").read_bytes()

    def full(tensors: Any, file: Path, metadata: Any) -> None:
        file.write_bytes(b"half")
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr("specmoe.traces.pretrain_loop.save_file", full)
    with pytest.raises(InputError, match=r"state\.safetensors: cannot be written: No space left on device"):
        run()
    assert left_in(stopped) == UNFINISHED
    assert (stopped / "resume" / "state.safetensors").read_bytes() == before


def test_missing_torch_says_what_to_install(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("specmoe.traces.collect_model.version", version)
    monkeypatch.setitem(sys.modules, "specmoe.traces.pretrain_loop", None)
    with pytest.raises(MissingExtraError, match=r"torch is not installed: pip install -e '.\[torch\]'"):
        run()
    assert list(tmp_path.iterdir()) == []
