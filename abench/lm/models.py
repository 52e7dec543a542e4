"""Language models: read the activations at a site, resume a forward pass from them, log-probabilities.

Plain transformers with forward hooks covers every decoder: `get_decoder()` also finds the text model inside
multimodal models, and the output of block L is transformer-lens's `blocks.L.hook_resid_post`. What the
block's attention and MLP add to the residual stream are `hook_attn_out` and `hook_mlp_out`
(`contributions.py`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from abench.lm.devices import AUTO, check_map, computing_device, device_of, usable_device
from abench.lm.fitting import FittingPasses, joined
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

    A batch for which memory runs out is computed in parts (`abench.lm.fitting`). If there is not enough for a
    single row, methods that run the model raise MemoryShortageError, a UserError.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        eos_after_documents: bool = False,
        device: str | None = None,
    ) -> None:
        """`device` is where activations and logits are; None: where the model takes tokens (`device_of`)."""
        self._device = None if device is None else torch.device(device)
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
        self.fitting = FittingPasses(name)
        """The sizes of forward passes that memory holds."""

    @classmethod
    def load(
        cls,
        source: Any,
        tokenizer: Any = None,
        *,
        name: str | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        device_map: Mapping[str, int | str] | None = None,
        eos_after_documents: bool | None = None,
    ) -> "LanguageModel":
        """Open a model by name, hub id, folder or GGUF file, or use one of transformers with its tokenizer.

        A folder is an ordinary Hugging Face folder with safetensors weights; code that comes with it is not
        run. A model of transformers is used where it is and in its dtype, and its weights are frozen. `name`
        is what the model is called in messages and keys. `eos_after_documents` states whether packed texts
        end with EOS (None: as configured for the name, otherwise not).

        With the device `auto`, the model is spread over all GPUs of this machine, and main memory if they are
        too small. `device_map` states the place of each module instead, as in transformers: a device, or
        `cpu` or `disk` for weights that are brought to a device when they are needed. Activations and logits
        are on the first GPU with `auto`, and otherwise on the first device of the map.

        Raises UserError for a name that is not known, an unusable device, for anything wrong with the folder
        (`abench.lm.model_folder.open_folder`) and for a model that violates abench's assumptions
        (`abench.lm.behaviour.check_behaviour`).
        """
        if tokenizer is None:
            found = place_of(source)
            name = name or found.name
            eos = found.eos_after_documents if eos_after_documents is None else eos_after_documents
            where = usable_device(device)
            check_map(device_map or {})
            source, tokenizer = open_folder(found.folder, dtype=dtype, device=where, device_map=device_map)
            main = computing_device(where) if where == AUTO and device_map is None else None
        else:
            name, eos, main = name or type(source).__name__, bool(eos_after_documents), None
        lm = cls(source, tokenizer, name=name, eos_after_documents=eos, device=main)
        check_behaviour(lm)
        return lm

    def __repr__(self) -> str:
        return (
            f"LanguageModel({self.name}: {self.n_layers} blocks, d_model {self.d_model}, "
            f"{str(self.model.dtype).removeprefix('torch.')} on {self.device})"
        )

    @property
    def device(self) -> torch.device:
        """The device of activations and logits; the model may be spread over others as well."""
        return self._device or device_of(self.model)

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
        inside = max((layer_of(site) for site in sites if not is_after_block(site)), default=0)
        passes = self.fitting.parts(
            "activations", tokens.shape, lambda rows: self._read(tokens[rows], sites, inside)
        )
        if inside:
            self._inputs.keep(tokens, inside, joined([before for _, (before,) in passes]))
        return {site: joined([seen[site] for seen, _ in passes]).to(self.device) for site in sites}

    def _read(
        self, tokens: Tensor, sites: Sequence[str], inside: int
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The activations at several sites, and the input of block `inside` unless that is 0, of one pass."""
        seen: dict[str, Tensor] = {}
        modules = {site: self._module(site) for site in sites}
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
        return seen, before

    @torch.inference_mode()
    def logits(self, tokens: Tensor) -> Tensor:
        """Next-token logits, [batch, sequence, vocabulary]."""
        return joined(self.fitting.parts("logits", tokens.shape, lambda rows: self._logits(tokens[rows])))

    def _logits(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=tokens.to(self.device), use_cache=False).logits
        return logits.to(self.device)

    @torch.inference_mode()
    def logits_from(self, residual: Tensor, tokens: Tensor, site: str) -> Tensor:
        """Next-token logits, [batch, sequence, vocabulary], with the activations at a site replaced.

        The pass resumes at the site with `residual` [batch, sequence, d_model]. For the residual stream after
        a block, `tokens` [batch, sequence] determines positions and masks only, and the blocks below are not
        run. For the output of a block's attention or MLP, the block also needs its own input for `tokens`;
        the blocks below are run to compute it, unless it is known from the last pass (`block_inputs.py`).
        """
        before = self._before(tokens, site)

        def compute(rows: slice) -> Tensor:
            with self._resume_from(residual[rows], None if before is None else before[rows], site):
                return self._logits(tokens[rows])

        return joined(self.fitting.parts("logits", tokens.shape, compute))

    def next_logits_from(self, residual: Tensor, tokens: Tensor, last: Tensor, site: str) -> Tensor:
        """Logits of the token after position `last` of each row, [batch, vocabulary], as in `logits_from`.

        `last` is [batch] (int64). Positions after it have no effect, so rows may be padded on the right.
        Outside inference mode, gradients flow back to `residual`.
        """
        before, modules = self._before(tokens, site), self._narrowable

        def compute(rows: slice) -> Tensor:
            places = last[rows]

            def keep_last(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
                hidden = inputs[0]
                each = torch.arange(len(hidden), device=hidden.device)
                return (hidden[each, places.to(hidden.device)][:, None], *inputs[1:])

            resumed = self._resume_from(residual[rows], None if before is None else before[rows], site)
            with resumed, narrowed(modules, keep_last):
                return self._logits(tokens[rows])[:, 0]

        if torch.is_grad_enabled() and residual.requires_grad:
            # Parts would not need less memory: what the gradients need of all rows is kept until the end.
            return compute(slice(None))
        return joined(self.fitting.parts("next tokens", tokens.shape, compute))

    @cached_property
    def _narrowable(self) -> list[nn.Module]:
        """The modules that process only one position of each row in `next_logits_from`."""
        return narrowable(self.model, self._layers[-1], self.device)

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
            self,
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
            self._contributions[layer] = contributions_of(
                self.model, block, layer, self.name, device=self.device
            )
        return self._contributions[layer].of(kind_of(site))

    def _before(self, tokens: Tensor, site: str) -> Tensor | None:
        """The input of a site's block for these tokens; None where resuming at the site does not need it."""
        layer = layer_of(site)
        return None if is_after_block(site) or layer == 0 else self._input(tokens, layer)

    @contextmanager
    def _resume_from(self, residual: Tensor, before: Tensor | None, site: str) -> Iterator[None]:
        """While active, a pass resumes at a site with `residual`; `before` is the result of `_before`."""
        module, layer = self._module(site), layer_of(site)
        blocks = list(self._layers[: layer + 1])
        hidden = residual.to(self.device, self.model.dtype)
        if before is not None:
            resumed = resumed_within(blocks, before, module, hidden, self._known_form())
        elif is_after_block(site):
            resumed = resumed_after(blocks, hidden, self._known_form())
        else:
            resumed = replaced(module, hidden)
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

    def _known_form(self) -> Any:
        """The structure of the blocks' outputs (`abench.lm.blocks.emptied`)."""
        (form,) = self._form or self._learnt_form()
        return form

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
