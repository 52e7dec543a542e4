"""Language models: read the activations at a site, resume a forward pass from them, log-probabilities.

Plain transformers with forward hooks covers every decoder: `get_decoder()` also finds the text model inside
multimodal models, and the output of block L is transformer-lens's `blocks.L.hook_resid_post`. What the
block's attention and MLP add to the residual stream are `hook_attn_out` and `hook_mlp_out`
(`contributions.py`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from abench.errors import UserError
from abench.lm.behaviour import check_behaviour, check_sites
from abench.lm.block_inputs import BlockInputs
from abench.lm.blocks import Stopped, blocks_of, emptied, hidden_of, input_of, narrowable, narrowed
from abench.lm.contributions import Contributions, contributions_of, replaced
from abench.lm.devices import usable_device
from abench.lm.generation import replies
from abench.lm.model_folder import open_folder, sizes_of
from abench.lm.places import place_of
from abench.lm.resuming import resumed_after, resumed_within
from abench.lm.tokens import prompt_rows
from abench.passes import unseen
from abench.sites import is_after_block, kind_of, layer_of, site_name

_LOGITS_AT_ONCE = {"cpu": 1 << 24, "cuda": 1 << 28}
"""Largest block of logits, tokens × vocabulary."""


class LanguageModel:
    """A causal language model with frozen weights, and its tokenizer.

    Shapes: tokens [batch, sequence] (int64), activations at a site [batch, sequence, d_model] in the model's
    dtype, logits [batch, sequence, vocabulary]. Sites (`abench.site_name`) are the residual stream after a
    block and what the block's attention and MLP add to it; arguments and methods named `residual` apply to
    all of them. Sequences have no padding; `generate` pads its own batches.
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
        self._contributions: dict[int, Contributions] = {}
        self._inputs = BlockInputs(model)

    @classmethod
    def load(
        cls,
        source: Any,
        tokenizer: Any = None,
        *,
        name: str | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        eos_after_documents: bool | None = None,
    ) -> "LanguageModel":
        """Open a model by name, hub id, folder or GGUF file, or use one of transformers with its tokenizer.

        A folder is an ordinary Hugging Face folder with safetensors weights; code that comes with it is not
        run. A model of transformers is used where it is and in its dtype, and its weights are frozen. `name`
        is what the model is called in messages and keys. `eos_after_documents` states whether packed texts
        end with EOS (None: as configured for the name, otherwise not).

        Raises UserError for a name that is not known, an unusable device, for anything wrong with the folder
        (`abench.lm.model_folder.open_folder`) and for a model that violates abench's assumptions
        (`abench.lm.behaviour.check_behaviour`).
        """
        if tokenizer is None:
            found = place_of(source)
            name = name or found.name
            eos = found.eos_after_documents if eos_after_documents is None else eos_after_documents
            source, tokenizer = open_folder(found.folder, dtype=dtype, device=usable_device(device))
        else:
            name, eos = name or type(source).__name__, bool(eos_after_documents)
        lm = cls(source, tokenizer, name=name, eos_after_documents=eos)
        check_behaviour(lm)
        return lm

    def __repr__(self) -> str:
        return (
            f"LanguageModel({self.name}: {self.n_layers} blocks, d_model {self.d_model}, "
            f"{str(self.model.dtype).removeprefix('torch.')} on {self.device})"
        )

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

    def check_sites(self, sites: Sequence[str]) -> None:
        """Raise UserError for a site that the model lacks, or that does not determine its logits."""
        check_sites(self, sites)

    def residual(self, tokens: Tensor, site: str) -> Tensor:
        """The activations at a site, [batch, sequence, d_model]; the blocks above it are not run."""
        return self.residuals(tokens, [site])[site]

    @torch.inference_mode()
    def residuals(self, tokens: Tensor, sites: Sequence[str]) -> dict[str, Tensor]:
        """The activations at several sites, from one forward pass that ends at the highest of them.

        Raises UserError for a site that the model lacks.
        """
        seen: dict[str, Tensor] = {}
        modules = {site: self._module(site) for site in sites}
        inside = max((layer_of(site) for site in sites if not is_after_block(site)), default=0)
        before: list[Tensor] = []

        def keep(site: str, output: Any) -> None:
            if is_after_block(site):
                self._form = (emptied(output),)
            is_last = is_after_block(site) and len(seen) + 1 == len(modules)
            # A copy, because some blocks write to their input or to the outputs of their attention and MLP.
            seen[site] = hidden_of(output) if is_last else hidden_of(output).clone()
            if len(seen) == len(modules):
                raise Stopped

        with ExitStack() as hooks:
            for site, module in modules.items():
                hooks.enter_context(_hook(module, partial(keep, site)))
            if inside:
                hooks.enter_context(_input_hook(self._layers[inside], before.append))
            with suppress(Stopped):
                self.model(input_ids=tokens.to(self.device), use_cache=False)
        if inside:
            self._inputs.keep(tokens, inside, before[0])
        return {site: seen[site] for site in modules}

    @torch.inference_mode()
    def logits(self, tokens: Tensor) -> Tensor:
        """Next-token logits, [batch, sequence, vocabulary]."""
        logits: Tensor = self.model(input_ids=tokens.to(self.device), use_cache=False).logits
        return logits

    @torch.inference_mode()
    def logits_from(self, residual: Tensor, tokens: Tensor, site: str) -> Tensor:
        """Next-token logits, [batch, sequence, vocabulary], with the activations at a site replaced.

        The pass resumes at the site with `residual` [batch, sequence, d_model]. For the residual stream after
        a block, `tokens` [batch, sequence] determines positions and masks only, and the blocks below are not
        run. For the output of a block's attention or MLP, the block also needs its own input for `tokens`;
        the blocks below are run to compute it, unless it is known from the last pass (`block_inputs.py`).
        """
        with self._resume_from(residual, tokens, site):
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

        modules = self._narrowable
        # In this order: a pass that computes the input of the site's block is not narrowed.
        with self._resume_from(residual, tokens, site), narrowed(modules, keep_last):
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
        # Row by row: a float32 copy of all logits can be larger than the model.
        rows = (row[:-1].float().log_softmax(-1) for row in scores)
        return torch.stack([row.gather(-1, each)[:, 0] for row, each in zip(rows, targets, strict=True)])

    def rows_with_logits(self, context: int) -> int:
        """The number of rows of `context` tokens whose logits fit into 64 MiB, or 1 GiB on a GPU; at least 1.

        The logits of a large vocabulary need most of the memory of scoring: those of 32 rows of 128 tokens
        over a vocabulary of 49,152 take 805 MB in float32.
        """
        numbers = _LOGITS_AT_ONCE["cpu" if self.device.type == "cpu" else "cuda"]
        return max(1, numbers // (context * self.vocabulary))

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

    def _module(self, site: str) -> nn.Module:
        """The module whose output holds the activations at a site."""
        layer = layer_of(site)
        if layer >= self.n_layers:
            raise UserError(
                f"{self.name} has no block {layer}: it has {self.n_layers} blocks (0 to {self.n_layers - 1})"
            )
        block = self._layers[layer]
        if is_after_block(site):
            return block
        if layer not in self._contributions:
            self._contributions[layer] = contributions_of(self.model, block, layer, self.name)
        return self._contributions[layer].of(kind_of(site))

    @contextmanager
    def _resume_from(self, residual: Tensor, tokens: Tensor, site: str) -> Iterator[None]:
        """While active, a pass over `tokens` resumes at a site with `residual` as its activations."""
        module, layer = self._module(site), layer_of(site)
        blocks = list(self._layers[: layer + 1])
        hidden = residual.to(self.device, self.model.dtype)
        if is_after_block(site):
            (form,) = self._form or self._learnt_form()
            resumed = resumed_after(blocks, hidden, form)
        elif layer == 0:
            resumed = replaced(module, hidden)
        else:
            before = self._input(tokens, layer)
            (form,) = self._form or self._learnt_form()
            resumed = resumed_within(blocks, before, module, hidden, form)
        with resumed:
            yield

    def _input(self, tokens: Tensor, layer: int) -> Tensor:
        """The input [batch, sequence, d_model] of block `layer` (at least 1) for these tokens."""
        known = self._inputs.of(tokens, layer)
        if known is not None:
            return known
        # Read after the block below, so that interventions there count.
        before = self.residual(tokens, site_name(layer - 1))
        self._inputs.keep(tokens, layer, before)
        return before.clone()

    def _learnt_form(self) -> tuple[Any]:
        """The structure of the blocks' outputs (`abench.lm.blocks.emptied`), from a pass over one token."""
        self.residual(torch.zeros(1, 1, dtype=torch.int64), site_name(0))
        if self._form is None:
            raise RuntimeError(f"the first block of {self.name} was not run")
        return self._form


def model_of(lm: LanguageModel | str | Path) -> LanguageModel:
    """The model itself, or the one that `LanguageModel.load` opens for a name, an id or a path."""
    return lm if isinstance(lm, LanguageModel) else LanguageModel.load(lm)


@contextmanager
def _hook(module: nn.Module, see: Callable[[Any], None]) -> Iterator[None]:
    """While active, call `see` with each output of the module."""
    handle = module.register_forward_hook(lambda _module, _inputs, output: see(output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _input_hook(block: nn.Module, see: Callable[[Tensor], None]) -> Iterator[None]:
    """While active, call `see` with a copy of each input of the block, which may write to the input."""
    handle = block.register_forward_pre_hook(
        lambda _module, args, kwargs: see(input_of(args, kwargs).clone()), with_kwargs=True
    )
    try:
        yield
    finally:
        handle.remove()
