"""Percentage rollouts: who gets the new path, and when it is taken back."""

from llm_common.rollout.assignment import Guardrail, Unit
from llm_common.rollout.rollout import ArmStats, RolledBack, Rollout, RolloutFlag, RolloutReport

__all__ = ["ArmStats", "Guardrail", "RolledBack", "Rollout", "RolloutFlag", "RolloutReport", "Unit"]
