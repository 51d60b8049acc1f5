import pytest
from pydantic import ValidationError

from model.config import ATTENTION_NAMES, ENCODER_NAMES, ModelSettings, TrainSettings
from model.network import encoders
from model.network.rankers import RANKERS


@pytest.mark.parametrize("name", ["transformer", "gru", "bert4rec", "s3rec"])
@pytest.mark.parametrize(("option", "value"), [("bias", "functional"), ("attention", "softmax")])
def test_options_of_hstu_are_refused_for_other_encoders(name: str, option: str, value: str) -> None:
    """They would change nothing; the defaults and no bias are allowed."""
    with pytest.raises(ValueError, match=rf"{option} {value} is of encoder hstu; leave it out with encoder {name}"):
        ModelSettings.model_validate({"encoder": name, option: value})
    assert ModelSettings.model_validate({"encoder": name}).encoder == name
    assert ModelSettings.model_validate({"encoder": name, "bias": "none"}).encoder == name


def test_names_are_those_that_exist() -> None:
    """Every encoder's file and no other name may be set; an unknown name is refused with the known ones."""
    assert set(ENCODER_NAMES) == set(encoders.ENCODERS) | set(RANKERS)
    for key, names in (("encoder", ENCODER_NAMES), ("attention", ATTENTION_NAMES)):
        with pytest.raises(ValidationError, match=names[-1]):
            ModelSettings.model_validate({key: "lstm"})


def test_heads_must_divide_the_width() -> None:
    """The sentence has both numbers."""
    with pytest.raises(ValidationError, match="dim 10 is not a multiple of heads 3"):
        ModelSettings(dim=10, heads=3)


@pytest.mark.parametrize("days", [0, 1e-9, 1e9])
def test_a_half_life_of_popularity_is_one_that_times_can_have(days: float) -> None:
    """One below a millisecond would be none at all, and of a longer one than all times there is no need."""
    with pytest.raises(ValidationError, match=r"popularity_half_life_d\n.*than or equal to"):
        TrainSettings(popularity_half_life_d=days)
