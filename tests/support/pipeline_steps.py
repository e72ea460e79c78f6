"""What a provider can see of the pipeline that asks it."""

from llm_common.testing import ChatRequest

__all__ = ["step_of"]


def step_of(request: ChatRequest) -> str:
    """Which step a request belongs to."""
    asked = set((request.schema or {}).get("properties", {}))
    if "queries" in asked:
        return "research"
    if "passed" in asked:
        return "review"
    return (
        "refine" if "<review>\n" in "\n".join(str(message["content"]) for message in request.messages) else "generate"
    )
