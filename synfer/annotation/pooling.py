"""Pooling: one distribution from several members, whatever their order.

- logarithmic: `p ~ prod_m p_m ** w_m * exp(b)` with non-negative weights and class offsets fitted on held-out labels; externally Bayesian
  (Genest and Zidek 1986), and the fitted weights both rank the members and discount what they say twice. The offsets take back what the
  members' class priors are counted too often. Only this one is calibrated as a pool.
- mean: the arithmetic mean, the average of predictions of the SynFER paper.
- majority: a vote of the members' first choices; the mean counts as one more vote, so ties are broken and no class has probability 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from synfer.annotation.calibration import AnnotationError, as_scores, fit_temperature, log_probabilities, scale
from synfer.annotation.label_noise import LabelNoise, doubted, fit_through_noise
from synfer.vocabulary import unknown

Members = Mapping[str, np.ndarray]
"""Scores (N, K) of each member by name: logits or log-probabilities."""


@dataclass(frozen=True)
class Pool:
    """Calibrated members, the rule that joins them, and the noise of the held-out labels that they were calibrated through.

    `offsets` (K,) are those of the logarithmic pool, 0 for the other rules.
    """

    rule: str
    temperatures: dict[str, float]
    weights: dict[str, float]
    noise: LabelNoise
    offsets: np.ndarray

    def calibrated(self, members: Members) -> dict[str, np.ndarray]:
        """Each member's calibrated probabilities (N, K), in the order of the names."""
        if set(members) != set(self.temperatures):
            raise AnnotationError(f"the pool was fitted on {sorted(self.temperatures)}, but was given {sorted(members)}")
        return {name: scale(members[name], self.temperatures[name]) for name in sorted(members)}

    def __call__(self, members: Members) -> np.ndarray:
        """The pooled probabilities (N, K) of members' scores (N, K), under the class prior of the held-out faces."""
        probabilities = self.calibrated(members)
        weights = np.array([self.weights[name] for name in probabilities])
        return _times(RULES[self.rule](np.stack(list(probabilities.values())), weights), self.offsets)

    @property
    def prior(self) -> np.ndarray:
        """Shares (K,) of the true classes among the held-out faces."""
        return np.asarray(self.noise.joint.sum(axis=1))

    def likelihood(self, members: Members) -> np.ndarray:
        """The pooled probabilities (N, K) under a uniform class prior: what the faces say, whatever classes were frequent on val.

        Only these may be multiplied by a prior of other images, such as that of their labels.
        """
        return _times(self(members), -np.log(self.prior))


def fit_pool(members: Members, labels: np.ndarray, *, rule: str = "logarithmic") -> Pool:
    """Calibrate each member on held-out labels (N,), which may be noisy, and fit the rule's weights.

    The noise and the truth behind the labels are found with the logarithmic pool whatever the rule; each member's temperature is fitted to
    that truth. Raises AnnotationError on an unknown rule or no member.
    """
    if rule not in RULES:
        raise AnnotationError(unknown("pooling rule", rule, RULES))
    if not members:
        raise AnnotationError("a pool needs at least one member")
    names = sorted(members)
    scores = np.stack([log_probabilities(members[name]) for name in names])
    seen, noise = fit_through_noise(scores, labels)
    truth = noise.truth(seen(scores), labels)
    temperatures = {name: fit_temperature(member, doubted(truth)) for name, member in zip(names, scores, strict=True)}
    alike = np.full(len(names), 1.0 / len(names))
    weights = seen.weights * np.array(list(temperatures.values())) if rule == "logarithmic" else alike
    offsets = seen.offsets if rule == "logarithmic" else np.zeros_like(seen.offsets)
    return Pool(rule, temperatures, {name: float(weight) for name, weight in zip(names, weights, strict=True)}, noise, offsets)


def _times(probabilities: np.ndarray, log_factors: np.ndarray) -> np.ndarray:
    """Probabilities (N, K) times class factors, given by their logarithms (K,), normalised."""
    return np.exp(log_probabilities(as_scores(probabilities) + log_factors))


def logarithmic(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted product (N, K) of probabilities (M, N, K), normalised."""
    return np.exp(log_probabilities(np.tensordot(weights, as_scores(probabilities), axes=1)))


def mean(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean (N, K) of probabilities (M, N, K); the weights need not sum to one."""
    return np.tensordot(weights / weights.sum(), probabilities, axes=1)


def majority(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of votes (N, K) of M members with probabilities (M, N, K); their mean is one more vote. Every member counts the same."""
    classes = probabilities.shape[-1]
    votes = np.eye(classes)[probabilities.argmax(axis=-1)].sum(axis=0)
    return (votes + probabilities.mean(axis=0)) / (len(probabilities) + 1)


RULES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"logarithmic": logarithmic, "mean": mean, "majority": majority}
