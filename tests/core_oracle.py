"""sae-bench's own core evaluation on a model and token rows that it is handed."""

from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from abench import LanguageModel, site_name
from abench._torchvision import hide_if_broken

hide_if_broken()

from sae_bench.evals.core.main import get_multiple_evals_everything_config, run_evals  # noqa: E402

Metrics = Mapping[str, Mapping[str, float]]


class Hooked:
    """The interface of a HookedTransformer that sae-bench's core evaluation needs, on abench's model."""

    def __init__(self, lm: LanguageModel, layer: int) -> None:
        self._lm, self._layer = lm, layer

    def __call__(self, tokens: Tensor, *, return_type: str, loss_per_token: bool) -> tuple[Tensor, Tensor]:
        logits = self._lm.model(input_ids=tokens).logits
        log_probs = logits[:, :-1].log_softmax(-1)
        return logits, -log_probs.gather(-1, tokens[:, 1:, None])[..., 0]

    def run_with_hooks(
        self, tokens: Tensor, *, fwd_hooks: Sequence[tuple[str, Any]], **options: Any
    ) -> tuple[Tensor, Tensor]:
        ((_, change),) = fwd_hooks
        layer = self._lm.model.get_decoder().layers[self._layer]
        handle = layer.register_forward_hook(lambda _module, _inputs, output: change(output, hook=None))
        try:
            return self(tokens, **options)
        finally:
            handle.remove()

    def run_with_cache(self, tokens: Tensor, **_: Any) -> tuple[None, dict[str, Tensor]]:
        return None, {site_name(self._layer): self._lm.residual(tokens, site_name(self._layer))}


class Tokens:
    """The interface of an ActivationsStore that it needs: the same rows from the start."""

    def __init__(self, rows: Tensor, batch: int) -> None:
        self._rows, self._batch = rows, batch
        self.store_batch_size_prompts, self.context_size = batch, rows.shape[1]
        self.reset_input_dataset()

    def reset_input_dataset(self) -> None:
        self._batches: Iterator[Tensor] = iter(self._rows.split(self._batch))

    def get_batch_tokens(self, _batch_size: int) -> Tensor:
        return next(self._batches)


def core_of_sae_bench(
    lm: LanguageModel, sae: Any, rows: Tensor, *, layer: int, batch: int
) -> tuple[Metrics, Mapping[str, Sequence[float]]]:
    """All measurements of one SAE on token rows [rows, context], and those of each latent.

    The number of rows must be a multiple of `batch`. The SAE's configuration is given the fields that
    sae-bench reads.
    """
    config = get_multiple_evals_everything_config(batch, len(rows) // batch, len(rows) // batch)
    extra = {
        "compute_featurewise_density_statistics": True,
        "compute_featurewise_weight_based_metrics": True,
        "exclude_special_tokens_from_reconstruction": True,
    }
    site = {"hook_name": site_name(layer), "hook_layer": layer, "hook_head_index": None}
    stated = {**vars(sae.cfg), **site, "architecture_str": sae.cfg.architecture()}
    own, sae.cfg = sae.cfg, SimpleNamespace(**stated)
    try:
        options = SimpleNamespace(**vars(config), **extra)
        special = set(lm.special_ids)
        found: tuple[Metrics, Mapping[str, Sequence[float]]] = run_evals(
            sae, Tokens(rows, batch), Hooked(lm, layer), options, ignore_tokens=special
        )
        return found
    finally:
        sae.cfg = own
