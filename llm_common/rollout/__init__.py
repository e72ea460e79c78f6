"""Percentage rollouts: who gets the new path, and when it is taken back."""

from llm_common.db.functions.rollout import ArmStats, RolloutFlag, RolloutReport
from llm_common.rollout.assignment import Unit
from llm_common.rollout.comparers import judged, same_data, same_figures, similar_text
from llm_common.rollout.constraints import Constraint, Context
from llm_common.rollout.decision import Variant
from llm_common.rollout.guard import RolledBack
from llm_common.rollout.guardrail import Guardrail
from llm_common.rollout.rollout import Rollout

__all__ = [
    "ArmStats",
    "Constraint",
    "Context",
    "Guardrail",
    "RolledBack",
    "Rollout",
    "RolloutFlag",
    "RolloutReport",
    "Unit",
    "Variant",
    "judged",
    "same_data",
    "same_figures",
    "similar_text",
]
