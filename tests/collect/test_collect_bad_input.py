"""What bad input gets: one line, and nothing half-written."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from tiny_models import Collected, save_tiny, small_job, tiny_model, tiny_tokenizer

from specmoe.errors import InputError, MissingExtraError, ModelError, TraceError
from specmoe.traces import collect_model
from specmoe.traces.collect import CollectJob, collect
from specmoe.traces.collect_model import locate, require_libraries, require_switch_routing
from specmoe.traces.collect_run import Runner


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"text": ()}, InputError, "--text or --dataset"),
        ({"dataset": "squad"}, InputError, "--text or --dataset"),
        ({"generate": 4, "capacity": 2}, InputError, "--generate with --capacity"),
        ({"generate": 0}, InputError, "--generate 0: at least 1"),
        ({"batch": 0}, InputError, "--batch 0: at least 1"),
        ({"lookahead_depth": 0}, InputError, "--lookahead-depth 0: at least 1"),
        ({"sequences": -1}, InputError, "--sequences -1: at least 1"),
        ({"phase": "prefill"}, InputError, "--phase prefill: encode, decode or both"),
        ({"window": 4}, InputError, "--window 4: at least 8"),
        ({"window": 1000}, InputError, "--window 1000: .* 20 sentinels"),
        ({"split": "dev"}, InputError, "split 'dev'"),
        ({"device": "toaster"}, InputError, "--device toaster"),
        ({"dtype": "int4"}, InputError, "--dtype int4: one of bfloat16, float16, float32"),
        ({"model": "mixtral", "capacity": 2}, InputError, "routers of mixtral never drop"),
        ({"model": "qwen2_moe", "candidates": 3}, InputError, "--candidates 3: qwen2_moe uses 4 experts"),
        ({"text": (Path("/nowhere/at/all"),)}, InputError, "no such file"),
        ({"model": "nowhere"}, ModelError, "nowhere: no such checkpoint directory"),
        ({"model": "text"}, ModelError, "text: not a checkpoint: config.json is missing"),
        ({"candidates": 100}, InputError, "--candidates 100: .* has 8 a layer: 1 to 8 expected"),
        (
            {"lookahead_depth": 99},
            InputError,
            "--lookahead-depth 99: .* 2 MoE layers in encode: at most 2 expected",
        ),
        ({"kind": "dreamt"}, TraceError, "kind is 'dreamt'"),
    ],
)
def test_bad_options_are_one_line(changes: dict[str, Any], error: Any, message: str, run: Any, tmp_path: Path) -> None:
    with pytest.raises(error, match=message) as raised:
        run(**changes)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_trace_is_replaced_only_on_demand(run: Collected, tmp_path: Path) -> None:
    (trace,) = run(phase="encode", out="t.parquet").values()
    before = trace.path.read_bytes()
    with pytest.raises(InputError, match=r"t\.parquet: is there already: another --out, or --overwrite, expected"):
        run(phase="encode", out="t.parquet", seed=1)
    assert trace.path.read_bytes() == before
    run(phase="encode", out="t.parquet", seed=1, overwrite=True)
    assert trace.path.read_bytes() != before


def test_a_few_experts_are_all_candidates_by_default(run: Collected, tmp_path: Path) -> None:
    small = save_tiny(tmp_path / "small", "switch_transformers", num_experts=4)
    assert run(str(small), candidates=None)["encode"].meta.candidates == 4


def break_weights(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"not safetensors at all")


def drop_router(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "classifier" not in k}, model / "model.safetensors", {"format": "pt"}
    )


def pickle_weights(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def foreign_class(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"model_type": "t5", "architectures": ["T5Model"]}))


def broken_config(model: Path) -> None:
    (model / "config.json").write_text("{")


def no_tokenizer(model: Path) -> None:
    for file in model.glob("tokenizer*"):
        file.unlink()


def no_sentinels(model: Path) -> None:
    tiny_tokenizer(sentinels=0).save_pretrained(model)


def large_tokenizer(model: Path) -> None:
    tiny_tokenizer(sentinels=100).save_pretrained(model)


def no_sparse_decoder(model: Path) -> None:
    network = tiny_model("switch_transformers")
    network.config.decoder_sparse_step = 0
    type(network)(network.config).save_pretrained(model)


def broken_declaration(model: Path) -> None:
    (model / "specmoe.json").write_text("[")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_weights, "model: cannot be read"),
        (drop_router, "model: cannot be read.*weights are missing: .*classifier"),
        (pickle_weights, "model: cannot be read"),
        (foreign_class, "no adapter for model class 't5'"),
        (broken_config, "model: cannot be read"),
        (no_tokenizer, r"model: cannot be read.*no tokenizer: one of tokenizer\.json"),
        (large_tokenizer, "model: cannot be read.*the tokenizer has 124 pieces, the model knows 64"),
        (no_sparse_decoder, "no layer of its decode phase has a router"),
        (no_sentinels, "no sentinels"),
        (broken_declaration, r"specmoe\.json: not a JSON object"),
    ],
)
def test_bad_checkpoints_are_one_line(damage: Any, message: str, run: Collected, tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", "switch_transformers")
    damage(model)
    with pytest.raises(ModelError, match=message) as raised:
        run(str(model))
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_hub_that_cannot_be_reached_is_one_line(run: Collected, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """It is not asked again and again, as its client would: nothing listens there."""
    for proxy in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://127.0.0.1:1")
    with pytest.raises(
        ModelError, match="nobody/nothing: cannot be read as a bundled, local or hub checkpoint"
    ) as raised:
        collect(CollectJob("nobody/nothing", home / "out", text=(home / "text",)))
    assert "\n" not in str(raised.value)
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_answers_that_accepts_connections_or_lies_behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect_model, "getproxies", dict)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert collect_model._answers(address)
    assert not collect_model._answers(address)
    monkeypatch.setattr(collect_model, "getproxies", lambda: {"http": "http://proxy:3128"})
    assert collect_model._answers(address)


def test_no_cuda_is_one_line(run: Collected, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="--device cuda: no CUDA device here; use --device cpu"):
        run(device="cuda")


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 9 bytes"), MemoryError()],
)
def test_out_of_memory_suggests_a_smaller_batch(error: Exception, run: Collected, monkeypatch: Any) -> None:
    def explode(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Runner, "_encoder_decoder", explode)
    with pytest.raises(InputError, match="out of memory with --batch 3: try --batch 1"):
        run()


def test_a_model_that_does_not_fit_is_one_line(run: Collected, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("transformers.PreTrainedModel.to", explode)
    with pytest.raises(InputError, match="the model does not fit into cpu: try --dtype bfloat16"):
        run()


def test_other_runtime_errors_are_not_hidden(run: Collected, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Runner, "_encoder_decoder", explode)
    with pytest.raises(RuntimeError, match="a bug"):
        run()


@pytest.mark.parametrize(("out", "phase"), [("missing/out", "decode"), ("here", "decode"), ("file", "both")])
def test_bad_outputs_are_found_before_anything_runs(out: str, phase: Any, home: Path, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="directory"):
        collect(small_job(home, tmp_path / out, model="does not matter", phase=phase))


def test_empty_text_is_an_input_error(run: Collected, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(InputError, match=r"empty\.txt: no text"):
        run(text=(tmp_path / "empty.txt",))


def test_a_domain_of_one_document_cannot_be_split(run: Collected, tmp_path: Path) -> None:
    (tmp_path / "lonely.txt").write_text("the cat sat")
    with pytest.raises(InputError, match="'lonely' has 1 document"):
        run(text=(tmp_path / "lonely.txt",), split="test")


def test_missing_torch_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("specmoe.traces.collect_model.version", version)
    with pytest.raises(MissingExtraError, match=r"torch is not installed: pip install -e '.\[torch\]'"):
        require_libraries()


def test_an_old_transformers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specmoe.traces.collect_model.version", lambda package: "5.17.3")
    with pytest.raises(InputError, match=r"transformers 5\.17\.3: .* >= 5\.18"):
        require_switch_routing()


def test_bundled_names_come_before_directories_and_the_hub(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("specmoe.traces.collect_model.files", lambda package: tmp_path)
    monkeypatch.chdir(tmp_path)
    for directory in (tmp_path / "bundled" / "small", tmp_path / "small", tmp_path / "mine"):
        directory.mkdir(parents=True)
        (directory / "config.json").write_text("{}")
    assert locate("small") == tmp_path / "bundled" / "small"
    assert locate("mine") == Path("mine")
    assert locate("google/switch-base-8") == "google/switch-base-8"
