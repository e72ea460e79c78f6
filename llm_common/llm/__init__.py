"""The parts of one model call: decisions are pure, only `providers/` talks to anybody."""
