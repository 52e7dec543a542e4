"""A steered forward pass, and steered generation, against plain ones.

CPU time; plain and steered take turns, and the ratios are medians over the turns of the ratios within a
turn. Weights of the SAEs are random, which changes nothing about the work; a clamp's latent is in the middle.
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

ROWS, TOKENS, NEW, TURNS = 16, 128, 16, 15


def top_k(variant: str, d: int, width: int, k: int) -> Any:
    return get_variant(variant).build(SAEShape(d, width, k), seed=0).eval().requires_grad_(False)


def jump_relu(d: int, width: int) -> Any:
    sae = JumpReLUSAE(JumpReLUSAEConfig(d_in=d, d_sae=width))
    torch.nn.init.constant_(sae.threshold, 1.0)
    return sae.eval().requires_grad_(False)


def interventions(d: int, width: int, k: int) -> dict[str, Intervention]:
    latent = width // 2
    topk, abstopk = (top_k(variant, d, width, k) for variant in ("topk", "abstopk"))
    return {
        f"clamp, topk, k = {k}": ClampLatent(topk, latent, 5.0),
        f"clamp, abstopk, k = {k}": ClampLatent(abstopk, latent, -5.0),
        "clamp, jumprelu": ClampLatent(jump_relu(d, width), latent, 5.0),
        "addition": AddDirection(torch.ones(d), 5.0),
        "clamp, abstopk, all latents encoded": ClampLatent(abstopk, latent, -5.0, keep_error=False),
    }


def larger_model() -> LanguageModel:
    """Eight blocks of width 512 with random weights: more of a model, less of everything else."""
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
    lm: LanguageModel, site: str, steer: Mapping[str, Intervention], work: Callable[[], Any]
) -> tuple[float, dict[str, float]]:
    """Milliseconds of the plain work, and the ratio of each steered one to it."""
    plain: list[float] = []
    found: dict[str, list[float]] = {name: [] for name in steer}
    work()
    for _ in range(TURNS):
        for name, intervention in steer.items():
            plain.append(cpu_ms(work))
            with steered(lm, site, intervention):
                found[name].append(cpu_ms(work) / plain[-1])
    return statistics.median(plain), {name: statistics.median(each) for name, each in found.items()}


def rows(lm: LanguageModel, layer: int, width: int, k: int) -> list[list[object]]:
    texts = [document.text for document in World().reviews("test", 120)]
    prompts = [" ".join(text.split()[:12]) for text in texts[:32]]
    joined = [token for ids in lm.token_ids(texts) for token in ids]
    tokens = torch.tensor(joined[: ROWS * TOKENS]).reshape(ROWS, TOKENS)
    steer, site = interventions(lm.d_model, width, k), site_name(layer)
    forward, by_forward = ratios(lm, site, steer, lambda: lm.logits(tokens))
    replies, by_replies = ratios(lm, site, steer, lambda: lm.generate(prompts, max_new_tokens=NEW))
    where = f"{lm.name}, width {width}"
    plain = [where, "none", f"{forward:.0f} ms", f"{replies:.0f} ms"]
    return [plain] + [[where, name, f"{by_forward[name]:.2f}", f"{by_replies[name]:.2f}"] for name in steer]


def main() -> None:
    torch.manual_seed(0)
    tiny = LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)
    measured = rows(tiny, 2, 2048, 16) + rows(larger_model(), 4, 8192, 32)
    header = ["model", "intervention", f"forward, {ROWS} x {TOKENS} tokens", f"32 replies of {NEW} tokens"]
    print(table(header, measured))
    print(f"\n{torch.get_num_threads()} threads. {machine()}")


main()
