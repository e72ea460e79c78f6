"""Profiles: named ways of asking (`thinking`, `fast`, `instruct`, a host's own) from `llm_common.toml` or `.yaml`."""

from llm_common.llm.profile import Profile
from llm_common.profiles.choosing import ProfileChoice, Task, select_profile
from llm_common.profiles.store import Profiles

__all__ = ["Profile", "ProfileChoice", "Profiles", "Task", "select_profile"]
