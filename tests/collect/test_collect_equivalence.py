"""Padding, phases and generation: ways of running that must route alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import CONFIGS, WORDS, Collected, load, rows_of, same

from specmoe.traces.collect_batches import encoding_for


@pytest.mark.parametrize("model_type", ["switch_transformers", "qwen3_moe", "deepseek_v3"])
@pytest.mark.parametrize("generate", [None, 6])
def test_padding_changes_nothing(model_type: str, generate: int | None, run: Collected, tmp_path: Path) -> None:
    (tmp_path / "mixed.txt").write_text("\n\f\n".join(" ".join(WORDS[:n] * 2) for n in (3, 19, 7, 12)))
    texts = {"text": (tmp_path / "mixed.txt",), "sequences": None, "generate": generate, "window": 24}
    alone, together = (run(model_type, out=f"{batch}", batch=batch, **texts) for batch in (1, 4))
    for phase in ("encode", "decode"):
        assert len({len(rows_of(alone[phase].read(), i).token) for i in range(4)}) > 1 or generate
        assert same(alone[phase], together[phase], ("sequence", "position", "token", "experts", "lookahead"))
        assert np.allclose(alone[phase].probs, together[phase].probs, atol=1e-3)


@pytest.mark.parametrize("phase", ["encode", "decode"])
@pytest.mark.parametrize("model_type", ["switch_transformers", "gpt_oss"])
def test_one_phase_alone_is_the_same_as_both(phase: str, model_type: str, run: Collected) -> None:
    assert same(run(model_type, out="both")[phase], run(model_type, out="one.parquet", phase=phase)[phase])


@pytest.mark.parametrize("model_type", list(CONFIGS))
def test_generated_rows_are_those_of_real_step_by_step_generation(model_type: str, home: Path, run: Collected) -> None:
    trace = run(model_type, generate=5)["decode"]
    assert trace.meta.origin == "generated"
    checkpoint = load(home, model_type)
    for sequence in range(4):
        tokens, experts = generated_step_by_step(checkpoint, run_inputs(checkpoint, home, sequence), steps=5)
        rows = rows_of(trace.read(), sequence)
        assert rows.token.tolist() == tokens
        assert rows.position.tolist() == list(range(len(tokens)))
        k = trace.meta.top_k
        assert np.array_equal(np.sort(rows.experts[..., :k]), np.sort(experts))


def run_inputs(checkpoint: Any, home: Path, sequence: int) -> Any:
    from specmoe.traces.text import read_documents

    encoding = encoding_for(checkpoint, 32, 0)
    return encoding.example(encoding.texts(read_documents([home / "text"]), 7)[sequence], sequence).inputs


def generated_step_by_step(checkpoint: Any, inputs: Any, steps: int) -> tuple[list[int], Any]:
    """What `generate` feeds itself one token at a time, and the experts [steps, L, k] that its routers then choose."""
    model, chosen, fed = checkpoint.model, [], []
    layers = checkpoint.adapter.layers(model, "decode")
    hooks = [
        layer.router.register_forward_hook(
            lambda _, args, output: chosen.append(checkpoint.adapter.read(output).chosen)
        )
        for layer in layers
    ]
    hook = model.get_decoder().register_forward_pre_hook(
        lambda _, args, kwargs: fed.append(kwargs["input_ids"][0].tolist()), with_kwargs=True
    )
    more = 0 if checkpoint.is_encoder_decoder else 1
    ids = torch.tensor(inputs[None].astype(np.int64))
    model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=steps + more, do_sample=False)
    for handle in (*hooks, hook):
        handle.remove()
    passes = np.array([len(ids) for ids in fed])
    assert (passes[1:] == 1).all()  # every step after the first is one token: nothing was teacher-forced here
    routed = [torch.stack(chosen[i : i + len(layers)], 1).numpy() for i in range(0, len(chosen), len(layers))]
    tokens = [ids[0] for ids in fed[more:]]
    return tokens, np.concatenate([routed[0][:0], *routed[more:]])


def test_generation_stops_at_the_end_token(home: Path, run: Collected, monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(self: Any, input_ids: Any, **_: Any) -> Any:
        said = torch.tensor([[5, 6, 1, 0], [1, 0, 0, 0], [5, 6, 7, 8]])[: len(input_ids)]
        return torch.cat([torch.zeros_like(said[:, :1]), said], dim=1)

    monkeypatch.setattr("transformers.SwitchTransformersForConditionalGeneration.generate", generate)
    trace = run(generate=4, phase="decode", sequences=3)["decode"]
    assert [rows_of(trace.read(), i).token.tolist() for i in range(3)] == [[0, 5, 6], [0], [0, 5, 6, 7]]


def test_a_batch_that_says_nothing_leaves_no_rows(run: Collected, monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(self: Any, input_ids: Any, **_: Any) -> Any:
        return torch.cat([input_ids, torch.ones_like(input_ids[:, :1])], dim=1)

    monkeypatch.setattr("transformers.MixtralForCausalLM.generate", generate)
    traces = run("mixtral", generate=4)
    assert (len(traces["decode"]), len(traces["encode"])) == (0, 7 * 32)
