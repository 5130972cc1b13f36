"""A Qwen3-MoE decoder whose experts run as grouped products while it trains (Yang et al. 2025; top-k of a softmax).

Tokens are sorted by expert, so that one product per layer multiplies every group with its expert, without dropping
tokens and without waiting for the GPU. Norms have no gains: they could be folded into the matrices that follow. The
saved model is an ordinary checkpoint of the library. Importing this module imports torch.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen3MoeConfig

from specmoe.traces.pretrain_job import DecoderPreset

THETA = 10_000.0
EPSILON = 1e-6
ARCHITECTURE = "Qwen3MoeForCausalLM"


class Gather(torch.autograd.Function):
    """Rows by index, where each of `times` copies of a row is used once, so that the backward pass gathers as well."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor, times: int) -> Tensor:
        """Rows [n, d] at index // times, [n * times, d]; `index` is a permutation and `inverse` its inverse."""
        ctx.save_for_backward(inverse)
        ctx.times = times
        return rows.index_select(0, index // times)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Sum of the gradients of a row's copies."""
        (inverse,) = ctx.saved_tensors
        (gradient,) = gradients
        copies = gradient.index_select(0, inverse).view(-1, ctx.times, gradient.shape[1])
        return copies.sum(1), None, None, None


def grouped(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """Rows [n, i] of each group times its weights [E, o, i]; group e ends before row ends[e]. Returns [n, o]."""
    transposed = weights.to(rows.dtype).transpose(-2, -1)
    if rows.is_cuda:
        product: Tensor = functional.grouped_mm(rows, transposed, offs=ends)
        return product
    groups = rows.tensor_split(ends[:-1].long())
    return torch.cat([group @ weight for group, weight in zip(groups, transposed, strict=True)])


class GroupedExperts(nn.Module):
    """Router and experts of a layer; a forward pass sets `balance`, `router_z`, `load` and `dropped`.

    They mean the same as in `pretrain_model.GroupedSparseMLP`; `load` is the share of uses of each expert, and no token
    is dropped.
    """

    balance: Tensor
    router_z: Tensor
    load: Tensor

    def __init__(self, preset: DecoderPreset) -> None:
        super().__init__()
        experts, width, inner = preset.experts, preset.d_model, preset.d_ff
        self.preset = preset
        self.gate = nn.Parameter(torch.randn(experts, width) * preset.router_init)
        self.gate_up = nn.Parameter(torch.randn(experts, 2 * inner, width) / math.sqrt(width))
        self.down = nn.Parameter(torch.randn(experts, width, inner) / math.sqrt(inner))
        self.dropped = torch.zeros(())

    def forward(self, tokens: Tensor, dtype: torch.dtype) -> Tensor:
        """Output for tokens [n, d] in float32, computed in `dtype`."""
        weights, experts = self._route(tokens)
        order = experts.flatten().short().argsort(stable=True)
        inverse = torch.empty_like(order).index_copy(0, order, torch.arange(len(order), device=order.device))
        top_k = self.preset.top_k
        rows: Tensor = Gather.apply(tokens.to(dtype), order, inverse, top_k)  # type: ignore[no-untyped-call]
        share: Tensor = Gather.apply(weights.to(dtype).view(-1, 1), order, inverse, 1)  # type: ignore[no-untyped-call]
        ends = self._counts.cumsum(0).int()
        gate, up = grouped(rows, self.gate_up, ends).chunk(2, -1)
        out = grouped(functional.silu(gate) * up * share, self.down, ends)
        back: Tensor = Gather.apply(out, inverse, order, 1)  # type: ignore[no-untyped-call]
        return back.view(-1, top_k, tokens.shape[1]).sum(1)

    def _route(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Weights with sum 1 and indices of each token's experts, [n, k]."""
        logits = functional.linear(tokens, self.gate)
        probabilities = logits.softmax(-1)
        chosen, experts = probabilities.topk(self.preset.top_k, dim=-1)
        used = experts.flatten()
        self._counts = torch.zeros_like(probabilities[0], dtype=torch.long).index_add(0, used, torch.ones_like(used))
        self.load = self._counts / len(used)
        self.balance = self.preset.experts * (self.load * probabilities.mean(0)).sum()
        self.router_z = logits.logsumexp(-1).square().mean()
        self.dropped = self.router_z.detach() * 0
        return chosen / chosen.sum(-1, keepdim=True), experts


class Block(nn.Module):
    """Attention and experts, each after a norm and added to the residual stream, which is float32."""

    def __init__(self, preset: DecoderPreset) -> None:
        super().__init__()
        self.preset = preset
        inner, width = preset.heads * preset.head_dim, preset.d_model
        self.qkv = nn.Parameter(torch.randn(3 * inner, width) / math.sqrt(width))
        self.out = nn.Parameter(torch.randn(width, inner) / math.sqrt(inner))
        self.experts = GroupedExperts(preset)

    def forward(self, hidden: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Residual stream [batch, length, d] after this block; the rotation [length, 1, head_dim] sets the dtype."""
        dtype, drop = cosine.dtype, self.preset.dropout
        attended = self._attend(_norm(hidden).to(dtype), cosine, sine)
        hidden = hidden + functional.dropout(attended, drop, self.training)
        mixed = self.experts(_norm(hidden).flatten(0, 1), dtype).view_as(hidden)
        return hidden + functional.dropout(mixed, drop, self.training)

    def _attend(self, hidden: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        projected = functional.linear(hidden, self.qkv.to(hidden.dtype))
        heads = projected.view(*hidden.shape[:2], 3, self.preset.heads, self.preset.head_dim)
        query, key, value = heads.unbind(2)
        query, key = (_rotate(_norm(part), cosine, sine).transpose(1, 2) for part in (query, key))
        attended = functional.scaled_dot_product_attention(query, key, value.transpose(1, 2), is_causal=True)
        return functional.linear(attended.transpose(1, 2).flatten(-2), self.out.to(hidden.dtype))


class Decoder(nn.Module):
    """A causal language model; on CUDA, matrices multiply in bfloat16 and routers in float32."""

    def __init__(self, preset: DecoderPreset, vocabulary: int) -> None:
        super().__init__()
        self.preset = preset
        rows = -(-vocabulary // 128) * 128
        self.embedding = nn.Parameter(torch.randn(rows, preset.d_model) * 0.5)
        self.blocks = nn.ModuleList(Block(preset) for _ in range(preset.layers))
        self.head = nn.Parameter(torch.randn(rows, preset.d_model) / math.sqrt(preset.d_model))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, length, vocabulary] of the tokens that follow each of `inputs`."""
        dtype = torch.bfloat16 if inputs.is_cuda else torch.float32
        cosine, sine = (part.to(dtype) for part in self._rotation(inputs.shape[1], inputs.device))
        embedded = functional.embedding(inputs, self.embedding)
        hidden = functional.dropout(embedded, self.preset.dropout, self.training)
        for block in self.blocks:
            hidden = block(hidden, cosine, sine)
        return functional.linear(_norm(hidden).to(dtype), self.head.to(dtype))

    def _rotation(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each position's angles, [length, 1, head_dim]."""
        size = self.preset.head_dim
        frequency = THETA ** -(torch.arange(0, size, 2, device=device) / size)
        angle = (torch.arange(length, device=device)[:, None] * frequency).repeat(1, 2)[:, None]
        return angle.cos(), angle.sin()


def build(preset: DecoderPreset, vocabulary: int) -> Decoder:
    """Newly initialised decoder, drawn from torch's global generator."""
    return Decoder(preset, vocabulary)


def sparse_layers(model: nn.Module) -> list[GroupedExperts]:
    """Sparse layers in order."""
    return [module for module in model.modules() if isinstance(module, GroupedExperts)]


def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats per token."""
    return functional.cross_entropy(model(inputs).float().flatten(0, 1), targets.flatten())


def configure(preset: DecoderPreset, vocabulary: int) -> Qwen3MoeConfig:
    """Configuration of a preset in transformers; the embedding is padded to a multiple of 128 rows."""
    return Qwen3MoeConfig(
        vocab_size=-(-vocabulary // 128) * 128,
        hidden_size=preset.d_model,
        intermediate_size=preset.d_ff,
        moe_intermediate_size=preset.d_ff,
        num_hidden_layers=preset.layers,
        num_attention_heads=preset.heads,
        num_key_value_heads=preset.heads,
        head_dim=preset.head_dim,  # type: ignore[call-arg]  # accepted, but only by the base class
        num_experts=preset.experts,
        num_experts_per_tok=preset.top_k,
        norm_topk_prob=True,
        max_position_embeddings=preset.length,
        rms_norm_eps=EPSILON,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        pad_token_id=0,
        eos_token_id=1,
    )


def library_config(model: Decoder) -> Qwen3MoeConfig:
    """Configuration of a trained model."""
    return configure(model.preset, len(model.embedding))


def library_state(model: Decoder) -> dict[str, Tensor]:
    """Parameters under the names of published Qwen3-MoE checkpoints, in float16."""
    width, size = model.preset.d_model, model.preset.head_dim
    state: dict[str, Tensor] = {"model.embed_tokens.weight": model.embedding, "lm_head.weight": model.head}
    state["model.norm.weight"] = torch.ones(width)
    for number, block in enumerate(model.blocks):
        parts = _block_state(block) | {"input_layernorm": torch.ones(width)}  # type: ignore[arg-type]
        parts |= {"post_attention_layernorm": torch.ones(width)}
        parts |= {f"self_attn.{name}_norm": torch.ones(size) for name in "qk"}
        state |= {f"model.layers.{number}.{name}.weight": value for name, value in parts.items()}
    return {name: value.detach().half().cpu().contiguous() for name, value in state.items()}


def _block_state(block: Block) -> dict[str, Tensor]:
    state = dict(zip(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), block.qkv.chunk(3), strict=True))
    state |= {"self_attn.o_proj": block.out, "mlp.gate": block.experts.gate}
    for expert, (gate_up, down) in enumerate(zip(block.experts.gate_up, block.experts.down, strict=True)):
        gate, up = gate_up.chunk(2)
        for name, value in (("gate", gate), ("up", up), ("down", down)):
            state[f"mlp.experts.{expert}.{name}_proj"] = value
    return state


def _norm(hidden: Tensor) -> Tensor:
    return functional.rms_norm(hidden, hidden.shape[-1:], eps=EPSILON)


def _rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary embedding of [batch, length, heads, head_dim] (Su et al. 2021), pairing each half with the other."""
    first, second = heads.chunk(2, -1)
    return heads * cosine + torch.cat((-second, first), -1) * sine
