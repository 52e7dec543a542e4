"""The data, training and evaluation of a run: frozen, checked, and part of every key."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from abench.config.spec import Count, Seed, Share, Spec, TokenCount, Word

_UNUSED = 0.05
"""Activations that may be read without being used, as a fraction of those that training uses."""

_OF_STEPS = frozenset(
    {"learning_rate", "betas", "warmup_fraction", "decay_fraction", "gradient_clip", "precision"}
    | {"unit_decoder", "dead_after_tokens"}
)
"""Training options that only affect the steps of one SAE; the others affect the batches."""

Decay = Annotated[float, Field(ge=0, lt=1)]


class DataSpec(Spec):
    """The source of the text."""

    source: Literal["tinyworld", "hub", "file", "manuals"] = "hub"
    """`tinyworld` generates it, `hub` streams a Hugging Face data set, `file` reads local files, `manuals`
    reads the documentation of the installed Python packages that abench requires."""
    dataset: Word | None = "monology/pile-uncopyrighted"
    """Hub id (source hub) or path of a .jsonl, .json, .csv, .txt (or one of these with .gz) or .parquet file
    (source file)."""
    config: Word | None = None
    """Configuration of the hub data set."""
    revision: Word | None = None
    """Commit or tag of the hub data set."""
    split: Word = "train"
    """Split to train SAEs on."""
    column: Word = "text"
    """Column that holds the text."""
    held_out_documents: int = Field(5000, ge=1, le=10**9)
    """Number of documents at the beginning of the split that are held out from training, for evaluation.

    Not used by the tiny world, which has its own test split."""
    epochs: int = Field(1, ge=1, le=10_000)
    """Number of times to read the training documents, each time in a different order.

    Not used by the tiny world, whose texts never end."""

    @model_serializer(mode="wrap")
    def _without_default_epochs(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Keys are hashes of this output: without the default, the keys of earlier results stay valid.
        written: dict[str, Any] = whole(self)
        if self.epochs == 1:
            written.pop("epochs", None)
        return written


class TrainingSpec(Spec):
    """How every SAE of a group is trained. All fields are part of an SAE's key."""

    tokens: TokenCount = 10_000_000
    """Activations to train each SAE on; rounded down to whole batches."""
    batch_size: Count = 4096
    """Activations per step."""
    learning_rate: float = Field(3e-4, gt=0, le=1000)
    """Adam's learning rate."""
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    """Adam's decay rates."""
    warmup_fraction: Share = 0.0
    """Fraction of the steps, at the beginning, over which the learning rate rises linearly from 0."""
    decay_fraction: Share = 0.0
    """Fraction of the steps, at the end, over which the learning rate falls linearly to 0."""
    gradient_clip: float | None = Field(1.0, gt=0, le=1e9)
    """Maximum norm of the gradient; null disables clipping."""
    normalisation: Literal["scale", "layer_norm", "none"] = "scale"
    """`scale` multiplies all inputs by one factor so that the mean norm is sqrt(d_in), and folds it into
    the weights; `layer_norm` standardises each token, as the paper's code does (codes are then in units of
    each token's standard deviation, which tasks convert to units of the residual stream)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the products in a training step; weights and Adam's moments stay in float32. `bfloat16`,
    for GPUs, rounds the factors of all products (for the TopK family only the encoder's)."""
    unit_decoder: bool = False
    """Keep decoder rows at norm 1: remove the gradient's parallel part, renormalise after each step. Saved
    SAEs have decoder rows of norm 1 in any case."""
    dead_after_tokens: TokenCount = 200_000
    """A latent that has not fired for this many tokens counts as dead and receives the auxiliary loss."""
    outlier_norm: float | None = Field(10.0, gt=1, le=1e9)
    """Leave out activations whose norm exceeds this multiple of the median norm; null keeps all."""
    buffer_tokens: int = Field(131_072, ge=1, le=10**10)
    """Largest number of activations that are shuffled together; bounds memory use. A run whose training does
    not fill the buffer a whole number of times uses a smaller one (`in_whole_buffers`)."""
    calibration_tokens: int = Field(65_536, ge=1, le=10**10)
    """Activations used after training to set the inference threshold of batch-level variants."""
    seed: Seed = 0
    """Seed of the order of the texts and of the shuffle; shared by all SAEs, whose own seeds may differ."""

    @property
    def steps(self) -> int:
        return self.tokens // self.batch_size

    def of_the_stream(self) -> dict[str, Any]:
        """The options that SAEs trained on the same batches must have in common, as plain JSON."""
        return self.model_dump(mode="json", exclude=set(_OF_STEPS))

    def in_whole_buffers(self) -> "TrainingSpec":
        """The spec with a buffer that training fills a whole number of times, up to a twentieth.

        Filling a buffer of which little is used would cost forward passes for nothing: 60,000 tokens from a
        buffer of 131,072 would take more than twice the passes needed.
        """
        batches = self.buffer_tokens // self.batch_size
        times = -(-self.steps // batches)
        if times * batches - self.steps <= _UNUSED * self.steps:
            return self
        return self.model_copy(update={"buffer_tokens": -(-self.steps // times) * self.batch_size})

    @model_validator(mode="after")
    def _sizes_fit(self) -> "TrainingSpec":
        if self.tokens < self.batch_size:
            raise ValueError(f"tokens ({self.tokens}) must be at least one batch ({self.batch_size})")
        if self.buffer_tokens < self.batch_size:
            raise ValueError(
                f"buffer_tokens ({self.buffer_tokens}) must be at least one batch ({self.batch_size})"
            )
        if self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError("warmup_fraction and decay_fraction add up to more than 1")
        return self


class EvaluationSpec(Spec):
    """Evaluation settings that every task receives. All fields are part of a cell's key."""

    tokens: TokenCount = 204_800
    """Held-out tokens that text-based tasks evaluate on."""
    batch_size: int = Field(32, ge=1, le=10**6)
    """Contexts per forward pass."""
    seed: Seed = 0
    """Seed of data, splits and probes; the same for all SAEs of a comparison."""
    limit: int | None = Field(None, ge=1, le=10**9)
    """Limit each evaluation data set to this many items, for quick trials; results have their own keys."""
