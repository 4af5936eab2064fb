"""The theory as software: the exact optimum of an objective, and checks of the theorems."""

from __future__ import annotations

from sharpseq.theory.closed_forms import sharpened
from sharpseq.theory.ctc_optimum import CtcOptimum, optimal_ctc
from sharpseq.theory.dynamics import TrainingCourse, TrainingPlan, cures, train_softmax
from sharpseq.theory.factorised import FactorisedOptimum, optimal_factorised
from sharpseq.theory.gradients import log_gradient_norm, weights
from sharpseq.theory.length_bias import break_even_share, winner_switches
from sharpseq.theory.optimum import OptimalDistribution, kkt_residual, optimal_distribution, solve
from sharpseq.theory.problem import (
    NormalizationWarning,
    Problem,
    function_of_probability,
    loss,
    make_problem,
    marginal_gains,
)
from sharpseq.theory.product_search import ProductOptimum
from sharpseq.theory.switches import Switch, find_switches
from sharpseq.theory.theorems import (
    Counterexample,
    crossing_violation,
    entropy_violation,
    growth_violation,
    one_hot_violation,
    order_violation,
    partial_sum_violation,
    search_counterexample,
)

__all__ = [
    "Counterexample",
    "CtcOptimum",
    "FactorisedOptimum",
    "NormalizationWarning",
    "OptimalDistribution",
    "Problem",
    "ProductOptimum",
    "Switch",
    "TrainingCourse",
    "TrainingPlan",
    "break_even_share",
    "crossing_violation",
    "cures",
    "entropy_violation",
    "find_switches",
    "function_of_probability",
    "growth_violation",
    "kkt_residual",
    "log_gradient_norm",
    "loss",
    "make_problem",
    "marginal_gains",
    "one_hot_violation",
    "optimal_ctc",
    "optimal_distribution",
    "optimal_factorised",
    "order_violation",
    "partial_sum_violation",
    "search_counterexample",
    "sharpened",
    "solve",
    "train_softmax",
    "weights",
    "winner_switches",
]
