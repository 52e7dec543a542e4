"""The activation cache of a run: what it will take, and one reading of the text for several sites.

torch is imported only when the cache is opened.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from abench.data.cache_folder import make_folder, remove_folder
from abench.progress import Progress
from abench.results.jobs import SAEJob
from abench.results.store import Store
from abench.runs.plan import Plan

if TYPE_CHECKING:
    from abench.data.activation_cache import ActivationCache, CachedRows
    from abench.data.activations import ActivationSource
    from abench.data.readers import RowActivations
    from abench.lm.models import LanguageModel

_NUMBER = {"float32": 4, "bfloat16": 2, "float16": 2}
_GIB = 2**30


class ActivationCaching:
    """Opens the activation cache of a run when something is trained."""

    def __init__(self, plan: Plan, store: Store, progress: Progress, while_open: ExitStack) -> None:
        self._plan, self._progress, self._while_open = plan, progress, while_open
        self._spec = plan.config.activation_cache
        self._cached: ActivationCache | None = None
        self._rows: list[CachedRows] = []
        self._temporary = self._spec is not None and self._spec.temporary
        lasting = None if self._spec is None or self._spec.temporary else Path(self._spec.folder)
        self._folder = lasting or store.activations_folder

    @classmethod
    @contextmanager
    def of_run(cls, plan: Plan, store: Store, progress: Progress) -> Iterator["ActivationCaching"]:
        """The cache that the run describes, if any.

        At the end, what it has done is reported, and a temporary cache is removed. Raises UserError for a
        folder that cannot be used, before anything is computed.
        """
        with cls.of_share(plan, store, progress) as caching:
            caching._check()
            yield caching
        if caching._temporary:
            remove_folder(caching._folder)

    @classmethod
    @contextmanager
    def of_share(cls, plan: Plan, store: Store, progress: Progress) -> Iterator["ActivationCaching"]:
        """As `of_run`, for a part of a run: the run has checked the folder and removes a temporary cache."""
        with ExitStack() as while_open:
            caching = cls(plan, store, progress, while_open)
            yield caching
            caching._report()

    def rows(
        self, lm: "LanguageModel | ActivationSource", sites: Callable[[], Sequence[str]]
    ) -> "RowActivations | None":
        """Gives the activations of rows; `sites` are those that still need training. None without a cache."""
        from abench.lm.models import LanguageModel

        weights = self._plan.model.commit
        if self._spec is None or weights is None or not isinstance(lm, LanguageModel):
            return None
        from abench.data.activation_cache import ActivationCache, CachedRows

        if self._cached is None:
            opened = ActivationCache.open(self._folder, self._spec.size, self._progress.say)
            self._cached = self._while_open.enter_context(opened)
            self._announce(self._cached.used())
        self._rows.append(CachedRows(self._cached, lm, weights, sites()))
        return self._rows[-1]

    def _check(self) -> None:
        if self._spec is None or not any(sae.trained for sae in self._plan.saes):
            return
        if self._plan.model.config.synthetic is not None:
            self._progress.say(_without_text(self._plan))
        elif not self._temporary:
            make_folder(self._folder)

    def _announce(self, used: int) -> None:
        sentence = caching_sentence(self._plan)
        if sentence is not None:
            self._progress.say(f"{sentence}; it holds {_gib(used)} now")

    def _report(self) -> None:
        found, computed = (sum(getattr(each, what) for each in self._rows) for what in ("found", "computed"))
        if found + computed:
            self._progress.say(
                f"activation cache: {found:,} of {found + computed:,} rows of text were found in it, and the "
                f"model read {computed:,}"
            )


def caching_sentence(plan: Plan) -> str | None:
    """What the activation cache of a run will take, and what follows if it is too much; None without one."""
    spec = plan.config.activation_cache
    if spec is None:
        return None
    per_site, sites = needed_bytes(plan)
    if not sites:
        return None
    if plan.model.config.synthetic is not None:
        return _without_text(plan)
    whole = f"{_gib(per_site)} per site, {_gib(per_site * sites)} at {sites} sites"
    takes = f"about {whole if sites > 1 else _gib(per_site)}"
    where = "the results folder" if spec.temporary else spec.folder
    sentence = f"activation cache in {where}, at most {_gib(spec.size)}: the text of this run takes {takes}"
    if per_site * sites <= spec.size:
        return sentence
    part = spec.size / (per_site * sites)
    return (
        f"{sentence}, so about {part:.0%} of it is cached and the model reads the rest once per site "
        f"(--activation-cache {spec.folder}:{-(-per_site * sites // _GIB)} would hold all)"
    )


def needed_bytes(plan: Plan) -> tuple[int, int]:
    """Estimated bytes of the activations that a run reads at one site, and the number of sites."""
    jobs = [sae for sae in plan.saes if isinstance(sae, SAEJob)]
    tokens = max((_tokens_read(job) for job in jobs), default=0)
    return tokens * plan.model.config.d_model * _NUMBER[plan.model.dtype], len({job.site for job in jobs})


def _tokens_read(job: SAEJob) -> int:
    """The tokens that the model reads for an SAE: whole reads for each block, and BOS in each row."""
    from abench.data.activations import ROWS_PER_READ
    from abench.variants import Variant

    training, context = job.training, job.model.context
    batches = training.buffer_tokens // training.batch_size
    calibrates = type(job.variant).calibrate is not Variant.calibrate
    further = training.calibration_tokens // training.batch_size if calibrates else 0
    blocks = -(-(training.steps + further) // batches)
    reads = -(-batches * training.batch_size // (ROWS_PER_READ * (context - 1)))
    return blocks * reads * ROWS_PER_READ * context


def _without_text(plan: Plan) -> str:
    return (
        f"activation_cache has no effect: {plan.model.config.title} draws its activations and reads no text"
    )


def _gib(size: int) -> str:
    return f"{size / _GIB:,.1f} GiB" if size >= _GIB / 10 else f"{size / 2**20:,.1f} MiB"
