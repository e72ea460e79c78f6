from llm_common.exceptions import AuthenticationError, BadRequestError, ProviderError
from llm_common.llm.breaker import BreakerPolicy, Breakers

KEY = ("https://api.example", "glm")
DOWN = ProviderError("503")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breakers:
    breakers = Breakers(BreakerPolicy(threshold=3, cooldown=10, max_cooldown=30), clock)
    for _ in range(3):
        assert breakers.admit(KEY)
        breakers.failed(KEY, DOWN)
    return breakers


def test_failures_in_a_row_open_the_circuit():
    """After three failures the model is left alone, others are not."""
    breakers = opened(Clock())
    assert not breakers.admit(KEY)
    assert breakers.admit(("https://api.example", "other"))
    assert breakers.health() == {KEY: "open"}


def test_a_success_in_between_starts_the_count_again():
    """Three failures among successes are no outage."""
    breakers = Breakers(BreakerPolicy(threshold=3))
    for _ in range(5):
        breakers.failed(KEY, DOWN)
        breakers.failed(KEY, DOWN)
        breakers.succeeded(KEY)
    assert breakers.admit(KEY)
    assert breakers.health() == {}


def test_half_open_lets_one_probe_through():
    """Of all who come after the cooldown, one asks for the others."""
    clock = Clock()
    breakers = opened(clock)
    clock.now = 10
    assert breakers.health() == {KEY: "half-open"}
    assert [breakers.admit(KEY) for _ in range(3)] == [True, False, False]


def test_a_good_probe_closes_and_a_bad_one_doubles_the_wait():
    """The cooldown grows up to its maximum while probes fail."""
    clock = Clock()
    breakers = opened(clock)
    for start, cooldown in ((10, 20), (30, 30), (60, 30)):
        clock.now = start
        assert breakers.admit(KEY)
        breakers.failed(KEY, DOWN)
        clock.now = start + cooldown - 1
        assert not breakers.admit(KEY)
    clock.now = 90
    assert breakers.admit(KEY)
    breakers.succeeded(KEY)
    assert breakers.health() == {}


def test_a_probe_that_was_never_heard_of_does_not_block_for_ever():
    """A killed caller's probe is given up after another cooldown."""
    clock = Clock()
    breakers = opened(clock)
    clock.now = 10
    assert breakers.admit(KEY)
    clock.now = 20
    assert breakers.admit(KEY)


def test_stragglers_do_not_prolong_an_open_circuit():
    """Requests sent before it opened fail late and say nothing new."""
    clock = Clock()
    breakers = opened(clock)
    clock.now = 9
    breakers.failed(KEY, DOWN)
    clock.now = 10
    assert breakers.admit(KEY)


def test_the_callers_own_mistakes_do_not_count():
    """A wrong key or a bad request is no sign of the model's health."""
    breakers = Breakers(BreakerPolicy(threshold=1))
    breakers.failed(KEY, AuthenticationError("401"))
    breakers.failed(KEY, BadRequestError("400"))
    assert breakers.health() == {}
