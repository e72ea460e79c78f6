"""Evidence that may be looked at after every call. Pure.

Each function gives the logarithm of an e-value: a wealth that starts at 1, and that a bet against "all is well" would
have reached. While all is well it ever exceeds 1/a with a probability of at most a, however often it is looked at
(Ville's inequality; Ramdas, Grünwald, Vovk and Shafer, "Game-theoretic statistics and safe anytime-valid inference",
Statistical Science 38, 2023). A test that is valid at one look only, such as a plain rate or an interval of fixed size,
is wrong sooner or later when it is repeated.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

__all__ = ["log_evidence_above", "log_evidence_greater_mean", "log_evidence_more_often"]

#: By how much a rate may be above what is allowed: the bet is spread over these, because nobody knows it beforehand.
_TIMES: Final = (1.5, 2.0, 3.0, 5.0, 10.0, 20.0)
#: The prior of a mean's excess, in units of the allowed mean.
_EXCESS: Final = 0.5
_ALMOST_ALL: Final = 0.999


def log_evidence_above(hits: int, trials: int, limit: float) -> float:
    """Against "the rate is at most `limit`": a mixture of likelihood ratios (Robbins 1970), each for a higher rate.

    Each ratio is a supermartingale at every rate up to the limit, and so is their mean.
    """
    if limit <= 0:
        return math.inf if hits else 0.0
    rates = (min(limit * times, _ALMOST_ALL) for times in _TIMES)
    misses = trials - hits
    return _log_mean(hits * math.log(rate / limit) + misses * math.log((1 - rate) / (1 - limit)) for rate in rates)


def log_evidence_more_often(hits: int, others: int, share: float) -> float:
    """Against "it happens to one arm at most as often as to the other", from what happened alone.

    Of `hits + others` events, `hits` were of the arm that makes `share` of all calls. Were both alike, each event would
    be that arm's with this probability, whatever the common rate is and however it changes: a sequential version of the
    conditional test of two proportions (Fisher). The bet is spread over odds ratios.
    """
    if not 0 < share < 1:
        return 0.0
    odds = (share * times for times in _TIMES)
    chances = [odd / (odd + 1 - share) for odd in odds]
    return _log_mean(
        hits * math.log(chance / share) + others * math.log((1 - chance) / (1 - share)) for chance in chances
    )


def log_evidence_greater_mean(excess: float, standard_error: float, scale: float) -> float:
    """Against "the true excess is at most 0", for a mean that is about normal: the mixture of the mSPRT.

    `scale` is the mean that is allowed; half of it is how large an excess is to be expected. Source: Robbins,
    "Statistical methods related to the law of the iterated logarithm", 1970; Johari, Koomen, Pekelis and Walsh, "Always
    valid inference", 2022. Asymptotic, as in Waudby-Smith and others, "Time-uniform central limit theory", 2024.
    """
    if excess <= 0 or scale <= 0:
        return 0.0
    if standard_error <= 0:
        return math.inf
    ratio = (_EXCESS * scale / standard_error) ** 2
    z = excess / standard_error
    return 0.5 * (z * z * ratio / (1 + ratio) - math.log1p(ratio))


def _log_mean(logs: Iterable[float]) -> float:
    values: Sequence[float] = list(logs)
    most = max(values)
    return most + math.log(sum(math.exp(value - most) for value in values) / len(values))
