"""The options of the variants beyond the paper: what is refused, and what is said about it."""

import pytest

from abench.errors import UserError
from abench.variants import get_variant


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("multistep", {"steps": 0}, "option 'steps': input should be greater than or equal to 1, got 0"),
        ("multistep", {"steps": 33}, "option 'steps': input should be less than or equal to 32, got 33"),
        ("multistep", {"steps": 1.5}, "option 'steps': input should be a valid integer"),
        ("multistep", {"steps": True}, "option 'steps': a number is needed, not true or false, got True"),
        ("multistep", {"initial_step_size": 0}, "option 'initial_step_size': input should be greater than 0"),
        ("multistep", {"step": 2}, "variant 'multistep' has no option 'step'; did you mean 'steps'?"),
        ("absjumprelu", {"initial_threshold": -1}, "'initial_threshold': input should be greater than or eq"),
        ("absjumprelu", {"bandwidth": 0}, "option 'bandwidth': input should be greater than 0, got 0"),
        ("absjumprelu", {"loss": "tanh"}, "variant 'absjumprelu' has no option 'loss'"),
        ("matryoshka", {"prefixes": []}, "option 'prefixes': tuple should have at least 1 item"),
        ("matryoshka", {"prefixes": [0.5, 1.5]}, "option 'prefixes.1': input should be less than 1, got 1.5"),
        ("matryoshka", {"prefixes": [0, 0.5]}, "option 'prefixes.0': input should be greater than 0, got 0"),
        ("matryoshka", {"prefixes": [True]}, "option 'prefixes.0': input should be less than 1, got True"),
        ("absmatryoshka", {"prefixes": [0.5, 0.25]}, "option 'prefixes': the fractions must ascend"),
        ("absmatryoshka", {"prefix": [0.5]}, "has no option 'prefix'; did you mean 'prefixes'?"),
        ("matroshka", {}, "unknown variant 'matroshka'; did you mean 'matryoshka'?"),
        ("absjumprel", {}, "unknown variant 'absjumprel'; did you mean 'absjumprelu'?"),
    ],
)
def test_mistakes_are_explained(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        get_variant(name, options)
    assert message in str(caught.value)
