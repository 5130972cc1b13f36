"""What a network is made for and how large it is; what is written beside its weights."""

from dataclasses import asdict, dataclass, fields, replace
from math import inf
from typing import Any

from specmoe.errors import InputError, hint
from specmoe.traces.schema import TraceMeta

ARCHITECTURES = ("contextual", "transformer", "hierarchical", "fusion")
FEATURES = ("token", "probs", "history", "lookahead")
CANDIDATES = 8  # of the router's best, at most, that a network sees
AROUND = {"decode": (-1, -2, -3), "encode": (-1, 1, -2, 2)}  # the other tokens it sees, by their distance
LEAST = {"dropout": 0, "word_dropout": 0}  # of any other size: 1
SHARES = ("dropout", "word_dropout")
MOST_SIZE = 2**16
CLUSTERS = 12  # of experts, where there are as many


@dataclass(frozen=True)
class NetConfig:
    """The trace's shape, what is seen of it, and the sizes of a network.

    `words` is how many token ids have an embedding of their own; `width` that of embeddings, `hidden` that of layers.
    """

    architecture: str
    phase: str
    layers: int
    experts: int
    top_k: int
    candidates: int
    depth: int
    features: tuple[str, ...]
    words: int = 0
    width: int = 32
    hidden: int = 192
    heads: int = 4
    blocks: int = 2
    clusters: int = CLUSTERS
    dropout: float = 0.2
    word_dropout: float = 0.1

    @property
    def around(self) -> tuple[int, ...]:
        """Distances of the other tokens that are seen."""
        return AROUND[self.phase] if "history" in self.features else ()

    @property
    def wraps(self) -> bool:
        """Whether there are targets in the next step."""
        return self.phase == "decode"

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"features": list(self.features)}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "NetConfig":
        """Inverse of `to_json`; raises TypeError for unknown or missing fields."""
        return cls(**raw | {"features": tuple(raw["features"])})


SIZES = tuple(field.name for field in fields(NetConfig) if field.name in {
    "width", "hidden", "heads", "blocks", "clusters", "dropout", "word_dropout",
})  # fmt: skip


def config_for(
    meta: TraceMeta, architecture: str, depth: int, features: tuple[str, ...] | None, sizes: dict[str, Any]
) -> NetConfig:
    """The network of an architecture for a trace; raises InputError for a name, feature or size that cannot be."""
    if architecture not in ARCHITECTURES:
        raise InputError(f"architecture {architecture!r}: {hint(architecture, ARCHITECTURES)}")
    if not 1 <= depth <= meta.num_layers:
        raise InputError(f"depth {depth}: 1 to {meta.num_layers}, the layers of this trace, expected")
    seen = default_features(meta, architecture) if features is None else features
    for feature in seen:
        if feature not in FEATURES:
            raise InputError(f"feature {feature!r}: {hint(feature, FEATURES)}")
    config = NetConfig(
        architecture,
        meta.phase,
        meta.num_layers,
        meta.num_experts,
        meta.top_k,
        max(meta.top_k, min(CANDIDATES, meta.candidates)),
        depth,
        tuple(feature for feature in FEATURES if feature in seen),
        clusters=min(CLUSTERS, meta.num_experts),
    )
    require_features(config, meta)
    return replace(config, **{name: _checked(config, name, value) for name, value in sizes.items()})


def default_features(meta: TraceMeta, architecture: str) -> tuple[str, ...]:
    """All that a trace has, but the look-ahead for `fusion` only."""
    has = {"probs": meta.has_probs, "lookahead": meta.has_lookahead and architecture == "fusion"}
    return tuple(feature for feature in FEATURES if has.get(feature, True))


def require_features(config: NetConfig, meta: TraceMeta) -> None:
    """Raise InputError if a trace lacks what a network sees."""
    if "probs" in config.features and not meta.has_probs:
        raise InputError("no router probabilities in this trace: train with --features token,history to do without")
    if "lookahead" in config.features and not meta.has_lookahead:
        raise InputError(
            "no look-ahead in this trace: train with --features token,probs,history, or record it by "
            "`specmoe collect --lookahead-depth`"
        )


def require_same_shape(config: NetConfig, meta: TraceMeta, where: object) -> None:
    """Raise InputError if a network was trained for a trace of another shape."""
    asked = {
        "phase": (config.phase, meta.phase),
        "layers": (config.layers, meta.num_layers),
        "experts": (config.experts, meta.num_experts),
        "top_k": (config.top_k, meta.top_k),
    }
    for name, (trained, found) in asked.items():
        if trained != found:
            raise InputError(f"{where}: trained for {name} {trained}, but this trace has {found}")
    if meta.candidates < config.candidates:
        raise InputError(f"{where}: trained on {config.candidates} candidates, but this trace has {meta.candidates}")


def _checked(config: NetConfig, name: str, value: Any) -> Any:
    """The value of a size in the field's type."""
    if name not in SIZES:
        raise InputError(f"{name!r} is no size of a network; they are {', '.join(SIZES)}")
    kind = type(getattr(config, name))
    least, limit = LEAST.get(name, 1), 1 if name in SHARES else inf
    if isinstance(value, int | float) and MOST_SIZE < value < inf:
        raise InputError(f"{name}: at most {MOST_SIZE:,} expected")
    if isinstance(value, str | bool) or not least <= value < limit or kind(value) != value:
        bounds = f">= {least}" + (f" and < {limit}" if limit < inf else "")
        raise InputError(f"{name}={value}: a {'whole ' * (kind is int)}number {bounds} expected")
    return kind(value)
