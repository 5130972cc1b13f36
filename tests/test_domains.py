"""Text domains: what `--source` selects, what is then learnt from, and how results name it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import specmoe
from specmoe import traces
from specmoe.cli import app
from specmoe.errors import InputError
from specmoe.sim.claims import about_training
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.routing import Routing
from specmoe.sim.run import Scenario
from specmoe.sim.speculate.scoring.evaluate import Examination
from specmoe.traces import Block, Trace, TraceMeta, write_trace
from specmoe.traces.schema import select
from specmoe.traces.store import ALL_DOMAINS, domains_in, learnt_domains
from specmoe.traces.validation import validate

MakeTrace = Callable[..., Path]
TRACE, TRAIN = "switch-mini-128/decode/test", "switch-mini-128/decode/train"
SMALL = ("--policy", "static", "--slots", "40", "--steps", "30", "--draws", "0")


def assert_equal(one: Block, other: Block) -> None:
    for name in Block._fields:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name, strict=True)


def of(trace: Trace, *domains: str) -> Block:
    """Rows of the domains, picked by hand."""
    codes = [trace.meta.sources.index(domain) for domain in domains]
    return select(trace.read(), np.isin(trace.source, codes))


def answer(*arguments: str) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def complaint(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 1
    (line,) = result.stderr.strip().splitlines()
    return line


def test_a_trace_of_some_domains_has_their_rows_in_the_files_order_and_no_others() -> None:
    whole, some = traces.open(TRACE), traces.open(TRACE, ("legal", "fiction"))
    assert_equal(some.read(), of(whole, "fiction", "legal"))
    assert len(some) == len(some.sequence) < len(whole)
    assert validate(some) == len(some)
    assert some.meta == whole.meta


def test_blocks_of_some_domains_are_those_rows_too(tmp_path: Path, make_trace: MakeTrace) -> None:
    whole = traces.open(make_trace(400))
    path = tmp_path / "groups.parquet"
    write_trace(path, whole.meta, (select(whole.read(), slice(row, row + 7)) for row in range(0, 400, 7)))
    some = traces.open(path, ("prose",))
    read = [block.experts for block in some.blocks(["experts"])]
    assert all(map(len, read))
    np.testing.assert_array_equal(np.concatenate(read), of(whole, "prose").experts)


def test_a_sequence_is_of_the_domain_of_its_first_token(tmp_path: Path, make_trace: MakeTrace) -> None:
    whole = traces.open(make_trace(60))
    mixed = whole.read()._replace(source=(whole.position > 0).astype(np.int16))
    write_trace(tmp_path / "mixed.parquet", whole.meta, [mixed])
    assert_equal(traces.open(tmp_path / "mixed.parquet", ("code",)).read(), mixed)
    with pytest.raises(InputError, match=r"source 'prose': .*: one of code expected"):
        traces.open(tmp_path / "mixed.parquet", ("prose",))


def test_all_domains_together_are_the_whole_trace() -> None:
    whole = traces.open(TRACE)
    assert_equal(traces.open(TRACE, whole.meta.sources).read(), whole.read())


@pytest.mark.parametrize(
    ("source", "train_source", "learnt"),
    [((), (), ()), (("a",), (), ("a",)), (("a",), ALL_DOMAINS, ()), (("a",), ("b",), ("b",)), ((), ("b",), ("b",))],
)
def test_what_is_learnt_from(source: tuple[str, ...], train_source: tuple[str, ...], learnt: tuple[str, ...]) -> None:
    assert tuple(learnt_domains(source, train_source)) == learnt


def test_domains_are_written_with_commas() -> None:
    assert domains_in(" fiction,legal,, fiction") == ("fiction", "legal")
    assert domains_in("") == ()


def test_popularity_is_that_of_the_same_domains_unless_others_are_named() -> None:
    def popularity(*train_source: str) -> list[int]:
        counted = Routing(TRACE, source=("fiction",), train_source=train_source).popularity
        assert counted is not None
        return counted.tolist()

    def counts(block: Block) -> list[int]:
        keys = block.experts[:, :, 0] + 128 * np.arange(6)
        return np.bincount(keys.reshape(-1), minlength=768).tolist()

    train = traces.open(TRAIN)
    assert popularity() == counts(of(train, "fiction"))
    assert popularity("legal", "french") == counts(of(train, "legal", "french"))
    assert popularity("all") == counts(train.read())


def test_a_routing_names_the_domains_that_run() -> None:
    assert Routing(TRACE, source=("legal", "fiction")).domains == ("fiction", "legal")
    assert Routing(TRACE, steps=3).domains == ("code_python",), "one step is one token of the first sequence"


def test_runs_of_other_domains_share_no_routing() -> None:
    keys = {
        RunConfig(TRACE).routing,
        RunConfig(TRACE, source=("legal",)).routing,
        RunConfig(TRACE, source=("legal",), train_source=("all",)).routing,
    }
    assert len(keys) == 3


def test_predictions_kept_for_one_domain_are_not_read_for_another(tmp_path: Path) -> None:
    def predicted(*source: str, train_source: tuple[str, ...] = ()) -> int:
        config = RunConfig(TRACE, slots=40, steps=20, source=source, train_source=train_source)
        Scenario(config, tmp_path).run("transition")
        return len([path for path in tmp_path.rglob("*") if path.is_file()])

    assert predicted("legal") == predicted("legal")
    one = predicted("legal")
    assert predicted("french") == 2 * one
    assert predicted("french", train_source=("all",)) == 3 * one


def test_simulate_names_the_domains_and_what_is_learnt_from() -> None:
    (row,) = answer("simulate", TRACE, *SMALL, "--source", "legal,fiction", "--train-source", "all")
    assert (row["source"], row["train_source"], row["domains"]) == ("legal,fiction", "all", ["legal"])
    (row,) = answer("simulate", TRACE, *SMALL)
    assert (row["source"], row["train_source"], row["domains"]) == ("", "", ["code_python"])


def test_the_api_takes_domains_as_a_list_or_with_commas() -> None:
    runs = [
        specmoe.simulate(TRACE, "static", slots=40, steps=30, source=source)
        for source in (["fiction", "legal"], "fiction,legal")
    ]
    assert [run.rows[0]["source"] for run in runs] == ["fiction,legal"] * 2
    table = specmoe.sweep(TRACE, "static", slots=40, steps=30, source=["fiction", "fiction,legal"]).table
    assert table["source"].tolist() == ["fiction", "fiction,legal"]
    assert table["latency_mean_ns"].tolist()[1] == runs[0].rows[0]["latency_mean_ns"]


def test_a_sweep_has_a_cell_for_each_source(tmp_path: Path) -> None:
    options = ("--trace", TRACE, *SMALL, "--workers", "1", "--out", str(tmp_path))
    (found,) = answer("sweep", *options, "--source", "fiction", "--source", "legal,french", "--train-source", "all")
    assert [row["source"] for row in found["best"]] == ["fiction", "legal,french"]


def test_scores_are_of_the_domains_and_say_so() -> None:
    exam = Examination(TRACE, source=("legal",))
    assert_equal(exam.test.block, of(traces.open(TRACE), "legal"))
    assert exam.train is not None
    assert_equal(exam.train.block, of(traces.open(TRAIN), "legal"))
    assert (exam.facts["domains"], exam.facts["train_domains"]) == (["legal"], ["legal"])
    everything = Examination(TRACE, source=("legal",), train_source=ALL_DOMAINS)
    assert len(everything.facts["train_domains"]) == 14


def test_an_analysis_is_of_the_domains_and_says_so(tmp_path: Path) -> None:
    (facts,) = answer("analyze", TRACE, "--source", "legal", "--out", str(tmp_path))
    assert (facts["tokens"], facts["trace"]["domains"]) == (len(traces.open(TRACE, ("legal",))), ["legal"])
    assert [row["source"] for row in facts["domains"]["use"]] == ["legal"]
    assert facts["domains"]["use"][0]["corrected_bits"] == facts["domains"]["mixture"]["corrected_bits"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("simulate", TRACE, *SMALL, "--source", "ficton"),
        ("simulate", TRACE, *SMALL, "--source", "legal", "--train-source", "ficton"),
        ("evaluate", TRACE, "--predictor", "frequency", "--source", "ficton"),
        ("analyze", TRACE, "--out", "nowhere", "--source", "ficton"),
        ("sweep", "--trace", TRACE, *SMALL, "--out", "nowhere", "--source", "ficton"),
        ("advise", "--model", "switch-base-128", "--profile", "rtx3090", "--vram", "4GiB", "--source", "ficton"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_unknown_domain_is_one_line_with_the_nearest(arguments: tuple[str, ...]) -> None:
    assert "source 'ficton'" in complaint(*arguments)
    assert complaint(*arguments).endswith("did you mean 'fiction'?")


@pytest.mark.parametrize(
    ("name", "source", "warned"),
    [("learned-fusion", ("legal",), True), ("learned-fusion", (), False), ("transition", ("legal",), False)],
)
def test_a_network_that_was_trained_before_is_warned_about(name: str, source: tuple[str, ...], warned: bool) -> None:
    expected = [f"the network of {name} was trained before, and not on the text domains of this run alone"]
    assert list(about_training(POLICIES[name], source)) == expected * warned


def test_drawn_routing_has_no_domains() -> None:
    told = complaint(
        "advise", "--model", "mixtral-8x7b", "--profile", "rtx3090", "--vram", "20GiB", "--source", "legal"
    )
    assert told == "error: --source legal: no trace of mixtral-8x7b is bundled: --trace expected"


def test_a_batch_larger_than_a_domain_names_it() -> None:
    told = complaint("simulate", TRACE, *SMALL, "--batch", "18", "--source", "legal")
    assert "has only 17 sequences of legal: at most 17 expected" in told


def test_domains_of_codes_are_names_by_alphabet() -> None:
    meta: TraceMeta = traces.open(TRACE).meta
    assert meta.domains(np.array([5, 0, 5], np.int16)) == tuple(sorted((meta.sources[5], meta.sources[0])))
