"""Where each model class keeps its routers, and how to read their decisions.

A router is called on a normed hidden state and returns a triple. In Switch it is (dispatch, probability, logits) over
[batch, tokens, experts], where dispatch is one-hot, or all zero where a full expert dropped the token. In every other
class it is (logits, weights, indices) over [batch * tokens, ...]. Layers are found by looking for a router, never by
counting from the configuration. A new class is one line in `ADAPTERS`. Source: transformers 5.18 to 5.23.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from specmoe.errors import ModelError
from specmoe.traces.schema import Phase

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    Output = tuple[Tensor, Tensor, Tensor]


class Choice(NamedTuple):
    """Decision of one router for n tokens among E experts.

    `probs` covers all experts, before any scaling over the chosen ones; it rises with the logits.
    """

    chosen: "Tensor"  # [n, k] int64: experts that the router chose
    dropped: "Tensor"  # [n] bool: the chosen expert was full
    logits: "Tensor"  # [n, E] float32
    probs: "Tensor"  # [n, E] float32


class MoeLayer(NamedTuple):
    """Modules of one sparse layer.

    `norm` receives the hidden state that enters the feed-forward part; `moe` holds the router and, as its attribute
    `experts`, all experts.
    """

    norm: "Module"
    router: "Module"
    moe: "Module"


@dataclass(frozen=True)
class Adapter:
    """One model class: attribute paths from the model to its blocks and from a block to its norm and router."""

    blocks: dict[Phase, str]
    norm: str
    router: str
    read: "Callable[[Output], Choice]"
    d_ff: str
    has_capacity: bool = False

    def layers(self, model: "Module", phase: Phase) -> list[MoeLayer]:
        """Sparse layers of a phase, in order; raises ModelError if there is none."""
        layers = [
            MoeLayer(_descend(block, self.norm), router, _descend(block, self.router.rpartition(".")[0]))
            for block in _descend(model, self.blocks[phase])
            if (router := _descend(block, self.router)) is not None
        ]
        if not layers:
            raise ModelError(f"{type(model).__name__}: no layer of its {phase} phase has a router")
        return layers

    def routers(self, model: "Module") -> list[Any]:
        """All routers of the model, each once."""
        blocks = [block for path in dict.fromkeys(self.blocks.values()) for block in _descend(model, path)]
        return [router for block in blocks if (router := _descend(block, self.router)) is not None]


def adapter_for(model_type: str) -> Adapter:
    """Adapter for a configuration's `model_type`; raises ModelError for a class that is not in `ADAPTERS`."""
    if model_type not in ADAPTERS:
        raise ModelError(f"no adapter for model class {model_type!r}: one of {', '.join(ADAPTERS)} expected")
    return ADAPTERS[model_type]


def candidates(choice: Choice, width: int) -> "Tensor":
    """The `width` best experts of each token, [n, width] int64: the chosen ones, then the others.

    Both parts are ordered by falling logit; of equal logits the lower id comes first. Anything else that
    influenced the router (limited groups, the balancing bias of DeepSeek-V3) shows only in which experts were chosen.
    """
    import torch

    order = choice.logits.argsort(dim=-1, descending=True, stable=True)
    is_chosen = torch.zeros_like(order, dtype=torch.bool).scatter_(-1, choice.chosen, True).gather(-1, order)
    return order.gather(-1, is_chosen.byte().argsort(dim=-1, descending=True, stable=True)[:, :width])


def with_drops(ids: "Tensor", probs: "Tensor", choice: Choice) -> "tuple[Tensor, Tensor]":
    """Shift the candidates of dropped tokens by k places and put expert -1 with probability 0 there."""
    import torch

    k = choice.chosen.shape[-1]
    dropped = choice.dropped[:, None]
    moved_ids = torch.nn.functional.pad(ids[:, :-k], (k, 0), value=-1)
    moved_probs = torch.nn.functional.pad(probs[:, :-k], (k, 0), value=0.0)
    return torch.where(dropped, moved_ids, ids), torch.where(dropped, moved_probs, probs)


def _descend(module: Any, path: str) -> Any:
    """Follow attributes and negative indices, such as `layer.-1.mlp`; None where the path ends early."""
    for name in path.split("."):
        module = module[int(name)] if name.startswith("-") else getattr(module, name, None)
        if module is None:
            return None
    return module


def _read_switch(output: "Output") -> Choice:
    import torch

    dispatch, _, logits = (tensor.flatten(0, -2) for tensor in output)
    dropped = dispatch.sum(dim=-1) == 0
    chosen = torch.where(dropped, logits.argmax(dim=-1), dispatch.argmax(dim=-1))
    return Choice(chosen[:, None], dropped, logits.float(), logits.float().softmax(dim=-1))


def _read_softmax(output: "Output") -> Choice:
    logits, _, chosen = output
    return Choice(chosen, _none_dropped(chosen), logits.float(), logits.float().softmax(dim=-1))


def _read_sigmoid(output: "Output") -> Choice:
    logits, _, chosen = output
    return Choice(chosen, _none_dropped(chosen), logits.float(), logits.float().sigmoid())


def _none_dropped(chosen: "Tensor") -> "Tensor":
    import torch

    return torch.zeros_like(chosen[:, 0], dtype=torch.bool)


def _decoder_only(router: str, d_ff: str, read: Any = _read_softmax) -> Adapter:
    blocks: dict[Phase, str] = {"encode": "model.layers", "decode": "model.layers"}
    return Adapter(blocks, "post_attention_layernorm", router, read, d_ff)


ADAPTERS: dict[str, Adapter] = {
    "switch_transformers": Adapter(
        blocks={"encode": "encoder.block", "decode": "decoder.block"},
        norm="layer.-1.layer_norm",
        router="layer.-1.mlp.router",
        read=_read_switch,
        d_ff="d_ff",
        has_capacity=True,
    ),
    "mixtral": _decoder_only("mlp.gate", "intermediate_size"),
    "qwen2_moe": _decoder_only("mlp.gate", "moe_intermediate_size"),
    "qwen3_moe": _decoder_only("mlp.gate", "moe_intermediate_size"),
    "olmoe": _decoder_only("mlp.gate", "intermediate_size"),
    "deepseek_v2": _decoder_only("mlp.gate", "moe_intermediate_size"),
    "deepseek_v3": _decoder_only("mlp.gate", "moe_intermediate_size", _read_sigmoid),
    "gpt_oss": _decoder_only("mlp.router", "intermediate_size"),
}
