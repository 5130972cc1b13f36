"""Checkpoints of all classes, and `run` to collect from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import CONFIGS, save_tiny, small_job, write_text

from specmoe.traces import Trace
from specmoe.traces.collect import collect


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of all classes and a directory `text`."""
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("collect")
    write_text(directory / "text")
    for model_type in CONFIGS:
        save_tiny(directory / model_type, model_type, begin=model_type == "mixtral")
    return directory


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Callable[..., dict[Any, Trace]]:
    """Collect with small defaults: 7 sequences of at most 32 tokens, batches of 3."""

    def run(model: str = "switch_transformers", out: str = "out", **changes: Any) -> dict[Any, Trace]:
        return {
            phase: Trace(path) for phase, path in collect(small_job(home, tmp_path / out, model, **changes)).items()
        }

    return run
