"""Signed TopK as sae-lens classes: training, inference, and their configurations."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sae_lens import TopKSAE, TopKSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
from torch import Tensor

from abench.variants.architectures import register_inference, register_training
from abench.variants.signedtopk import signed_top_k


@dataclass
class SignedTopKSAEConfig(TopKSAEConfig):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Inference configuration: TopK's."""

    @classmethod
    def architecture(cls) -> str:
        """The name in sae-lens's registry and in cfg.json."""
        return "signedtopk"


class SignedTopKSAE(TopKSAE):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Inference: TopK's, without the rectifier."""

    cfg: SignedTopKSAEConfig

    def get_activation_fn(self) -> Callable[[Tensor], Tensor]:
        """The operator, on pre-activations times decoder norms."""
        return partial(signed_top_k, k=self.cfg.k)


@dataclass
class SignedTopKTrainingSAEConfig(TopKTrainingSAEConfig):  # type: ignore[misc]  # sae-lens: untyped
    """Training configuration: TopK's."""

    @classmethod
    def architecture(cls) -> str:
        """The name in sae-lens's registry."""
        return "signedtopk"


class SignedTopKTrainingSAE(TopKTrainingSAE):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Training: TopK's, without the rectifier."""

    cfg: SignedTopKTrainingSAEConfig

    def get_activation_fn(self) -> Callable[[Tensor], Tensor]:
        """The operator, on pre-activations times decoder norms."""
        return partial(signed_top_k, k=self.cfg.k)


register_inference(SignedTopKSAE, SignedTopKSAEConfig)
register_training(SignedTopKTrainingSAE, SignedTopKTrainingSAEConfig)
