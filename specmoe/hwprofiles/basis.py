"""The numbers behind the costs of one model on one machine: their names, evidence, and what was not measured."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from specmoe.errors import InputError, hint
from specmoe.hwprofiles import kernels
from specmoe.hwprofiles.cpu import CpuExperts
from specmoe.hwprofiles.curves import Curve, DenseCurve, Points, extrapolation
from specmoe.hwprofiles.dense import DenseTimes
from specmoe.hwprofiles.kernels import LAUNCHING, MULTIPLY, USUAL, Style
from specmoe.hwprofiles.launches import ExpertTimes
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import CONTENTION, HOST_SETS, INTERFERENCE, TILES, Evidence, weakest
from specmoe.hwprofiles.shape import (
    FORMATS,
    KERNEL_FORMATS,
    ComputeFormat,
    Format,
    KvFormat,
    ModelShape,
    Phase,
    bytes_of,
    compute_format,
    is_compressed,
    is_expandable,
)

Move = Literal["host-pinned", "host-pageable", "nvme", "device-copy", "device-to-host", "allocation"]
HostSet = Literal["graph", "eager"]

CURVE_OF: dict[Move, str] = {
    "host-pinned": "host_to_device.pinned",
    "host-pageable": "host_to_device.pageable",
    "nvme": "nvme",
    "device-copy": "device_copy",
    "device-to-host": "device_to_host",
    "allocation": "allocation",
}
SMALL_COPIES = ("device_to_host", "host_to_device.pinned")  # of a hidden state to the CPU, and back


@dataclass(frozen=True)
class Basis:
    """Profile, model, formats, style and sizes that the costs of a run are computed from.

    A run announces what it uses, so that `evidence`, `assumed` and `warnings` cover all of it: `moves` are its kinds of
    copies, `also_held` further formats (of compressed copies), `most_tokens` the most tokens of one expert in a step,
    `steps` the sizes of its dense parts (None: any phase). Any other move or format raises InputError, as do unknown
    names.
    """

    profile: HardwareProfile
    shape: ModelShape
    format: Format
    host_set: HostSet = "graph"
    moves: tuple[Move, ...] = ("host-pinned",)
    also_held: tuple[Format, ...] = ()
    most_tokens: int = 1
    steps: kernels.Steps | None = None
    style: Style = USUAL
    dense_format: Format | None = None
    cpu: CpuExperts | None = None
    kv_format: KvFormat = "f16"

    def __post_init__(self) -> None:
        choices: list[tuple[str, str, tuple[str, ...]]]
        choices = [("format", self.format, FORMATS), ("host set", self.host_set, HOST_SETS)]
        choices += [("format", held, FORMATS) for held in self.also_held]
        choices += [("dense format", self.dense_format, FORMATS)] if self.dense_format else []
        choices += [("move", move, tuple(CURVE_OF)) for move in self.moves]
        choices += [("style", self.style.multiply, MULTIPLY), ("style", self.style.launch, LAUNCHING)]
        for what, name, known in choices:
            if name not in known:
                raise InputError(f"{what} {name!r}: {hint(name, known)}")
        if self.style.multiply == "expand" and self.format not in KERNEL_FORMATS:
            raise InputError(f"no kernel that expands {self.format}: style fused expected")

    @property
    def compute_format(self) -> ComputeFormat:
        """Number format in which kernels compute."""
        return compute_format(self.format)

    @property
    def uses(self) -> tuple[str, ...]:
        """Dotted names of the profile's quantities and points behind `load_ns`, `use_ns`, `before_ns` and `head_ns`.

        Curves of experts and dense parts have no names and are not included.
        """
        groups = [CURVE_OF[move] for move in self.moves]
        groups += [f"dequantise.{name}" for name in self._expanded]
        groups += [f"gemm.{self.compute_format}"] if self._asks_roofline else []
        groups += [] if self._dense_is_measured else ["dense", "router"]
        groups += [f"host.{self.host_set}"]
        beside = (CONTENTION, INTERFERENCE) if "host-pinned" in self.moves else (INTERFERENCE,)
        together = tuple(name for name in beside if name in self.profile)
        tiled = self._tiles and self._experts.kernel == "library" and not self._experts.curves
        groups += [TILES] if tiled else []
        groups += SMALL_COPIES if self.cpu else ()
        named = [name for group in groups for name in self.profile.names_under(group)]
        memory = ("device.memory_bandwidth",) if self._asks_roofline else ()
        unpacking = ("gemm.fp32.rate",) if self._unpacks and self.compute_format != "fp32" else ()
        cpu = self.cpu.uses if self.cpu else ()
        return tuple(dict.fromkeys((*memory, *unpacking, "device.kernel_floor", *together, *named, *cpu)))

    @property
    def _unpacks(self) -> bool:
        """Whether packed weights are read by kernels that were not measured."""
        experts = is_compressed(self.format) and self._experts.kernel == "fused" and not self._experts.curves
        return experts or (self.dense_format is not None and is_compressed(self.dense_format))

    @property
    def is_measured(self) -> bool:
        """Whether the experts in this style, and all dense parts of the run, were measured on this machine."""
        return bool(self._experts.curves) and self._dense_is_measured

    @property
    def asks_experts(self) -> bool:
        """Whether measured curves of experts decide their time, of this size or of others."""
        return bool(self._experts.curves) or self._experts.is_anchored

    @property
    def asks_dense(self) -> bool:
        """Whether measured curves of dense parts decide their time, of these sizes or of others."""
        return any(self._dense_parts) or any(map(self._dense.is_anchored, self._dense.parts(self._phases)))

    @property
    def assumed(self) -> tuple[str, ...]:
        """Assumed names among `uses`, and `expert_curve` and `dense_curve` if they are assumed."""
        curves = {"expert_curve": self._experts.points, "dense_curve": self._dense_points}
        guessed = (name for name, points in curves.items() if any(part.source == "assumed" for part in points))
        return (*self.profile.assumed(self.uses), *guessed)

    @property
    def evidence(self) -> Evidence:
        """Weakest evidence among the numbers behind these costs."""
        left: tuple[Evidence, ...] = ("extrapolated",) if self._extrapolations else ()
        left += ("fitted",) if self._asks_shares else ()
        left += (self.cpu.evidence,) if self.cpu else ()
        curves = (points.evidence for points in (*self._experts.points, *self._dense_points))
        return weakest((self.profile.evidence(self.uses), *curves, *left))

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line per part that was not measured on a measured profile or is outside its measured or fitted range.

        The last ones are about a missed calibration target and a fit that another host has left.
        """
        calibration, name = self.profile.calibration, self.profile.name
        short = calibration.shortfall if calibration else None
        known = (*self._extrapolations, *(self.cpu.warnings if self.cpu else ()))
        return (*known, *(f"{name}: {about}" for about in (short, self.profile.note) if about))

    @cached_property
    def _extrapolations(self) -> tuple[str, ...]:
        name = self.profile.name
        sizes = sorted({self._bytes(held) for held in (self.format, *self.also_held)})
        lines = [
            extrapolation(self._curve(move), size, f"{name}: {CURVE_OF[move]}", "B")
            for move in self.moves
            for size in sizes
        ]
        lines += [
            extrapolation(self.profile.curve(group), self._expanded_bytes, f"{name}: {group}", "B")
            for group in (f"dequantise.{held}" for held in self._expanded)
        ]
        lines += [
            extrapolation(curve, self.most_tokens, f"{name}: expert_curve", "token")
            for curve in list(self._experts.curves.values())[:1]
        ]
        return tuple(line for line in (*lines, *self._beyond_group, *self._beyond_dense, *self._unmeasured) if line)

    @property
    def _beyond_group(self) -> list[str]:
        """A line about launches of more experts than were measured."""
        curves = self._experts.curves
        if self.steps is None or self.style.launch == "separate" or not curves:
            return []
        most = min(self.shape.experts.number, self.shape.experts.top_k * self.steps.tokens.most)
        if most <= max(curves):
            return []
        measured = f"the measured {min(curves)} .. {max(curves)}"
        return [f"{self.profile.name}: expert_curve: {most} experts in a launch are outside {measured}"]

    @property
    def _unmeasured(self) -> list[str]:
        """Lines about kernels that were not measured on a profile where others were."""
        shape, profile, lines = self.shape.name, self.profile, list[str]()
        where = {True: "its measured shares", False: "its rates"}
        if not self._experts.curves and (profile.expert_curves or profile.dense_curves):
            what = f"{self._experts.kernel} kernels of {shape} in {self.format}"
            lines.append(f"{what} were not measured on {profile.name}: derived from {where[self.asks_experts]}")
        if not self._dense_is_measured and profile.dense_curves:
            held = f" in {self.dense_format}" if self._dense.held != self.compute_format else ""
            what = f"dense parts of {shape}{held}"
            missing = [part for part in self._dense.parts(self._phases) if not self._dense.measured(part)]
            anchored = any(map(self._dense.is_anchored, missing))
            lines.append(f"{what} were not measured on {profile.name}: derived from {where[anchored]}")
        return lines

    @property
    def _beyond_dense(self) -> list[str]:
        if self.steps is None:
            return []
        name, steps = f"{self.profile.name}: dense_curve", self.steps
        lines = [line for curves in self._dense_parts if curves for line in kernels.beyond(curves, steps, name)]
        return list(dict.fromkeys(lines))

    def _bytes(self, held: Format | None, layer: int | None = None) -> int:
        return self.shape.expert_bytes(self._known(held), layer)

    def _known(self, held: Format | None) -> Format:
        if held not in (None, self.format, *self.also_held):
            known = ", ".join((self.format, *self.also_held))
            raise InputError(f"format {held!r} is not one that this run announced: one of {known} expected")
        return held or self.format

    def _curve(self, move: Move) -> Curve:
        if move not in self.moves:
            raise InputError(
                f"move {move!r} is not one that this run announced: one of {', '.join(self.moves)} expected"
            )
        return self.profile.curve(CURVE_OF[move])

    @cached_property
    def _experts(self) -> ExpertTimes:
        return ExpertTimes(self.profile, self.shape, self.format, self.style)

    @cached_property
    def _dense(self) -> DenseTimes:
        return DenseTimes(self.profile, self.shape, self.compute_format, self.dense_format or self.compute_format)

    @cached_property
    def _tiles(self) -> kernels.Tiles | None:
        return kernels.tiles_of(self.profile, self.compute_format)

    @property
    def _expanded_bytes(self) -> int:
        return bytes_of(self.shape.expert_parameters, self.compute_format)

    @property
    def _expanded(self) -> list[Format]:
        """Formats whose expansion is timed separately from the expert."""
        own = {self.format} if self._experts.expands else set[Format]()
        return sorted(held for held in {*own, *self.also_held} if is_expandable(held))

    @property
    def _phases(self) -> tuple[Phase, ...]:
        return get_args(Phase) if self.steps is None else (self.steps.phase,)

    @cached_property
    def _dense_parts(self) -> list[list[DenseCurve]]:
        """Measured curves of every dense part that this run may use; an empty list for an unmeasured part."""
        return [self._dense.measured(part) for part in self._dense.parts(self._phases)]

    @property
    def _dense_points(self) -> tuple[Points, ...]:
        return tuple(curve.points for curves in self._dense_parts for curve in curves)

    @property
    def _dense_is_measured(self) -> bool:
        return all(self._dense_parts)

    @property
    def _asks_shares(self) -> bool:
        """Whether a roofline takes shares that were derived from other machines."""
        is_derived = self._experts.kernel == "fused" and not self._experts.curves
        return is_derived or is_compressed(self._dense.held)

    @property
    def _asks_roofline(self) -> bool:
        return not self.is_measured or self.steps is None or bool(self._beyond_dense)
