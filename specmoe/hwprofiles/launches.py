"""How long a launch of experts takes: measured curves, or a roofline where nothing was measured.

    kernel    multiplies                              roofline
    library   weights in the compute format           two products at the profile's rates (`kernels`)
    library   compressed weights, expanded before     the expansion, then as above
    fused     the bytes of the slots                  two kernels at shares of the profile's rates (`kernels`)

A curve belongs to a size, a format, a kernel and a number of experts in the launch. If a profile has curves of other
sizes, the roofline is anchored to them: it is multiplied by measured time / roofline at those sizes, averaged by the
inverse square of their distance. So a size close to a measured one takes about the measured time.

Numbers of tokens and of positions are rounded up to a few, for which times are computed and kernels are captured.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from specmoe.hwprofiles import kernels
from specmoe.hwprofiles.curves import Interpolated, Kernel, Points
from specmoe.hwprofiles.kernels import Launch, Shares, Size, Style, class_of, shares_of
from specmoe.hwprofiles.kernels import launch_ns as fused_ns
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import Format, ModelShape, bytes_of, compute_format, is_compressed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Group = Mapping[int, Interpolated]
"""Curves of a size by the number of experts in the launch, rising."""

Roofline = Callable[[Launch, float], float]
"""Time, ns, of a launch at the rates of a profile multiplied by a speed."""


class Anchor(NamedTuple):
    """Distance of a measured size, and its measured time / roofline."""

    distance: float
    ratio: float


def anchored(roofline_ns: float, anchors: Iterable[Anchor]) -> float:
    """A roofline corrected by what was measured of other sizes, at least one."""
    known = list(anchors)
    same = [one.ratio for one in known if not one.distance]
    if same:
        return roofline_ns * sum(same) / len(same)
    weights = [one.distance**-2 for one in known]
    return roofline_ns * sum(w * one.ratio for w, one in zip(weights, known, strict=True)) / sum(weights)


def distance(*pairs: tuple[float, float]) -> float:
    """Distance of two things by the logarithms of their sizes; each pair is of one size of both."""
    return math.hypot(*(math.log(one / other) for one, other in pairs))


def size_of(shape: ModelShape) -> Size:
    """Size of a model's routed experts."""
    return Size(shape.d_model, shape.experts.d_ff, shape.experts.gated)


@dataclass(frozen=True)
class Launches:
    """Launches of one kernel in formats of one class: curves of some sizes, and a roofline for every size."""

    profile: HardwareProfile
    groups: Mapping[tuple[Size, Format], Group]
    roofline: Roofline

    def __call__(self, launch: Launch) -> float:
        """Time of a launch, ns."""
        if not self.groups:
            return self.roofline(launch, self.profile.expert_speed)
        own = self.groups.get((launch.size, launch.held))
        if own:
            return self._measured_ns(own, launch)
        return max(
            self._least_ns(launch), anchored(self.roofline(launch, 1), map(self._anchor(launch), self._nearby(launch)))
        )

    def of(self, size: Size, held: Format) -> Group:
        """Curves of a size; empty if it was not measured."""
        return self.groups.get((size, held), {})

    def _nearby(self, launch: Launch) -> list[tuple[Size, Format]]:
        """What was measured in the launch's format, else in others of its class."""
        same = [known for known in self.groups if known[1] == launch.held]
        return same or list(self.groups)

    def _anchor(self, launch: Launch) -> Callable[[tuple[Size, Format]], Anchor]:
        def anchor(known: tuple[Size, Format]) -> Anchor:
            other = launch._replace(size=known[0], held=known[1])
            ratio = self._measured_ns(self.groups[known], other) / self.roofline(other, 1)
            return Anchor(apart(launch.size, other.size), ratio)

        return anchor

    def _measured_ns(self, group: Group, launch: Launch) -> float:
        """Time between the measured numbers of experts; beyond them by the last slope, or the roofline's ratio."""
        numbers = list(group)
        if launch.experts in group:
            return group[launch.experts](launch.tokens)
        right = bisect_left(numbers, launch.experts)
        if right == 0 or len(numbers) == 1:
            known = launch._replace(experts=numbers[0])
            ratio = self.roofline(launch, 1) / self.roofline(known, 1)
            return group[numbers[0]](launch.tokens) * ratio
        left, right = numbers[min(right, len(numbers) - 1) - 1], numbers[min(right, len(numbers) - 1)]
        less, more = group[left](launch.tokens), group[right](launch.tokens)
        slope = (more - less) / (right - left)
        if launch.experts > right:
            return more + max(0.0, slope) * (launch.experts - right)
        return less + slope * (launch.experts - left)

    def _least_ns(self, launch: Launch) -> float:
        """Time of reading the weights at the profile's bandwidth."""
        memory = self.profile["device.memory_bandwidth"] * self.profile.expert_speed
        return launch.experts * bytes_of(launch.size.weights, launch.held) / memory * 1e9


def apart(one: Size, other: Size) -> float:
    """Distance of two sizes of experts: a gated one is far from one that is not."""
    gates = (math.e if one.gated else 1, math.e if other.gated else 1)
    return distance((one.d_model, other.d_model), (one.weights, other.weights), gates)


def groups_of(
    profile: HardwareProfile, kernel: Kernel, wanted: Callable[[Format], bool]
) -> dict[tuple[Size, Format], Group]:
    """Curves of one kernel on a profile, in the formats that are wanted."""
    floor, groups = profile.ns("device.kernel_floor"), dict[tuple[Size, Format], dict[int, Interpolated]]()
    for curve in sorted(profile.expert_curves, key=lambda curve: curve.experts):
        if curve.kernel == kernel and wanted(curve.format):
            size = Size(curve.d_model, curve.d_ff, curve.gated)
            groups.setdefault((size, curve.format), {})[curve.experts] = Interpolated(floor, curve.points)
    return dict(groups)


@dataclass(frozen=True)
class ExpertTimes:
    """Times of a model's experts in format `held` on a profile, computed in a style.

    `shares` replace those of the format's class.
    """

    profile: HardwareProfile
    shape: ModelShape
    held: Format
    style: Style
    shares: Shares | None = None

    @property
    def kernel(self) -> Kernel:
        """Kernel that multiplies."""
        return "library" if self.style.launch == "separate" and not self._is_read_packed else "fused"

    @property
    def curves(self) -> Group:
        """Measured curves of these experts in this style, by the number of experts in the launch."""
        return self._launches.of(self._size, self._read)

    @property
    def is_anchored(self) -> bool:
        """Whether curves of other sizes correct a roofline."""
        return not self.curves and (bool(self._launches.groups) or (self.expands and bool(self.products.groups)))

    @property
    def points(self) -> tuple[Points, ...]:
        """Points of `curves`."""
        return tuple(curve.points for curve in self.curves.values())

    @property
    def expands(self) -> bool:
        """Whether experts are expanded, and the expansion is timed apart from the product."""
        if not is_compressed(self.held) or self._is_read_packed:
            return False
        return self.kernel == "fused" or not self.expansions.of(self._size, self.held)

    def launch_ns(self, experts: int, tokens: int) -> float:
        """Time of one launch of experts with at most `tokens` tokens each, ns."""
        if self.kernel == "library":
            return experts * self._launches(Launch(self._size, self._read, 1, tokens))
        before = experts * self._expansion_ns(self._size) if self.expands else 0
        return before + self._launches(Launch(self._size, self._read, experts, tokens))

    def product_ns(self, tokens: int) -> float:
        """Time of one expert from weights in its compute format by the library, ns."""
        return self.products(Launch(self._size, compute_format(self.held), 1, tokens))

    @cached_property
    def products(self) -> Launches:
        """The library's products in the compute format."""
        computed = compute_format(self.held)
        rates, tiles = (
            cache(lambda speed: kernels.rates_of(self.profile, computed, speed)),
            kernels.tiles_of(self.profile, computed),
        )
        peak = self.profile[f"gemm.{computed}.rate"]

        def roofline(launch: Launch, speed: float) -> float:
            gemms = kernels.expert_gemms(launch.size)
            times = (kernels.grouped_gemm_ns(rates(speed), tiles, peak * speed, one, [launch.tokens]) for one in gemms)
            return round(sum(times))

        return Launches(self.profile, groups_of(self.profile, "library", computed.__eq__), roofline)

    @cached_property
    def expansions(self) -> Launches:
        """An expansion to the compute format, then the library's products."""

        def roofline(launch: Launch, _: float) -> float:
            return self._expansion_ns(launch.size) + self.products(launch._replace(held=compute_format(self.held)))

        return Launches(self.profile, groups_of(self.profile, "library", self.held.__eq__), roofline)

    @cached_property
    def _launches(self) -> Launches:
        if self.kernel == "library":
            return self.expansions if is_compressed(self.held) else self.products
        shares = self.shares or shares_of(self._read)
        kind = class_of(self._read)
        groups = groups_of(self.profile, "fused", lambda held: class_of(held) == kind)
        return Launches(self.profile, groups, lambda launch, speed: fused_ns(self.profile, launch, shares, speed))

    @property
    def _is_read_packed(self) -> bool:
        return is_compressed(self.held) and self.style.multiply == "fused"

    @property
    def _read(self) -> Format:
        """Format of the curves: what the slots hold, or what they are expanded to before a grouped launch."""
        grouped = self.kernel == "fused" and not self._is_read_packed
        return compute_format(self.held) if grouped else self.held

    @property
    def _size(self) -> Size:
        return size_of(self.shape)

    def _expansion_ns(self, size: Size) -> int:
        weights = self.shape.expert_parameters if size == self._size else size.weights
        return self.profile.curve(f"dequantise.{self.held}")(bytes_of(weights, compute_format(self.held)))


CONTEXT_STEP = 32  # positions


def whole_context(positions: int) -> int:
    """Number of positions, rounded up to a multiple of `CONTEXT_STEP`."""
    return -(-positions // CONTEXT_STEP) * CONTEXT_STEP


def padded(tokens: "NDArray[Any]") -> "NDArray[np.int64]":
    """Smallest powers of two that are at least `tokens` (and at least 1), elementwise."""
    import numpy as np  # completion of names needs none

    exponents = np.ceil(np.log2(np.maximum(tokens, 1))).astype(np.int64)
    sizes: NDArray[np.int64] = np.left_shift(np.int64(1), exponents)
    return sizes
