"""What specmoe ships and plug-ins bring, as DataFrames: policies and their parts, machines, model shapes."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd

from specmoe.hwprofiles.catalogue import host_names, load_host, load_profile, load_shape, profile_names, shape_names
from specmoe.hwprofiles.profile import plateau_of
from specmoe.sim.claims import is_yardstick
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.misses import ALWAYS_LOAD, MISSES
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.speculate.predictors import PREDICTORS
from specmoe.summary import Row


def policies() -> pd.DataFrame:
    """Every policy by name, plug-ins' too: what it does, its source (paper or program), and its parts."""

    def rows() -> Iterator[Row]:
        for name, known in POLICIES.items():
            parts = {"predictor": known.predictor, "eviction": known.eviction, "sharing": known.sharing}
            parts |= {"miss": known.miss, "placement": known.placement}
            yield {
                "name": name,
                "about": known.about,
                "source": known.source,
                **parts,
                "yardstick": is_yardstick(known),
            }

    return _frame(rows())


def evictions() -> pd.DataFrame:
    """Every eviction by name, plug-ins' too: what it evicts, and its source."""
    return _frame({"name": name, **_about(known), "peeks": known.peeks} for name, known in EVICTIONS.items())


def misses() -> pd.DataFrame:
    """Every miss rule by name: what a demanded expert gets that is in no slot, and its source."""
    always = {"name": ALWAYS_LOAD, "about": "Every miss is loaded, and its use waits for it.", "source": "textbook"}
    return _frame(iter([always, *({"name": name, **_about(known)} for name, known in MISSES.items())]))


def predictors() -> pd.DataFrame:
    """Every predictor by name, plug-ins' too: what it predicts, and its source."""

    def rows() -> Iterator[Row]:
        for name, known in PREDICTORS.items():
            made = known.func if isinstance(known, partial) else known
            yield {"name": name, **_about(made), "peeks": bool(getattr(made, "peeks", False))}

    return _frame(rows())


def _about(made: Any) -> dict[str, str]:
    """The first line of a class's documentation, and its source."""
    return {"about": (made.__doc__ or "").strip().split("\n")[0], "source": getattr(made, "source", "")}


def profiles() -> pd.DataFrame:
    """Every shipped machine: VRAM in bytes, and memory and pinned link bandwidth in bytes/s, one way."""
    names = {"vram_bytes": "device.vram", "memory_bandwidth": "device.memory_bandwidth"}

    def rows() -> Iterator[Row]:
        for name in profile_names():
            profile = load_profile(name)
            numbers = {column: profile[field] for column, field in names.items()}
            link = profile.plateau("host_to_device.pinned")
            yield {"name": name, **numbers, "link_bandwidth": link}

    return _frame(rows())


def hosts() -> pd.DataFrame:
    """Every shipped host: generation and lanes of its link, and bandwidths of copies to a device in bytes/s."""
    copies = {"link_bandwidth": "host_to_device.pinned", "pageable_bandwidth": "host_to_device.pageable"}

    def rows() -> Iterator[Row]:
        for name in host_names():
            host = load_host(name)
            rates = {column: plateau_of(copy, host.quantities, host.points) for column, copy in copies.items()}
            built = {part: int(host.quantities[f"link.{part}"].value) for part in ("generation", "lanes")}
            yield {"name": name, **built, **rates}

    return _frame(rows())


def shapes() -> pd.DataFrame:
    """Every shipped model shape: MoE layers, experts, top-k, sizes and bytes of an expert in the model's own format."""

    def rows() -> Iterator[Row]:
        for name in shape_names():
            shape = load_shape(name)
            experts = {"experts": shape.experts.number, "top_k": shape.experts.top_k}
            size = {"format": shape.format, "expert_bytes": shape.expert_bytes(), "parameters": shape.total_parameters}
            yield {"name": name, "moe_layers": shape.decoder.moe_layers, **experts, "d_model": shape.d_model, **size}

    return _frame(rows())


def _frame(rows: Iterator[Row]) -> pd.DataFrame:
    return pd.DataFrame(list(rows))
