"""Language models: read the residual stream at a site, resume a forward pass from it, log-probabilities.

Plain transformers with forward hooks covers every decoder: `get_decoder()` also finds the text model inside
multimodal models, and the output of block L is transformer-lens's `blocks.L.hook_resid_post`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from abench.errors import UserError
from abench.lm.behaviour import check_behaviour
from abench.lm.blocks import blocks_of, emptied, hidden_of, in_form, narrowable, narrowed
from abench.lm.devices import usable_device
from abench.lm.generation import replies
from abench.lm.model_folder import open_folder, sizes_of
from abench.lm.tokens import prompt_rows
from abench.passes import unseen

_SITE = re.compile(r"^blocks\.(\d+)\.hook_resid_post$")


def site_name(layer: int) -> str:
    """The site of the residual stream after block `layer` (counted from 0), named as in transformer-lens."""
    return f"blocks.{layer}.hook_resid_post"


def layer_of(site: str) -> int:
    """The block (counted from 0) whose output a site is; raises UserError for another kind of site."""
    match = _SITE.match(site)
    if match is None:
        raise UserError(f"unknown site '{site}': sites are written blocks.LAYER.hook_resid_post")
    return int(match.group(1))


class _Stopped(Exception):  # noqa: N818 - no error: a forward pass that need not go further
    """Ends a forward pass at the highest requested site."""


class LanguageModel:
    """A causal language model with frozen weights, and its tokenizer.

    Shapes: tokens [batch, sequence] (int64), residual [batch, sequence, d_model] in the model's dtype,
    logits [batch, sequence, vocabulary]. Sequences have no padding; `generate` pads its own batches.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str, eos_after_documents: bool = False) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.eos_after_documents = eos_after_documents
        """Whether packed documents end with EOS, as in the model's own training."""
        self._layers = blocks_of(model, name)
        sizes = sizes_of(model.config, f"the configuration of {name}")
        self.n_layers, self.d_model = sizes.n_layers, sizes.d_model
        self.max_context = sizes.max_context
        self.vocabulary: int = model.get_input_embeddings().weight.shape[0]
        """Number of tokens that the model has embeddings for."""
        self._form: tuple[Any] | None = None

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        name: str,
        dtype: str = "float32",
        device: str = "cpu",
        eos_after_documents: bool = False,
    ) -> "LanguageModel":
        """Open an ordinary Hugging Face folder with safetensors weights; code that comes with it is not run.

        Raises UserError for an unusable device, for anything wrong with the folder
        (`abench.lm.model_folder.open_folder`) and for a model that violates abench's assumptions
        (`abench.lm.behaviour.check_behaviour`).
        """
        model, tokenizer = open_folder(folder, dtype=dtype, device=usable_device(device))
        lm = cls(model, tokenizer, name=name, eos_after_documents=eos_after_documents)
        check_behaviour(lm)
        return lm

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def bos_id(self) -> int | None:
        """The id of the BOS token; None if the tokenizer has none."""
        token: int | None = self.tokenizer.bos_token_id
        return token

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids of the tokens that begin, end or separate packed documents; they are not text."""
        return frozenset(self.packed([]))

    def packed(self, ids: list[int]) -> list[int]:
        """A document's token ids with its separators for packing: after BOS, before EOS, or both.

        Raises UserError if the tokenizer has neither.
        """
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        begin = [] if bos is None else [bos]
        end = [eos] if eos is not None and (bos is None or self.eos_after_documents) else []
        if not begin and not end:
            raise UserError(
                f"the tokenizer of {self.name} has neither a BOS nor an EOS token to separate texts"
            )
        return [*begin, *ids, *end]

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        """The token ids of each text, without special tokens.

        Raises UserError for a token that the model has no embedding for.
        """
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        if len(self.tokenizer) > self.vocabulary:
            self._check_ids(ids)
        return ids

    def _check_ids(self, ids: list[list[int]]) -> None:
        highest = max((max(row, default=0) for row in ids), default=0)
        if highest >= self.vocabulary:
            raise UserError(
                f"a text contains the token {self.tokenizer.convert_ids_to_tokens(highest)!r}, which "
                f"{self.name} has no embedding for: remove it from the texts"
            )

    def residual(self, tokens: Tensor, site: str) -> Tensor:
        """The residual stream at a site, [batch, sequence, d_model]; the blocks above it are not run."""
        return self.residuals(tokens, [site])[site]

    @torch.inference_mode()
    def residuals(self, tokens: Tensor, sites: Sequence[str]) -> dict[str, Tensor]:
        """The residual stream at several sites, from one forward pass that ends at the highest of them."""
        seen: dict[str, Tensor] = {}
        top = max(sites, key=layer_of)

        def keep(site: str, output: Any) -> None:
            seen[site] = hidden_of(output)
            self._form = (emptied(output),)
            if site == top:
                raise _Stopped

        with ExitStack() as hooks:
            for site in sites:
                hooks.enter_context(_hook(self._layer(site), partial(keep, site)))
            with suppress(_Stopped):
                self.model(input_ids=tokens.to(self.device), use_cache=False)
        return seen

    @torch.inference_mode()
    def logits(self, tokens: Tensor) -> Tensor:
        """Next-token logits, [batch, sequence, vocabulary]."""
        logits: Tensor = self.model(input_ids=tokens.to(self.device), use_cache=False).logits
        return logits

    @torch.inference_mode()
    def logits_from(self, residual: Tensor, tokens: Tensor, site: str) -> Tensor:
        """Next-token logits, [batch, sequence, vocabulary], with the residual stream at a site replaced.

        The pass resumes after the site's block with `residual` [batch, sequence, d_model]; the blocks below
        are not run. `tokens` [batch, sequence] determines positions and masks.
        """
        with self._resume_from(residual, site):
            return self.logits(tokens)

    def next_logits_from(self, residual: Tensor, tokens: Tensor, last: Tensor, site: str) -> Tensor:
        """Logits of the token after position `last` of each row, [batch, vocabulary], as in `logits_from`.

        `last` is [batch] (int64). Positions after it have no effect, so rows may be padded on the right.
        Outside inference mode, gradients flow back to `residual`.
        """
        rows = torch.arange(len(tokens), device=self.device)
        places = last.to(self.device)

        def keep_last(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (inputs[0][rows, places][:, None], *inputs[1:])

        with narrowed(self._narrowable, keep_last), self._resume_from(residual, site):
            logits: Tensor = self.model(input_ids=tokens.to(self.device), use_cache=False).logits
        return logits[:, 0]

    @cached_property
    def _narrowable(self) -> list[nn.Module]:
        """The modules that process only one position of each row in `next_logits_from`."""
        return narrowable(self.model, self._layers[-1])

    def log_probs(self, tokens: Tensor, logits: Tensor | None = None) -> Tensor:
        """Log-probability of each token given all earlier ones, [batch, sequence − 1], float32, in nats."""
        scores = self.logits(tokens) if logits is None else logits
        targets = tokens.to(scores.device)[:, 1:, None]
        log_probs: Tensor = scores[:, :-1].float().log_softmax(-1).gather(-1, targets).squeeze(-1)
        return log_probs

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        batch_size: int = 32,
        done: Callable[[int], None] = unseen,
    ) -> list[str]:
        """The greedy reply to each prompt, without the prompt and without special tokens.

        A prompt follows BOS if the tokenizer has one; a reply ends before EOS or after `max_new_tokens`.
        Rows of a batch are padded on the left and attend neither to each other nor to the padding.
        `done` receives the number of replies so far. Raises UserError for a prompt without tokens, or one
        longer than the context minus `max_new_tokens`.
        """
        rows = prompt_rows(self, prompts, room=max_new_tokens)
        return replies(
            self.model,
            self.tokenizer,
            rows,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            done=done,
        )

    def check_prompts(self, prompts: Sequence[str], *, max_new_tokens: int) -> None:
        """Raise UserError if `generate` would refuse one of these prompts; does not run the model."""
        prompt_rows(self, prompts, room=max_new_tokens)

    def _layer(self, site: str) -> nn.Module:
        layer = layer_of(site)
        if layer >= self.n_layers:
            raise UserError(
                f"{self.name} has no block {layer}: it has {self.n_layers} blocks (0 to {self.n_layers - 1})"
            )
        return self._layers[layer]

    @contextmanager
    def _resume_from(self, residual: Tensor, site: str) -> Iterator[None]:
        """While active, blocks below the site pass their input on and the site's block returns `residual`."""
        top = self._layer(site)
        below = list(self._layers[: layer_of(site)])
        (form,) = self._form or self._learnt_form()
        replaced = in_form(form, residual.to(self.device, self.model.dtype))

        def pass_on(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Any:
            return in_form(form, hidden_states)

        def replace(*_args: Any, **_kwargs: Any) -> Any:
            return replaced

        try:
            for layer in below:
                layer.forward = pass_on
            top.forward = replace
            yield
        finally:
            for layer in [*below, top]:
                # Deleting the instance attribute uncovers the class's method again.
                layer.__dict__.pop("forward", None)

    def _learnt_form(self) -> tuple[Any]:
        """The structure of the blocks' outputs (`abench.lm.blocks.emptied`), from a pass over one token."""
        self.residual(torch.zeros(1, 1, dtype=torch.int64), site_name(0))
        if self._form is None:
            raise RuntimeError(f"the first block of {self.name} was not run")
        return self._form


@contextmanager
def _hook(module: nn.Module, see: Callable[[Any], None]) -> Iterator[None]:
    """While active, call `see` with each output of the module."""
    handle = module.register_forward_hook(lambda _module, _inputs, output: see(output))
    try:
        yield
    finally:
        handle.remove()
