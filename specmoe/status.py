"""What is installed and available (libraries, traces, profiles, predictors, validations, a GPU), and useful next steps.

Nothing here fails because a part is missing: an absent part is reported with its reason.
"""

import json
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from specmoe import __version__
from specmoe.errors import SpecmoeError, install
from specmoe.hwprofiles.catalogue import load_profile, profile_names, shape_names
from specmoe.hwprofiles.expected_error import Accuracy, accuracies
from specmoe.hwprofiles.measure.usable import Usable, usable_devices
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.sim.speculate.predictors import METRICS
from specmoe.traces import store
from specmoe.traces.store import Trace

REQUIRED = ("numpy", "pandas", "pyarrow", "matplotlib", "simpy", "typer")
EXTRAS: Mapping[str, tuple[tuple[str, ...], str]] = {  # what each brings and what that is for
    "torch": (
        ("torch", "transformers", "safetensors", "tokenizers"),
        "recording traces, training predictors, measuring and replaying on a GPU",
    ),
    "hub": (("datasets",), "recording on public data sets"),
    "calibrate": (("scipy",), "fitting a profile to replays"),
    "fast": (("numba",), "timing many machines in one pass: sweeps, advice"),
    "scale": (("distributed",), "sweeps on several machines"),
}
LOCAL = ("*.parquet", "*/*.parquet")  # where one's own traces are looked for, from a directory on


class Inventory(NamedTuple):
    """Everything. `matches` names the shipped profile of each device, None where there is none."""

    version: str
    python: str
    required: dict[str, str | None]
    extras: "tuple[Extra, ...]"
    traces: "tuple[TraceEntry, ...]"
    profiles: "tuple[ProfileEntry, ...]"
    shapes: tuple[str, ...]
    predictors: "tuple[PredictorEntry, ...]"
    validations: tuple[Accuracy, ...]
    gpu: Usable
    matches: tuple[str | None, ...]


class Extra(NamedTuple):
    """A set of optional libraries; a version is None where the library is not installed."""

    name: str
    purpose: str
    libraries: dict[str, str | None]

    @property
    def missing(self) -> tuple[str, ...]:
        """Libraries that are not installed."""
        return tuple(name for name, found in self.libraries.items() if found is None)


class TraceEntry(NamedTuple):
    """A trace: `where` is bundled or local."""

    name: str
    where: str
    phase: str
    kind: str
    tokens: int
    layers: int
    experts: int
    top_k: int


class ProfileEntry(NamedTuple):
    """A shipped profile: the weakest evidence of any of its numbers, how many are assumed; None if not calibrated."""

    name: str
    title: str
    vram_bytes: int
    evidence: str
    numbers: int
    assumed: int
    calibration_met: bool | None


class PredictorEntry(NamedTuple):
    """A bundled network, and how often its first guess of the next layer was right on the validation split."""

    name: str
    model: str
    phase: str
    top1: float


def inventory(directory: Path) -> Inventory:
    """All there is; one's own traces are looked for in a directory and one level below it."""
    shipped = [load_profile(name) for name in profile_names()]
    gpu = usable_devices()
    return Inventory(
        version=__version__,
        python=platform.python_version(),
        required=versions(REQUIRED),
        extras=tuple(Extra(name, purpose, versions(parts)) for name, (parts, purpose) in EXTRAS.items()),
        traces=(*bundled_traces(), *local_traces(directory)),
        profiles=tuple(map(profile_entry, shipped)),
        shapes=shape_names(),
        predictors=tuple(predictors(store.root())),
        validations=accuracies(),
        gpu=gpu,
        matches=tuple(matching(device.name, shipped) for device in gpu.devices),
    )


def versions(libraries: tuple[str, ...]) -> dict[str, str | None]:
    """Installed versions, by the libraries' names."""
    return {name: _version(name) for name in libraries}


def bundled_traces() -> Iterator[TraceEntry]:
    """Those that come with the package."""
    return (trace_entry(Trace(store.path_of(name)), name, "bundled") for name in store.names())


def local_traces(directory: Path) -> Iterator[TraceEntry]:
    """One's own; Parquet files that are something else are passed over."""
    for path in sorted(path for pattern in LOCAL for path in directory.glob(pattern)):
        try:
            trace = Trace(path)
        except SpecmoeError:
            continue
        yield trace_entry(trace, str(path.relative_to(directory)), "local")


def trace_entry(trace: Trace, name: str, where: str) -> TraceEntry:
    """What the footer of a trace tells."""
    meta = trace.meta
    return TraceEntry(name, where, meta.phase, meta.kind, len(trace), meta.num_layers, meta.num_experts, meta.top_k)


def profile_entry(profile: HardwareProfile) -> ProfileEntry:
    """A profile in short."""
    met = None if profile.calibration is None else profile.calibration.met
    names, assumed = (*profile.quantities, *profile.points), profile.assumed()
    vram = int(profile["device.vram"])
    evidence = profile.evidence(names)
    return ProfileEntry(profile.name, profile.title, vram, evidence, len(profile.quantities), len(assumed), met)


def predictors(root: Path) -> Iterator[PredictorEntry]:
    """The trained networks below a directory `MODEL/predictors/PHASE/NAME`, sorted."""
    for path in sorted(root.glob(f"*/predictors/*/*/{METRICS}")):
        model, _, phase, _ = path.relative_to(root).parts[:4]
        metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        top1 = float(metrics["validation"]["within_step"]["depth1"]["top1"])
        yield PredictorEntry(f"learned-{metrics['architecture']}", model, phase, top1)


def matching(device: str, profiles: list[HardwareProfile]) -> str | None:
    """The profile that was measured on a device of this name, or else whose title begins with it."""
    measured = (profile.name for profile in profiles if profile.machine.get("device") == device)
    titled = (profile.name for profile in profiles if profile.title.split(",")[0] == device)
    return next(chain(measured, titled), None)


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def next_steps(found: Inventory) -> list[str]:
    """One line each, the most useful first."""
    first = next((name for name in found.matches if name), "rtx3090")
    steps = [f"specmoe advise --model switch-base-128 --profile {first} --vram 8GiB --target 600tok/s"]
    missing = [extra.name for extra in found.extras if extra.missing]
    if missing:
        steps.append(f"{install(missing)} for what the extras above are for")
    if found.gpu.devices:
        steps.append(_for_device(found))
    return steps


def _for_device(found: Inventory) -> str:
    """The first device, for measuring and replaying take the first."""
    name = found.matches[0]
    calibrated = {entry.name: entry.calibration_met is not None for entry in found.profiles}
    if name is None or not calibrated[name]:
        return "specmoe profile measure --out my.toml: this machine's own numbers, in about three minutes"
    return f"specmoe validate switch-mini-128/decode/test --profile {name}: is {name} right about this machine?"
