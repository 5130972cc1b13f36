"""The decoder with grouped experts against the library's, and its losses, data and time limit."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import VOCABULARY, small_job
from transformers import AutoModelForCausalLM

from specmoe.errors import InputError
from specmoe.traces import Trace
from specmoe.traces.collect import CollectJob, collect
from specmoe.traces.pretrain import pretrain
from specmoe.traces.pretrain_data import CausalCorpus
from specmoe.traces.pretrain_decoder import Gather, GroupedExperts, build, grouped, loss
from specmoe.traces.pretrain_job import PRESETS, DecoderPreset
from specmoe.traces.pretrain_loop import Trainer
from specmoe.traces.text import Document
from specmoe.traces.validation import validate

SIZES: dict[str, Any] = {"experts": 8, "top_k": 2, "d_model": 16, "d_ff": 8, "head_dim": 8, "heads": 2, "layers": 3}
RECIPE: dict[str, Any] = SIZES | {"vocabulary": VOCABULARY, "batch": 2, "length": 32, "steps": 24, "warmup": 4}


def small_decoder(**changes: Any) -> DecoderPreset:
    preset = PRESETS["decoder-mini-64"]
    assert isinstance(preset, DecoderPreset)
    return replace(preset, **RECIPE | changes)


def job(home: Path, out: Path, **changes: Any) -> Any:
    return replace(small_job(home, out, "decoder-mini-64", **changes), overrides=tuple(RECIPE.items()))


@pytest.fixture(scope="module")
def trained(home: Path) -> Path:
    """A checkpoint of 24 steps."""
    pretrain(job(home, home / "decoder"))
    return home / "decoder"


def test_the_librarys_model_with_the_saved_parameters_has_the_same_logits(trained: Path, tmp_path: Path) -> None:
    library, info = AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float32, output_loading_info=True)
    assert not any(info.values())
    torch.manual_seed(1)
    trainer = Trainer(small_decoder(), VOCABULARY, 0, "cpu")
    for parameter in trainer.model.parameters():
        parameter.data = parameter.data.half().float()  # what is saved is float16
    trainer.export(tmp_path)
    library = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.randint(3, VOCABULARY, (2, 32))
    with torch.no_grad():
        torch.testing.assert_close(trainer.model.eval()(ids), library(ids).logits, rtol=1e-4, atol=1e-4)


def test_a_gather_of_copies_has_the_gradient_of_plain_indexing() -> None:
    rows = torch.randn(5, 3, requires_grad=True, dtype=torch.float64)
    order = torch.randperm(10)
    taken = Gather.apply(rows, order, order.argsort(), 2)
    assert torch.equal(taken, rows[order // 2])
    scale = torch.randn_like(taken)
    plain = torch.autograd.grad((rows[order // 2] * scale).sum(), rows)
    torch.testing.assert_close(torch.autograd.grad((taken * scale).sum(), rows), plain)


def test_groups_are_multiplied_with_their_experts_and_may_be_empty() -> None:
    rows, weights = torch.randn(4, 3), torch.randn(3, 2, 3)
    ends = torch.tensor([1, 1, 4])
    expected = torch.cat([rows[:1] @ weights[0].T, rows[1:] @ weights[2].T])
    torch.testing.assert_close(grouped(rows, weights, ends), expected)


def test_the_losses_of_a_layer_in_closed_form() -> None:
    layer = GroupedExperts(small_decoder())
    layer.gate.data.zero_()
    layer(torch.randn(6, 16), torch.float32)  # equal probabilities: ties go to the same two experts
    assert layer.balance.item() == pytest.approx(1)
    assert layer.router_z.item() == pytest.approx(math.log(8) ** 2)
    assert float(layer.load.sum()) == pytest.approx(1)
    assert sorted(layer.load.tolist())[-2:] == [0.5, 0.5]


def test_a_decoder_of_one_expert_is_dense_and_of_the_same_active_size() -> None:
    sparse, dense = (PRESETS[name] for name in ("decoder-mini-64", "decoder-mini-dense"))
    assert isinstance(sparse, DecoderPreset)
    assert isinstance(dense, DecoderPreset)
    assert (dense.experts, dense.d_ff) == (1, sparse.top_k * sparse.d_ff)
    model = build(small_decoder(experts=1, top_k=1), VOCABULARY)
    layer = model.blocks[0].experts
    tokens = torch.randn(6, 16)
    gate, up = (tokens @ layer.gate_up[0].T).chunk(2, -1)
    expected = (torch.nn.functional.silu(gate) * up) @ layer.down[0].T
    torch.testing.assert_close(layer(tokens, torch.float32), expected)


def test_windows_are_joined_documents_of_alternating_domains() -> None:
    documents = [Document("a", "0"), Document("a", "1"), Document("b", "2")]
    corpus = CausalCorpus(documents, lambda texts: [[10 + int(text)] * 5 for text in texts], 3, 1, seed=0)
    assert corpus.windows.tolist() == [[10] * 4, [12] * 4, [10, 1, 11, 11], [11, 11, 11, 1]]
    (batch,) = corpus.all_batches(4, 4)
    assert np.array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    with pytest.raises(InputError, match="none of 2 domains has 41 tokens"):
        CausalCorpus(documents, lambda texts: [[1]] * len(texts), 40, 1, seed=0)


def test_a_step_learns(home: Path) -> None:
    trainer = Trainer(small_decoder(warmup=0, dropout=0), VOCABULARY, 0, "cpu")
    corpus = CausalCorpus([Document("a", "x")], lambda texts: [list(range(3, 36)) * 4], 32, 1, seed=0)
    losses = []
    for step in range(12):
        trainer.train(corpus.batch(step, 2))
        losses.append(trainer.terms()["loss"])
    assert losses[-1] < losses[0] - 2
    inputs, targets = trainer._to_device(corpus.batch(0, 1))
    assert math.isfinite(float(loss(trainer.model, inputs, targets)))


def test_a_time_limit_ends_training_and_the_schedule_follows_it(home: Path, tmp_path: Path) -> None:
    rates = []

    def watch(step: int, terms: dict[str, float]) -> None:
        rates.append(step)

    card = pretrain(replace(job(home, tmp_path / "out"), minutes=1e-6), watch)
    assert card["trained"]["steps"] == 1
    assert card["minutes"] == 1e-6
    assert card["held_out"]["unigram"] > 0
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert [point["step"] for point in history["held_out"]] == [1]
    with pytest.raises(InputError, match="another minutes"):
        pretrain(job(home, tmp_path / "out"))


def test_generated_and_read_tokens_of_a_decoder_become_two_traces(trained: Path, home: Path, tmp_path: Path) -> None:
    def collected(out: str, **changes: Any) -> dict[Any, Trace]:
        options: dict[str, Any] = {"window": 12, "sequences": 6, "generate": 8, "temperature": 0.9} | changes
        found = CollectJob(str(trained), tmp_path / out, text=(home / "text",), phase="both", **options)
        return {phase: Trace(path) for phase, path in collect(found).items()}

    one, again, greedy = collected("a"), collected("b"), collected("c", temperature=None)
    assert [validate(one[phase]) for phase in ("encode", "decode")] == [72, len(one["decode"])]
    assert (one["encode"].meta.origin, one["decode"].meta.origin) == ("teacher-forced", "generated")
    assert one["decode"].meta.kind == "trained-here"
    assert "sampled (temperature 0.9) generation, at most 8 steps" in one["decode"].meta.notes
    assert np.array_equal(one["decode"].token, again["decode"].token)
    assert not np.array_equal(one["decode"].token, greedy["decode"].token)
    assert np.array_equal(one["encode"].experts, greedy["encode"].experts)


@pytest.mark.parametrize(
    ("override", "message"),
    [(("top_k", 9), "top_k=9: at most 8 expected"), (("d_ff", 12), "d_ff=12: a multiple of 8 expected")],
)
def test_a_decoder_out_of_range(override: tuple[str, float], message: str, home: Path, tmp_path: Path) -> None:
    wrong = job(home, tmp_path)
    with pytest.raises(InputError, match=message):
        replace(wrong, overrides=(*wrong.overrides, override)).resolved()
