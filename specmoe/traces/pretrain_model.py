"""A Hugging Face Switch Transformer whose experts run as one batched product while it trains.

The library runs a layer's experts one after the other; grouping the tokens by expert and multiplying all groups at
once is several times faster. Parameters convert to the library's layout and back without loss, so the
saved model is an ordinary checkpoint. Importing this module imports torch.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import SwitchTransformersConfig, SwitchTransformersForConditionalGeneration
from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersSparseMLP

from specmoe.traces.pretrain_job import Preset

ARCHITECTURE = "SwitchTransformersForConditionalGeneration"


class GroupedSparseMLP(nn.Module):
    """Drop-in replacement for the library's sparse feed-forward part (Fedus et al. 2022, section 2).

    Keeps the router's parameter where the library has it; experts are stacked: `wi` [E, d, f], `wo` [E, f, d].
    A forward pass sets `balance`, the layer's load-balancing loss (equations 4-6; 1 is perfect); `router_z`, its z-loss
    (Zoph et al. 2022, equation 5); `load`, the share of tokens routed to each expert, [E]; and `dropped`, the share of
    tokens beyond the experts' capacity.
    """

    balance: Tensor
    router_z: Tensor
    load: Tensor
    dropped: Tensor

    def __init__(self, sparse: SwitchTransformersSparseMLP, preset: Preset) -> None:
        super().__init__()
        experts: list[Any] = [sparse.experts[f"expert_{i}"] for i in range(preset.experts)]
        self.preset = preset
        self.classifier = nn.Parameter(torch.randn(preset.experts, preset.d_model) * preset.router_init)
        self.wi = nn.Parameter(torch.stack([expert.wi.weight.detach().T for expert in experts]))
        self.wo = nn.Parameter(torch.stack([expert.wo.weight.detach().T for expert in experts]))

    def forward(self, hidden: Tensor) -> Tensor:
        """Output for `hidden`, both [batch, length, d]."""
        tokens = hidden.reshape(-1, hidden.shape[-1])
        probability, expert = self._route(tokens)
        capacity = self._capacity(len(tokens))
        place = self._places(expert, capacity)
        groups = tokens.new_zeros(self.preset.experts * capacity + 1, tokens.shape[1]).index_copy(0, place, tokens)
        out = self._experts(groups[:-1].view(self.preset.experts, capacity, -1)).flatten(0, 1)
        mixed = functional.pad(out, (0, 0, 0, 1)).index_select(0, place) * probability[:, None].to(out.dtype)
        return mixed.view_as(hidden).to(hidden.dtype)

    def _capacity(self, tokens: int) -> int:
        """Rows per expert: the capacity factor times an even share, doubled outside training."""
        factor = self.preset.capacity_factor * (1 if self.training else 2)
        return min(tokens, max(4, int(factor * tokens / self.preset.experts)))

    def _route(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Probability and index of each token's expert, computed in float32 regardless of autocast."""
        with torch.autocast(tokens.device.type, enabled=False):
            inputs = tokens.float()
            if self.training:
                inputs = inputs * torch.empty_like(inputs).uniform_(1 - self.preset.jitter, 1 + self.preset.jitter)
            logits = functional.linear(inputs, self.classifier)
            probabilities = logits.softmax(-1)
            chosen, expert = probabilities.max(-1)
            share = 1 / len(tokens)
            self.load = probabilities.new_zeros(self.preset.experts).index_add(
                0, expert, torch.full_like(chosen, share)
            )
            self.balance = self.preset.experts * (self.load.detach() * probabilities.mean(0)).sum()
            self.router_z = logits.logsumexp(-1).square().mean()
        return chosen, expert

    def _places(self, expert: Tensor, capacity: int) -> Tensor:
        """Row of each token in its expert's group of `capacity` rows; the row after all groups if it is dropped."""
        order = expert.argsort(stable=True)
        counts = torch.zeros(self.preset.experts, dtype=torch.long, device=expert.device)
        counts = counts.index_add(0, expert, torch.ones_like(expert))
        first = counts.cumsum(0) - counts
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device) - first[expert[order]]
        fits = rank < capacity
        self.dropped = 1 - fits.float().mean()
        return torch.where(fits, expert * capacity + rank, self.preset.experts * capacity)

    def _experts(self, groups: Tensor) -> Tensor:
        inner = functional.relu(torch.bmm(groups, self.wi.to(groups.dtype)))
        return torch.bmm(functional.dropout(inner, self.preset.expert_dropout, self.training), self.wo.to(groups.dtype))


def configure(preset: Preset, vocabulary: int) -> SwitchTransformersConfig:
    """Configuration of a preset in transformers; the embedding is padded to a multiple of 128 rows, as in T5."""
    return SwitchTransformersConfig(
        vocab_size=-(-vocabulary // 128) * 128,
        d_model=preset.d_model,
        d_kv=preset.d_kv,
        d_ff=preset.d_ff,
        num_layers=preset.layers,
        num_decoder_layers=preset.layers,
        num_sparse_encoder_layers=preset.layers // 2,
        num_sparse_decoder_layers=preset.layers // 2,
        num_heads=preset.heads,
        num_experts=preset.experts,
        dropout_rate=preset.dropout,
        decoder_start_token_id=0,  # type: ignore[call-arg]  # accepted, but only by the base class
        use_cache=False,
    )


def build(preset: Preset, vocabulary: int) -> SwitchTransformersForConditionalGeneration:
    """Newly initialised model with grouped experts, drawn from torch's global generator."""
    model = SwitchTransformersForConditionalGeneration(configure(preset, vocabulary))
    for layer in _feed_forwards(model):
        layer.mlp = GroupedSparseMLP(layer.mlp, preset)
    return model


def sparse_layers(model: nn.Module) -> list[GroupedSparseMLP]:
    """Grouped sparse layers, encoder first."""
    return [module for module in model.modules() if isinstance(module, GroupedSparseMLP)]


def loss(model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats per target token; on CUDA, matrices multiply in bfloat16 and routers in float32."""
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=inputs.is_cuda):
        mean: Tensor = model(input_ids=inputs, labels=targets).loss
    return mean


def library_config(model: Any) -> SwitchTransformersConfig:
    """Configuration of a trained model."""
    config: SwitchTransformersConfig = model.config
    return config


def library_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters under the names of transformers, in float16, without tied copies."""
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        prefix, _, leaf = name.rpartition(".")
        if prefix.endswith("mlp") and leaf == "classifier":
            state[f"{prefix}.router.classifier.weight"] = value
        elif prefix.endswith("mlp") and leaf in ("wi", "wo"):
            state |= {f"{prefix}.experts.expert_{i}.{leaf}.weight": expert.T for i, expert in enumerate(value)}
        elif not name.endswith("embed_tokens.weight") and name != "lm_head.weight":
            state[name] = value
    return {name: value.half().cpu().contiguous() for name, value in state.items()}


def _feed_forwards(model: Any) -> list[Any]:
    """Sparse feed-forward layers, found by inspection because the configuration's counts are not always right."""
    blocks = [*model.encoder.block, *model.decoder.block]
    return [block.layer[-1] for block in blocks if block.layer[-1].is_sparse]
