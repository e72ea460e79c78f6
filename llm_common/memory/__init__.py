"""The parts of `ConversationMemory`: context and summary."""
