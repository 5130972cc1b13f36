"""Loading and preparing a checkpoint: routers in float32, dropless or with a capacity, and nothing unpickled."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from specmoe.errors import InputError, MissingExtraError, ModelError, SpecmoeError, hint
from specmoe.files import parsing, read_text, reason
from specmoe.traces.adapters import Adapter, adapter_for
from specmoe.traces.schema import Kind

if TYPE_CHECKING:
    import torch

OLDEST_TRANSFORMERS = (5, 18)
UNLIMITED_CAPACITY = 2**31 - 1
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
DTYPES = ("float32", "bfloat16", "float16")
PORTS = {"http": 80, "https": 443}
SECONDS = 5.0  # in which the hub accepts a connection, or is taken to be out of reach


@dataclass(frozen=True)
class Checkpoint:
    """A model that is ready to run; `model` and `tokenizer` are transformers objects, which have no useful types."""

    name: str
    model: Any
    tokenizer: Any
    adapter: Adapter
    kind: Kind
    trained_on: str | None
    fingerprint: str

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether `encode` and `decode` run through two stacks (true) or through one (false)."""
        return bool(self.model.config.is_encoder_decoder)

    @property
    def device(self) -> "torch.device":
        """Device that holds the model."""
        device: torch.device = self.model.device
        return device


def load_checkpoint(
    name: str,
    *,
    device: str,
    dtype: str,
    capacity: int | None,
    random_init: bool,
    seed: int,
    draw_on: str = "cpu",
) -> Checkpoint:
    """Load a bundled checkpoint, a local directory or a model of the Hugging Face hub, in that order.

    With `random_init` only the configuration and the tokenizer are read, and the weights are drawn from `seed` on the
    device `draw_on`, each of which draws others.
    Raises ModelError for a checkpoint that is unreadable or has no routers, InputError for an unavailable device or
    dtype.
    """
    require_libraries()
    where = locate(name)
    target = pick_device(device)
    with _reading(name), _hub(where):
        config, tokenizer = _config_and_tokenizer(where)
    adapter = adapter_for(config.model_type)
    if config.model_type == "switch_transformers":
        require_switch_routing()
    with _reading(name), _hub(where):
        model = _random_model(config, seed, draw_on) if random_init else _trained_model(where, config)
    _place(model, adapter, target, dtype)
    _set_capacity(model, adapter, capacity)
    declaration = _declaration(where)
    kind: Kind = "random" if random_init else declaration.get("kind", "pretrained")
    label = where.name if isinstance(where, Path) else where
    return Checkpoint(label, model, tokenizer, adapter, kind, declaration.get("corpus"), _fingerprint(where, config))


def require_libraries() -> None:
    """Raise MissingExtraError if torch or transformers is missing."""
    for package in ("torch", "transformers"):
        try:
            version(package)
        except PackageNotFoundError:
            raise MissingExtraError(package, "torch") from None


def require_switch_routing() -> None:
    """Raise InputError if transformers is too old to route a Switch Transformer right."""
    release = version("transformers")
    if tuple(int(part) for part in release.split(".")[:2]) < OLDEST_TRANSFORMERS:
        raise InputError(f"transformers {release}: its Switch routing is broken; >= 5.18 needed")


def locate(name: str) -> Path | str:
    """Directory of a checkpoint, or `name` itself as a hub id; raises ModelError if config.json is missing."""
    shipped = Path(str(files("specmoe"))) / "bundled" / name
    where = shipped if (shipped / "config.json").is_file() else Path(name)
    if where.is_dir() and not (where / "config.json").is_file():
        raise ModelError(f"{name}: not a checkpoint: config.json is missing")
    if where.is_dir():
        return where
    if where.exists() or where.is_absolute() or name.startswith("."):
        raise ModelError(f"{name}: no such checkpoint directory")
    return name


def pick_device(device: str) -> "torch.device":
    """Device by name; `auto` is CUDA if available, else the CPU. Raises InputError for an unavailable device."""
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError:
        raise InputError(f"--device {device}: auto, cpu or cuda expected") from None
    if target.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {device}: no CUDA device here; use --device cpu")
    return target


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except SpecmoeError:
        raise
    except Exception as error:  # of transformers, tokenizers, huggingface_hub, safetensors or torch
        text = f"{name}: cannot be read as a bundled, local or hub checkpoint: {reason(error)}"
        raise ModelError(text) from None


@contextmanager
def _hub(where: Path | str) -> Iterator[None]:
    """Use only what was downloaded before if the hub cannot be reached: its client would try for half a minute."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or (isinstance(where, str) and not _answers(constants.ENDPOINT))
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers(address: str) -> bool:
    """Whether a server accepts connections; behind a proxy it is taken to."""
    parts = urlsplit(address)
    if getproxies().get(parts.scheme):
        return True
    try:
        socket.create_connection((parts.hostname or "", parts.port or PORTS[parts.scheme]), SECONDS).close()
    except OSError:
        return False
    return True


def _config_and_tokenizer(where: Path | str) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(where)
    # If these files are missing, transformers silently creates an empty tokenizer.
    if isinstance(where, Path) and not any((where / file).is_file() for file in TOKENIZER_FILES):
        raise ValueError(f"no tokenizer: one of {', '.join(TOKENIZER_FILES)} expected")
    tokenizer = AutoTokenizer.from_pretrained(where)
    if len(tokenizer) > config.vocab_size:
        raise ValueError(f"the tokenizer has {len(tokenizer)} pieces, the model knows {config.vocab_size}")
    tokenizer(["a"])  # the first text reveals settings of a wrong type
    return config, tokenizer


def _trained_model(where: Path | str, config: Any) -> Any:
    if isinstance(where, Path) and not any(where.glob("*.safetensors")):
        raise ValueError("no .safetensors file: pickled weights are not read")
    model, info = _auto_class(config).from_pretrained(
        where, config=config, dtype="auto", use_safetensors=True, output_loading_info=True
    )
    if info["missing_keys"]:
        raise ValueError(f"weights are missing: {sorted(info['missing_keys'])[0]}")
    return model


def _random_model(config: Any, seed: int, device: str) -> Any:
    import torch

    on = torch.device(device)
    with torch.random.fork_rng(devices=[] if on.type == "cpu" else [on]), on:
        torch.manual_seed(seed)
        return _auto_class(config).from_config(config)


def _auto_class(config: Any) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def _place(model: Any, adapter: Adapter, device: "torch.device", dtype: str) -> None:
    """Cast router weights from their stored precision to float32, all other weights to `dtype`.

    Buffers stay as they are, because rotary frequencies in half precision would shift positions.
    """
    import torch

    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: {hint(dtype, DTYPES)}")
    routers = adapter.routers(model)
    router_weights = {id(weight) for router in routers for weight in router.float().parameters()}
    for weight in model.parameters():
        if id(weight) not in router_weights:
            weight.data = weight.data.to(getattr(torch, dtype))
    try:
        model.to(device).eval()
    except torch.OutOfMemoryError:
        raise InputError(f"the model does not fit into {device}: try --dtype bfloat16 or --device cpu") from None
    for router in routers:
        router.dtype = torch.float32  # Switch casts to this attribute; the other classes have none
        router.register_forward_pre_hook(lambda _, args: (args[0].float(), *args[1:]))


def _set_capacity(model: Any, adapter: Adapter, capacity: int | None) -> None:
    if capacity is not None and not adapter.has_capacity:
        raise InputError(f"--capacity {capacity}: the routers of {model.config.model_type} never drop a token")
    for router in adapter.routers(model) if adapter.has_capacity else ():
        router.expert_capacity = UNLIMITED_CAPACITY if capacity is None else capacity


def _declaration(where: Path | str) -> dict[str, Any]:
    """Origin that `specmoe.json` in the checkpoint declares; empty if there is no such file."""
    if not isinstance(where, Path) or not (where / "specmoe.json").is_file():
        return {}
    file = where / "specmoe.json"
    with parsing(file, "a JSON object", ModelError):
        return dict(json.loads(read_text(file)))


def _fingerprint(where: Path | str, config: Any) -> str:
    """Identity of a checkpoint's contents: size and time of each file, or the hub's commit."""
    if isinstance(where, str):
        return str(getattr(config, "_commit_hash", None))
    facts = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in where.iterdir())
    return json.dumps(facts)
