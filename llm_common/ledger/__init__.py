"""The ledger: what a paid request passes before it is sent, and after it is over."""

from llm_common.ledger.protocol import Ledger, RecordingLedger

__all__ = ["Ledger", "RecordingLedger"]
