"""SAEs for tests of RAVEL: nearly lossless ones in a rotated basis, and one whose subspaces are planted."""

from typing import Any

import torch
from abench.tasks.ravel import Exchanges
from signed import random_sae
from torch import Tensor
from torch.nn.functional import cross_entropy

from abench import LanguageModel


def rotated(variant: str, k: int, *, basis: Tensor | None = None, d: int = 128) -> Any:
    """An SAE whose latents are an orthonormal basis: abstopk signed, others with both signs, [Q, −Q].

    Behind a signed one's latents stands one that never fires, so that all of the basis can.
    """
    if basis is None:
        generator = torch.Generator().manual_seed(0)
        basis = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    rows = torch.cat([basis, basis[:1] if variant == "abstopk" else -basis])
    sae = random_sae(variant, d_in=d, width=len(rows), k=k).to(torch.float64)
    with torch.no_grad():
        sae.W_dec.copy_(rows)
        sae.W_enc.copy_(rows.T)
        if variant == "abstopk":
            sae.W_enc[:, -1] = 0
        sae.b_dec.zero_()
        if variant == "jumprelu":
            sae.threshold.fill_(0.02)
    return sae


def learnt_basis(prepared: Exchanges, lm: LanguageModel, site: str, steps: int) -> Tensor:
    """An orthonormal basis [d, d] of as many equal blocks as there are attributes, one block each.

    Learnt by gradient descent on the exchanged subspaces themselves (distributed alignment search, Geiger et
    al. 2023): no SAE, no mask. Rows are directions.
    """
    bank, d = prepared.bank, lm.d_model
    generator = torch.Generator().manual_seed(0)
    free = torch.randn(d, d, generator=generator, dtype=lm.model.dtype).requires_grad_()
    adam = torch.optim.Adam([free], lr=2e-2)
    block = d // len(prepared.experiments)
    for step in range(steps):
        number = step % len(prepared.experiments)
        pairs = prepared.experiments[number][0].train
        some = [pairs[i] for i in torch.randint(len(pairs), (32,), generator=generator).tolist()]
        bases = [pair.base for pair in some]
        base, source = bank.at_entity(bases), bank.at_entity([pair.source for pair in some])
        space = torch.linalg.qr(free).Q[:, number * block : (number + 1) * block]
        tokens, last = bank.tokens(bases)
        residual = bank.residual(bases, tokens)
        residual[range(32), bank.positions(bases)] = base + (source - base) @ space @ space.T
        targets = torch.tensor([bank.known[pair.target].first for pair in some])
        loss = cross_entropy(lm.next_logits_from(residual, tokens, last, site), targets)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return torch.linalg.qr(free.detach()).Q.T.contiguous()
