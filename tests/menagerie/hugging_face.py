"""Models of the library `transformers`, from small configurations and without downloads.

They are wrapped in a module of one tensor that returns logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, nn

from zoo import Case

WIDE = {"initializer_range": 0.4}  # by default outputs are too small for a comparison to tell anything
IDS = {"vocab_size": 9, "pad_token_id": 0, "num_labels": 3, **WIDE}
BERT = {
    "hidden_size": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 5,
    "max_position_embeddings": 8,
    "hidden_act": "gelu",
}
LLAMA = {
    **{k: v for k, v in BERT.items() if k != "hidden_act"},
    "num_key_value_heads": 1,
    "head_dim": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": False,
}
IMAGES = {"image_size": 8, "num_channels": 2, "num_labels": 3, **WIDE}


class Logits(nn.Module):
    """A model's logits, of one tensor under the name that it asks for."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, x: Tensor) -> Tensor:
        return self.model(**{self.name: x}).logits


class Pooled(nn.Module):
    """An encoder's states, averaged, and a linear layer: what people put on a body that has no head."""

    def __init__(self, body: nn.Module, width: int, name: str) -> None:
        super().__init__()
        self.body, self.head, self.name = body, nn.Linear(width, 3), name

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(**{self.name: x}).last_hidden_state.mean(1))


def model(config: str, kind: str, **options: Any) -> nn.Module:
    """A model with random weights."""
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    return getattr(transformers, kind)(getattr(transformers, config)(**options))


def words(family: str, config: str | None = None, **options: Any) -> Callable[[], nn.Module]:
    """A model for the classification of sequences of tokens."""
    config = config or f"{family}Config"
    return lambda: Logits(model(config, f"{family}ForSequenceClassification", **{**IDS, **options}), "input_ids")


def images(family: str, **options: Any) -> Callable[[], nn.Module]:
    """A model for the classification of images."""
    made = {**IMAGES, **options}
    return lambda: Logits(model(f"{family}Config", f"{family}ForImageClassification", **made), "pixel_values")


def t5() -> nn.Module:
    options = {"vocab_size": 9, "d_model": 4, "d_kv": 2, "d_ff": 5, "num_layers": 1, "num_heads": 2}
    return Pooled(model("T5Config", "T5EncoderModel", feed_forward_proj="gated-gelu", **options), 4, "input_ids")


DISTIL = {"dim": 4, "n_layers": 1, "n_heads": 2, "hidden_dim": 5, "max_position_embeddings": 8}
GPT2 = {
    "n_embd": 4,
    "n_layer": 1,
    "n_head": 2,
    "n_inner": 5,
    "n_positions": 8,
    "use_cache": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VIT = {k: v for k, v in BERT.items() if k not in ("hidden_act", "max_position_embeddings")}

SPECIMENS = (
    Case("bert", words("Bert", **BERT), (5,), 3, tokens=9),
    Case("distilbert", words("DistilBert", **DISTIL), (5,), 3, tokens=9),
    Case("roberta", words("Roberta", **BERT), (5,), 3, tokens=9),
    Case("albert", words("Albert", **{**BERT, "embedding_size": 3, "num_hidden_layers": 2}), (5,), 3, tokens=9),
    Case("electra", words("Electra", **{**BERT, "embedding_size": 3}), (5,), 3, tokens=9),
    Case("gpt2", words("GPT2", **GPT2), (5,), 3, tokens=9),
    Case("llama", words("Llama", **LLAMA), (5,), 3, tokens=9),
    Case("mistral", words("Mistral", **LLAMA, sliding_window=3), (5,), 3, tokens=9),
    Case("t5_encoder", t5, (5,), 3, tokens=9),
    Case("hf_vit", images("ViT", **VIT, patch_size=4), (2, 8, 8), 3),
    Case(
        "hf_convnext", images("ConvNext", hidden_sizes=[3, 4], depths=[1, 1], num_stages=2, patch_size=2), (2, 8, 8), 3
    ),
    Case(
        "hf_resnet",
        images("ResNet", embedding_size=3, hidden_sizes=[4, 5], depths=[1, 1], layer_type="basic"),
        (2, 8, 8), 3,
    ),
)  # fmt: skip
