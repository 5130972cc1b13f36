"""A corpus with a tokenizer trained on it, and `run` to pretrain on them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import VOCABULARY, Run, small_job, stop, write_corpus

from specmoe.traces.pretrain import pretrain
from specmoe.traces.text import read_documents
from specmoe.traces.tokenizer import train_tokenizer


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors, equal sums, and neighbours on the machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `text` and `tokenizer`."""
    directory = tmp_path_factory.mktemp("pretrain")
    documents = read_documents([write_corpus(directory / "text")])
    train_tokenizer((document.text for document in documents), VOCABULARY).save_pretrained(directory / "tokenizer")
    return directory


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Run:
    """`run(out="out", **changes)`: see `small_job`."""

    def run(out: str = "out", on_progress: Any = None, **changes: Any) -> dict[str, Any]:
        return pretrain(small_job(home, tmp_path / out, **changes), on_progress)

    return run


@pytest.fixture(scope="session")
def finished(home: Path) -> Path:
    """The checkpoint of an uninterrupted run; look, but do not touch."""
    pretrain(small_job(home, home / "finished", measure_every=10))
    return home / "finished"


@pytest.fixture(scope="session")
def left_behind(home: Path) -> Path:
    """What is left of a run that stopped at step 20, after its save at step 10."""
    with pytest.raises(KeyboardInterrupt):
        pretrain(small_job(home, home / "stopped"), stop)
    return home / "stopped"


@pytest.fixture
def stopped(left_behind: Path, tmp_path: Path) -> Path:
    """A run into `out` that stopped at step 20, after its save at step 10."""
    return shutil.copytree(left_behind, tmp_path / "out")
