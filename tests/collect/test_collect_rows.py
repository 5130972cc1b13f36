"""What a collected row and its metadata are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import (
    CONFIGS,
    FOUR_MOE_LAYERS,
    WORDS,
    Collected,
    load,
    rows_of,
    same,
    save_tiny,
    tiny_tokenizer,
)

from specmoe.traces import Block
from specmoe.traces.collect_model import load_checkpoint
from specmoe.traces.pretrain_data import corrupt, raw_length
from specmoe.traces.schema import limit_lookahead
from specmoe.traces.validation import validate


def test_encoder_decoder_rows_by_hand(home: Path, run: Collected) -> None:
    traces = run(seed=5)
    tokenizer = tiny_tokenizer()
    sentinels = np.array([tokenizer.get_vocab()[f"<extra_id_{i}>"] for i in range(20)], np.int32)
    raw = raw_length(32)
    words = {"code": WORDS[::-1] * 30, "prose": WORDS * 30}
    for sequence, (source, start) in enumerate([("code", 0), ("prose", 0), ("code", raw), ("prose", raw)]):
        ids = np.array(tokenizer.convert_tokens_to_ids(words[source][start : start + raw]), np.int32)
        inputs, targets = corrupt(ids, sentinels, 1, np.random.default_rng([5, sequence]))
        encoded, decoded = (rows_of(traces[phase].read(), sequence) for phase in ("encode", "decode"))
        assert encoded.token.tolist() == inputs.tolist()
        assert decoded.token.tolist() == [0, *targets[:-1].tolist()]
        assert decoded.position.tolist() == list(range(len(targets)))
        assert {traces["encode"].meta.sources[code] for code in encoded.source} == {source}


@pytest.mark.parametrize("model_type", [name for name in CONFIGS if name != "switch_transformers"])
def test_decoder_only_rows(model_type: str, run: Collected) -> None:
    traces = run(model_type)
    assert same(traces["encode"], traces["decode"])
    first = rows_of(traces["decode"].read(), 0).token.tolist()
    expected = tiny_tokenizer().convert_tokens_to_ids((WORDS[::-1] * 2)[:32])
    assert first == ([2, *expected[:31]] if model_type == "mixtral" else expected)  # this one begins with <s>


@pytest.mark.parametrize("model_type", list(CONFIGS))
def test_every_class_gives_valid_traces_marked_random(model_type: str, run: Collected) -> None:
    for phase, trace in run(model_type).items():
        assert validate(trace) == len(trace) > 0
        assert (trace.meta.kind, trace.meta.phase, trace.meta.origin) == ("random", phase, "teacher-forced")
        assert trace.meta.warnings


@pytest.mark.parametrize("model_type", list(CONFIGS))
def test_metadata(model_type: str, run: Collected) -> None:
    meta = run(model_type, seed=3)["decode"].meta
    used = {"qwen2_moe": 4, "switch_transformers": 1}.get(model_type, 2)
    assert (meta.model, meta.num_experts, meta.top_k, meta.candidates) == (model_type, 8, used, 8)
    assert (meta.d_model, meta.d_ff) == (16, CONFIGS[model_type].get("moe_intermediate_size", 24))
    assert (meta.sources, meta.seed, meta.dropless, meta.split) == (("code", "prose"), 3, True, "all")
    assert meta.corpus.startswith("text: 7 sequences, sha256 ")
    assert {"torch", "transformers", "tokenizers", "numpy", "specmoe"} == set(meta.versions)
    assert len(meta.date) == 10
    assert str(Path.home()) not in meta.to_json()


def test_candidates_are_limited_to_what_was_asked(run: Collected) -> None:
    wide, narrow = run(out="a")["encode"], run(out="b", candidates=3)["encode"]
    assert np.array_equal(wide.experts[..., :3], narrow.experts)
    assert np.array_equal(wide.lookahead[..., :3], narrow.lookahead)


@pytest.mark.parametrize("model_type", ["switch_transformers", "mixtral"])
def test_one_pass_records_every_depth(model_type: str, home: Path, run: Collected, tmp_path: Path) -> None:
    save_tiny(tmp_path / "deep", model_type, **FOUR_MOE_LAYERS[model_type])
    one, three = (run(str(tmp_path / "deep"), out=f"{depth}", lookahead_depth=depth) for depth in (1, 3))
    columns = tuple(name for name in Block._fields if name != "lookahead")
    for phase, trace in three.items():
        assert validate(trace) == len(trace)
        assert trace.lookahead.shape == (len(trace), 4, 3, 8)
        assert np.array_equal(limit_lookahead(trace.read(), 1).lookahead, one[phase].lookahead)
        assert same(trace, one[phase], columns)
        assert (one[phase].meta.lookahead_depth, trace.meta.lookahead_depth) == (1, 3)


def test_split_holds_out_whole_documents(run: Collected) -> None:
    everything, test = run(out="a", sequences=None)["encode"], run(out="b", sequences=None, split="test")["encode"]
    assert 4 * len(test) == len(everything)  # one of four equal documents of each domain
    assert test.meta.split == "test"


def test_kind_is_what_the_checkpoint_declares_unless_told(home: Path, run: Collected, tmp_path: Path) -> None:
    assert run(kind="trained-here", phase="decode")["decode"].meta.kind == "trained-here"
    trained = save_tiny(tmp_path / "trained", "mixtral")
    (trained / "specmoe.json").write_text(json.dumps({"kind": "trained-here", "corpus": "fairy tales"}))
    meta = run(str(trained), out="t", phase="decode")["decode"].meta
    assert (meta.kind, "model trained on fairy tales" in meta.notes) == ("trained-here", True)
    (trained / "specmoe.json").unlink()
    assert run(str(trained), out="p", phase="decode")["decode"].meta.kind == "pretrained"


def test_random_init_needs_no_weights_and_follows_the_seed(home: Path, run: Collected, tmp_path: Path) -> None:
    bare = save_tiny(tmp_path / "bare", "mixtral")
    for file in (bare / "model.safetensors", bare / "specmoe.json"):
        file.unlink()
    one, same_seed, other = (
        run(str(bare), out=f"{i}", phase="decode", random_init=True, seed=seed)["decode"]
        for i, seed in enumerate([1, 1, 2])
    )
    assert one.meta.kind == "random"
    assert same(one, same_seed)
    assert not np.array_equal(one.experts, other.experts)


@pytest.mark.parametrize("capacity", [1, 2])
def test_dropped_tokens_are_recorded_as_such(capacity: int, run: Collected) -> None:
    free, tight = (
        run(out="free", phase="encode")["encode"],
        run(out="tight", phase="encode", capacity=capacity)["encode"],
    )
    assert (free.meta.dropless, tight.meta.dropless) == (True, False)
    assert f"expert capacity: {capacity} tokens of a sequence" in tight.meta.notes
    validate(tight)
    for sequence in range(7):
        wanted = rows_of(free.read(), sequence).experts[:, 0, 0]
        experts, probs = (column[:, 0] for column in rows_of(tight.read(), sequence)[4:6])
        taken = np.array([np.count_nonzero(wanted[:i] == expert) for i, expert in enumerate(wanted)])
        dropped = taken >= capacity
        assert dropped.any()
        assert (experts[dropped, 0] == -1).all()
        assert (probs[dropped, 0] == 0).all()
        assert np.array_equal(experts[dropped, 1], wanted[dropped])
        assert np.array_equal(experts[~dropped, 0], wanted[~dropped])


@pytest.mark.parametrize("model_type", list(CONFIGS))
def test_half_precision_leaves_the_routers_in_float32(model_type: str, home: Path, run: Collected) -> None:
    full, half = run(model_type, out="full")["decode"], run(model_type, out="half", dtype="bfloat16")["decode"]
    assert (full.experts[..., 0] == half.experts[..., 0]).mean() > 0.9
    checkpoint = load_checkpoint(
        str(home / model_type), device="cpu", dtype="bfloat16", capacity=None, random_init=False, seed=0
    )
    routers = checkpoint.adapter.routers(checkpoint.model)
    exact = load(home, model_type)
    for router, twin in zip(routers, exact.adapter.routers(exact.model), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(router.parameters(), twin.parameters(), strict=True))
    assert checkpoint.model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert all(buffer.dtype != torch.bfloat16 for buffer in checkpoint.model.buffers())
