"""sae-bench's own SCR and TPP on activations it is handed, and what abench's tasks are handed of the same."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from abench.tasks._shared.linear_probes import ProbeQuestion, Probes
from torch import Tensor

from abench import LanguageModel, right_padded, token_rows
from abench._torchvision import hide_if_broken

hide_if_broken()

from sae_bench.evals.scr_and_tpp import main as scr_and_tpp  # noqa: E402
from sae_bench.evals.sparse_probing import probe_training  # noqa: E402
from sae_bench.sae_bench_utils.activation_collection import create_meaned_model_activations  # noqa: E402
from sae_bench.sae_bench_utils.dataset_info import PAIRED_CLASS_KEYS  # noqa: E402

Activations = dict[str, Tensor]
"""Class -> [texts, tokens, d_model], 0 where there is no token."""

prepare_probe_data = probe_training.prepare_probe_data


def activations(lm: LanguageModel, texts: Sequence[str], site: str, *, context: int) -> Tensor:
    """Residual stream at ordinary tokens, [texts, context, d_model], 0 elsewhere."""
    rows = token_rows(lm, texts, context)
    x = torch.zeros(len(texts), context, lm.d_model)
    for numbers, tokens, mask in right_padded(rows, lm):
        residual = lm.residual(tokens, site) * mask[..., None]
        x[torch.tensor(numbers), : tokens.shape[1]] = residual
    return x


def drawn(acts: Activations, name: str, perform_scr: bool = False) -> tuple[Tensor, Tensor]:
    """sae-bench's negatives, but the same ones at every call; its own are others each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(next(iter(acts.values()))) + list(acts).index(name))
        return prepare_probe_data(acts, name, perform_scr)


def questions_of(sizes: Mapping[str, int], classes: Sequence[str], *, scr: bool) -> list[ProbeQuestion]:
    """The rows that `drawn` chooses, among all texts of all classes in order."""
    starts = torch.tensor([0, *sizes.values()]).cumsum(0).tolist()
    rows = {
        name: torch.arange(start, start + size, dtype=torch.float32)[:, None]
        for start, (name, size) in zip(starts[:-1], sizes.items(), strict=True)
    }
    questions = []
    for name in classes:
        numbers, labels = drawn(rows, name, scr)
        numbers = numbers[:, 0].long()
        questions.append(ProbeQuestion(numbers[labels == 1], numbers[labels == 0]))
    return questions


def trained_probes(train: Activations, test: Activations, *, scr: bool, epochs: int) -> dict[str, Any]:
    means = [create_meaned_model_activations(each) for each in (train, test)]
    classes = list(PAIRED_CLASS_KEYS) if scr else list(train)
    probes = {}
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        # Its probes begin with, and are shuffled by, whatever the global random state gives.
        torch.manual_seed(0)
        for name in classes:
            data = [*drawn(means[0], name, scr), *drawn(means[1], name, scr)]
            probes[name], _ = probe_training.train_probe_gpu(
                *data, dim=data[0].shape[1], batch_size=16, epochs=epochs, lr=1e-3, l1_penalty=1e-3
            )
    return probes


def matrix(probes: Mapping[str, Any]) -> Probes:
    """sae-bench's probes as abench's."""
    weight = torch.cat([probe.net.weight.detach() for probe in probes.values()])
    return Probes(weight, torch.cat([probe.net.bias.detach() for probe in probes.values()]))


def results(
    sae: Any, train: Activations, test: Activations, probes: dict[str, Any], numbers: list[int], *, scr: bool
) -> dict[str, float]:
    """sae-bench's metrics of one SAE; its probes must have been trained on what `drawn` draws."""
    classes = list(probes)
    accuracies = partial(scr_and_tpp.get_probe_test_accuracy, probes, classes)
    with torch.no_grad():
        clean = accuracies(create_meaned_model_activations(test), 500, scr)
        effects = scr_and_tpp.get_all_node_effects_for_one_sae(sae, probes, classes, scr, train, 125)
        ablated = scr_and_tpp.perform_feature_ablations(
            probes, sae, 125, test, effects, numbers, classes, 500, scr
        )
    if scr:
        return scr_and_tpp.get_scr_plotting_dict(ablated, clean)
    return scr_and_tpp.create_tpp_plotting_dict(ablated, clean)[0]
