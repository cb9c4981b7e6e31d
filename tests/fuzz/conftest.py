"""What the searches for counterexamples share: the same examples in each run, and how many."""

import pytest
from hypothesis import HealthCheck, settings

DEFAULT, THOROUGH = 40, 1500

settings.register_profile(
    "fuzz",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("fuzz")


@pytest.fixture(
    params=[
        pytest.param(DEFAULT, id="few"),
        pytest.param(THOROUGH, marks=pytest.mark.slow, id="many"),
    ]
)
def examples(request: pytest.FixtureRequest) -> int:
    """A few dozen in every run, thousands with `pytest -m slow`."""
    number: int = request.param
    return number
