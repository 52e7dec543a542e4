"""Calls of an SAE of an unknown class, whose failures become sentences."""

from typing import Any

from torch import Tensor

from abench.errors import UserError, is_out_of_memory


def encoded(obj: Any, x: Tensor, latents: int) -> Tensor:
    """The object's codes [tokens, latents] of activations x [tokens, d_in]; raises UserError if it fails."""
    codes = _called(obj, "encode", x, "activations")
    codes = codes.to_dense() if isinstance(codes, Tensor) and codes.is_sparse else codes
    return _of_shape(obj, "encode", codes, x, latents)


def decoded(obj: Any, codes: Tensor, d_in: int) -> Tensor:
    """The object's reconstructions [tokens, d_in] of codes [tokens, latents]; raises UserError on failure."""
    return _of_shape(obj, "decode", _called(obj, "decode", codes, "codes"), codes, d_in)


def _called(obj: Any, method: str, given: Tensor, what: str) -> Any:
    try:
        return getattr(obj, method)(given)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # Code of the user's own may raise anything; the sentence says what was called with what.
        cause = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise UserError(
            f"the {method} of {name_of(obj)} fails for {what} {list(given.shape)}: {cause}"
        ) from error


def _of_shape(obj: Any, method: str, found: Any, given: Tensor, width: int) -> Tensor:
    expected = [len(given), width]
    if isinstance(found, Tensor) and list(found.shape) == expected and found.is_floating_point():
        return found
    what = (
        f"a tensor of {found.dtype} {list(found.shape)}"
        if isinstance(found, Tensor)
        else f"a value of type {type(found).__name__}"
    )
    raise UserError(
        f"the {method} of {name_of(obj)} must give a floating-point tensor {expected} for "
        f"{list(given.shape)}, but gives {what}"
    )


def name_of(obj: Any) -> str:
    """What an object is called in messages."""
    return f"the SAE of class {type(obj).__qualname__}"
