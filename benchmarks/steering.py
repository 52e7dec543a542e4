"""Time of a steered forward pass and of steered generation against the plain ones.

Times are CPU times. Plain and steered work alternate, and the ratios are medians over the turns of the ratios
within a turn. Every turn clamps another latent, because in top-k SAEs a latent that is often among the k
largest costs more. The weights of the SAEs are random; their b_dec is the mean of the residual stream.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from common import machine, table

from abench import AddDirection, ClampLatent, Intervention, LanguageModel, site_name, steered
from abench._torchvision import hide_if_broken
from abench.tinyworld import MODEL_DIR, World
from abench.variants import SAEShape, get_variant

hide_if_broken()

from sae_lens import JumpReLUSAE, JumpReLUSAEConfig  # noqa: E402

ROWS, TOKENS, NEW, TURNS = 4, 128, 16, 9


Make = Callable[[int], Intervention]
"""An intervention on the latent with this index."""


def top_k(variant: str, mean: torch.Tensor, width: int, k: int) -> Any:
    sae = get_variant(variant).build(SAEShape(len(mean), width, k), seed=0).eval().requires_grad_(False)
    sae.b_dec.copy_(mean)
    return sae


def jump_relu(mean: torch.Tensor, width: int) -> Any:
    sae = JumpReLUSAE(JumpReLUSAEConfig(d_in=len(mean), d_sae=width)).eval().requires_grad_(False)
    sae.b_dec.copy_(mean)
    sae.threshold.fill_(1.0)
    return sae


def interventions(mean: torch.Tensor, width: int, k: int) -> dict[str, Make]:
    topk, abstopk = (top_k(variant, mean, width, k) for variant in ("topk", "abstopk"))
    jumprelu = jump_relu(mean, width)
    return {
        f"clamp, topk, k = {k}": lambda latent: ClampLatent(topk, latent, 5.0),
        f"clamp, abstopk, k = {k}": lambda latent: ClampLatent(abstopk, latent, -5.0),
        "clamp, jumprelu": lambda latent: ClampLatent(jumprelu, latent, 5.0),
        "addition": lambda _: AddDirection(torch.ones(len(mean)), 5.0),
        "clamp, abstopk, error dropped": lambda latent: ClampLatent(abstopk, latent, -5.0, keep_error=False),
    }


def larger_model() -> LanguageModel:
    """Eight blocks of width 512 with random weights, in which the model dominates the cost."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tiny = LanguageModel.load(MODEL_DIR, name="tiny")
    sizes = {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4}
    config = Qwen3Config(vocab_size=len(tiny.tokenizer), head_dim=64, intermediate_size=1536, **sizes)
    return LanguageModel(Qwen3ForCausalLM(config), tiny.tokenizer, name="random 8 x 512")


def cpu_ms(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return 1000 * (time.process_time() - started)


def ratios(
    lm: LanguageModel, site: str, steer: Mapping[str, Make], work: Callable[[], Any], width: int
) -> tuple[float, dict[str, float]]:
    """Milliseconds of the plain work, and the ratio of each steered work to it."""
    plain: list[float] = []
    found: dict[str, list[float]] = {name: [] for name in steer}
    work()
    for turn in range(TURNS):
        for name, make in steer.items():
            plain.append(cpu_ms(work))
            with steered(lm, site, make((2 * turn + 1) * width // (2 * TURNS))):
                found[name].append(cpu_ms(work) / plain[-1])
    return statistics.median(plain), {name: statistics.median(each) for name, each in found.items()}


def rows(lm: LanguageModel, layer: int, width: int, k: int) -> list[list[object]]:
    texts = [document.text for document in World().reviews("test", 120)]
    prompts = [" ".join(text.split()[:12]) for text in texts[:32]]
    joined = [token for ids in lm.token_ids(texts) for token in ids]
    tokens = torch.tensor(joined[: ROWS * TOKENS]).reshape(ROWS, TOKENS)
    site = site_name(layer)
    steer = interventions(lm.residual(tokens, site).mean((0, 1)), width, k)
    forward, by_forward = ratios(lm, site, steer, lambda: lm.logits(tokens), width)
    replies, by_replies = ratios(lm, site, steer, lambda: lm.generate(prompts, max_new_tokens=NEW), width)
    where = f"{lm.name}, width {width}"
    plain = [where, "none", f"{forward:.0f} ms", f"{replies:.0f} ms"]
    return [plain] + [[where, name, f"{by_forward[name]:.2f}", f"{by_replies[name]:.2f}"] for name in steer]


def main() -> None:
    torch.manual_seed(0)
    tiny = LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)
    header = ["model", "intervention", f"forward, {ROWS} x {TOKENS} tokens", f"32 replies of {NEW} tokens"]
    for case in ((tiny, 2, 2048, 16), (larger_model(), 4, 8192, 32)):
        print(table(header, rows(*case)), flush=True)
    print(f"\n{torch.get_num_threads()} threads. {machine()}")


main()
