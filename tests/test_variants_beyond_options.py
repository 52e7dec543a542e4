"""The options of the variants beyond the paper: what is refused, and what is said about it."""

import pytest

from abench.errors import UserError
from abench.variants import get_variant


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("multistep", {"steps": 0}, "option 'steps' of variant 'multistep' must be at least 1 (got 0)"),
        ("multistep", {"steps": 33}, "option 'steps' of variant 'multistep' must be at most 32 (got 33)"),
        ("multistep", {"steps": 1.5}, "must be a whole number (got 1.5)"),
        ("multistep", {"steps": True}, "a number is needed, not true or false (got True)"),
        ("multistep", {"initial_step_size": 0}, "'initial_step_size' of variant 'multistep' must be above 0"),
        ("multistep", {"step": 2}, "variant 'multistep' has no option 'step'; did you mean 'steps'?"),
        ("absjumprelu", {"initial_threshold": -1}, "'absjumprelu' must be at least 0"),
        ("absjumprelu", {"bandwidth": 0}, "option 'bandwidth' of variant 'absjumprelu' must be above 0"),
        ("absjumprelu", {"loss": "tanh"}, "variant 'absjumprelu' has no option 'loss'"),
        ("matryoshka", {"prefixes": []}, "option 'prefixes' of variant 'matryoshka': at least one is needed"),
        ("matryoshka", {"prefixes": [0.5, 1.5]}, "item 2 of option 'prefixes' of variant 'matryoshka'"),
        ("matryoshka", {"prefixes": [0, 0.5]}, "item 1 of option 'prefixes' of variant 'matryoshka'"),
        ("matryoshka", {"prefixes": [True]}, "a number is needed, not true or false"),
        ("absmatryoshka", {"prefixes": [0.5, 0.25]}, "the fractions must ascend"),
        ("absmatryoshka", {"prefix": [0.5]}, "has no option 'prefix'; did you mean 'prefixes'?"),
        ("matroshka", {}, "unknown variant 'matroshka'; did you mean 'matryoshka'?"),
        ("absjumprel", {}, "unknown variant 'absjumprel'; did you mean 'absjumprelu'?"),
    ],
)
def test_mistakes_are_explained(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        get_variant(name, options)
    assert message in str(caught.value)
