"""Pretraining: batches, schedule, rates and losses, and what a run leaves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import (
    CHECKPOINT,
    VOCABULARY,
    Run,
    left_in,
    small_batch,
    small_corpus,
    small_job,
    small_preset,
)
from transformers import AutoModelForSeq2SeqLM

from specmoe.traces.pretrain_data import unigram_loss
from specmoe.traces.pretrain_loop import Trainer, schedule

# Batches


def windows_of(batch: Any) -> list[int]:
    """Which window each row is: its one ordinary id."""
    return [int(np.median(row)) - 100 for row in batch.inputs]


@given(st.integers(0, 50), st.integers(1, 20), st.integers(1, 9), st.integers(0, 3))
def test_a_batch_is_a_function_of_seed_and_step(step: int, size: int, windows: int, seed: int) -> None:
    one, other = (small_corpus(windows, seed=seed) for _ in range(2))
    other.batch(0, 3)
    for ids, again in zip(one.batch(step, size), other.batch(step, size), strict=True):
        assert ids.dtype == np.int32
        assert len(ids) == size
        assert np.array_equal(ids, again)


@given(st.integers(1, 7), st.integers(1, 9))
def test_epochs_are_permutations(size: int, windows: int) -> None:
    corpus = small_corpus(windows)
    seen = [window for step in range(3 * windows) for window in windows_of(corpus.batch(step, size))]
    for epoch in range(3 * size):
        assert sorted(seen[epoch * windows : (epoch + 1) * windows]) == list(range(windows))


def test_seeds_steps_and_epochs_differ() -> None:
    corpus = small_corpus(8)
    masks = [(corpus.batch(step, 1).inputs > 99).tobytes() for step in range(8)]
    orders = [windows_of(corpus.batch(step, 8)) for step in range(4)] + [
        windows_of(small_corpus(8, seed=1).batch(0, 8))
    ]
    assert len(set(masks)) > 4
    assert len({tuple(order) for order in orders}) == 5


def test_measuring_always_sees_the_same() -> None:
    batches = small_corpus(9).all_batches(4, 7)
    assert [windows_of(batch) for batch in batches] == [[0, 1, 2, 3], [4, 5, 6]]
    for batch, again in zip(batches, small_corpus(9).all_batches(4, 7), strict=True):
        assert all(map(np.array_equal, batch, again))


def test_a_batch_counts_its_tokens() -> None:
    batch = small_corpus(3).batch(0, 2)
    assert batch.tokens == 2 * (32 + batch.targets.shape[1])


def test_the_digest_tells_texts_apart() -> None:
    assert small_corpus(3).digest() == small_corpus(3, seed=1).digest() != small_corpus(4).digest()


def test_a_unigram_guess_in_closed_form() -> None:
    corpus = small_corpus(1)
    (batch,) = corpus.all_batches(1, 1)
    counts = {int(i): int((batch.targets == i).sum()) + 1 for i in np.unique(batch.targets)}
    total = batch.targets.size + VOCABULARY
    by_hand = np.mean([-math.log(counts[i] / total) for i in batch.targets[0].tolist()])
    assert unigram_loss(corpus, [batch], VOCABULARY) == pytest.approx(by_hand)


# Schedule, rates and steps


def test_the_schedule_in_closed_form() -> None:
    preset = small_preset(warmup=4, steps=104)
    shares = [schedule(step, preset) for step in range(105)]
    assert shares[:5] == [0.25, 0.5, 0.75, 1, 1]
    assert shares[54] == pytest.approx(0.01 + 0.99 / 2)
    assert shares[104] == pytest.approx(0.01)
    assert shares[4:] == sorted(shares[4:], reverse=True)
    assert schedule(0, small_preset(warmup=0)) == 1


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer(small_preset(), VOCABULARY, 0, "cpu")


def test_rates_are_proportional_to_the_initial_scale() -> None:
    trainer = Trainer(small_preset(learning_rate=0.02), VOCABULARY, 0, "cpu")
    rates = {id(p): group["base"] for group in trainer.optimizer.param_groups for p in group["params"]}
    assert rates.keys() == {id(p) for p in trainer.model.parameters()}
    for parameter in trainer.model.parameters():
        scale = float(parameter.detach().square().mean().sqrt())
        assert 2**-0.5 * 0.999 <= rates[id(parameter)] / (0.02 * scale) <= 2**0.5 * 1.001


def test_a_step_uses_the_scheduled_rate() -> None:
    trainer = Trainer(small_preset(warmup=4), VOCABULARY, 0, "cpu")
    trainer.train(small_batch())
    trainer.train(small_batch())
    for group in trainer.optimizer.param_groups:
        assert float(group["lr"]) == pytest.approx(group["base"] * 0.5)
    assert trainer.step == 2


def test_the_terms_of_a_step(trainer: Trainer) -> None:
    trainer.train(small_batch())
    terms = trainer.terms()
    assert terms.keys() == {"loss", "balance", "router_z", "gradient_norm", "dropped"}
    assert terms["loss"] == pytest.approx(math.log(384), abs=3)
    assert 1 - 1e-3 <= terms["balance"] <= 4
    assert terms["router_z"] == pytest.approx(math.log(4) ** 2, rel=0.2)


def gradients(monkeypatch: pytest.MonkeyPatch, **scales: float) -> list[Any]:
    """Those that one step without noise leaves on the routers, not clipped."""
    monkeypatch.setattr("specmoe.traces.pretrain_loop.GRADIENT_NORM", math.inf)
    quiet = {"dropout": 0, "expert_dropout": 0, "jitter": 0, "learning_rate": 0}
    trainer = Trainer(small_preset(**quiet | scales), VOCABULARY, 0, "cpu")
    trainer.train(small_batch())
    return [layer.classifier.grad for layer in trainer.sparse]


@pytest.mark.parametrize("term", ["balance", "router_z"])
def test_the_terms_of_all_layers_are_summed(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without = gradients(monkeypatch, balance=0, router_z=0)
    scaled = gradients(monkeypatch, **{"balance": 0, "router_z": 0, term: 0.5})
    trainer = Trainer(small_preset(dropout=0, expert_dropout=0, jitter=0), VOCABULARY, 0, "cpu")
    trainer._loss(*trainer._to_device(small_batch()))
    sum(getattr(layer, term) for layer in trainer.sparse).backward()
    for layer, bare, more in zip(trainer.sparse, without, scaled, strict=True):
        torch.testing.assert_close(more - bare, 0.5 * layer.classifier.grad, rtol=1e-3, atol=1e-6)


def test_gradients_are_clipped(trainer: Trainer) -> None:
    trainer.train(small_batch())
    norm = torch.stack([p.grad.norm() for p in trainer.model.parameters()]).norm()
    assert trainer.terms()["gradient_norm"] > 1
    assert float(norm) == pytest.approx(1, rel=1e-3)


def test_measuring_leaves_training_alone(trainer: Trainer) -> None:
    before = torch.get_rng_state()
    once, again = (trainer.measure([small_batch(3), small_batch(1, seed=1)]) for _ in range(2))
    assert once == again
    assert torch.equal(before, torch.get_rng_state())
    assert all(module.training for module in trainer.model.modules())


def test_measured_batches_weigh_by_their_rows(trainer: Trainer) -> None:
    large, small = small_batch(3), small_batch(1, seed=1)
    losses = [trainer.measure([batch])["loss"] for batch in (large, small, small)]
    assert trainer.measure([large, small])["loss"] == pytest.approx((3 * losses[0] + losses[1]) / 4)
    assert losses[1] == losses[2]


def test_measured_use_in_closed_form(trainer: Trainer) -> None:
    even = Trainer(small_preset(router_init=0), VOCABULARY, 0, "cpu").measure([small_batch()])
    assert even["least_entropy_bits"] == pytest.approx(0, abs=1e-6)  # a tie goes to the first expert
    assert even["fewest_experts"] == 1
    measured = trainer.measure([small_batch()])
    assert 0 <= measured["least_entropy_bits"] <= 2
    assert 1 <= measured["fewest_experts"] <= 4


# What a run leaves


def test_the_loss_goes_down(run: Run, tmp_path: Path) -> None:
    card = run(steps=150, learning_rate=0.05, warmup=10, measure_every=10)
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    losses = [point["loss"] for point in history["held_out"]]
    assert losses[-1] < losses[0] - 1.5
    assert card["held_out"]["loss"] < card["held_out"]["unigram"]
    assert card["held_out"]["fewest_experts"] == 4


def test_a_finished_run_is_a_checkpoint_and_no_more(finished: Path) -> None:
    assert left_in(finished) == CHECKPOINT


def test_the_card_says_what_was_done(finished: Path) -> None:
    card = json.loads((finished / "specmoe.json").read_text())
    assert (card["kind"], card["preset"], card["seed"]) == ("trained-here", "switch-mini-16", 0)
    assert card["corpus"] == "noise.txt, verse.txt"
    assert card["recipe"] == vars(small_preset())
    assert {"loss", "unigram", "fewest_experts", "least_entropy_bits", "dropped"} == card["held_out"].keys()
    assert {"torch", "transformers", "specmoe"} < card["versions"].keys()


def test_the_history_has_training_and_held_out_points(finished: Path) -> None:
    history = json.loads((finished / "history.json").read_text())
    assert [point["step"] for point in history["training"]] == [20, 24]
    assert [point["step"] for point in history["held_out"]] == [10, 20, 24]
    card = json.loads((finished / "specmoe.json").read_text())
    assert history["held_out"][-1]["loss"] == card["held_out"]["loss"]


def test_the_checkpoint_is_an_ordinary_one(finished: Path, home: Path) -> None:
    from specmoe.traces.pretrain import _corpus
    from specmoe.traces.text import read_documents
    from specmoe.traces.tokenizer import load_tokenizer

    job = small_job(home, finished)
    model, info = AutoModelForSeq2SeqLM.from_pretrained(finished, dtype=torch.float32, output_loading_info=True)
    assert not any(info.values())
    for module in model.modules():
        if hasattr(module, "expert_capacity"):
            module.expert_capacity = 10**6
    corpus = _corpus(job, read_documents(job.text), "validation", load_tokenizer(finished))
    losses: list[float] = []
    for batch in corpus.all_batches(2, 560):
        inputs, targets = (torch.from_numpy(ids).long() for ids in batch)
        losses += [float(model(input_ids=inputs, labels=targets).loss.detach())] * len(inputs)
    card = json.loads((finished / "specmoe.json").read_text())
    assert np.mean(losses) == pytest.approx(card["held_out"]["loss"], rel=1e-3)


def test_a_new_tokenizer_is_part_of_the_checkpoint(run: Run, tmp_path: Path) -> None:
    run(tokenizer=None, steps=4)
    assert left_in(tmp_path / "out") == CHECKPOINT


def test_equal_jobs_give_equal_weights(run: Run, finished: Path, tmp_path: Path) -> None:
    run(measure_every=10)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()
    run(out="other", measure_every=10, seed=1)
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != (finished / "model.safetensors").read_bytes()


@pytest.mark.parametrize("text", ["home/text", "home/text/.", "."])
def test_the_card_names_files_however_they_were_named(
    text: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home / "text")
    (tmp_path / "home").symlink_to(home)
    given = Path(text) if text == "." else tmp_path / text
    assert small_job(home, tmp_path, text=(given,)).corpus() == "noise.txt, verse.txt"
    assert small_job(home, tmp_path, text=(Path("verse.txt"), given)).corpus() == "noise.txt, verse.txt"


def test_collect_reads_the_checkpoint(finished: Path, home: Path, tmp_path: Path) -> None:
    from specmoe.traces import Trace
    from specmoe.traces.collect import CollectJob, collect

    collect(CollectJob(str(finished), tmp_path / "t.parquet", text=(home / "text",), window=32, sequences=4))
    meta = Trace(tmp_path / "t.parquet").meta
    assert (meta.kind, meta.num_experts, meta.num_layers) == ("trained-here", 4, 1)
    assert any("noise.txt, verse.txt" in note for note in meta.notes)
