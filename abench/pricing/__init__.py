"""What a run will cost before it starts: passes, tokens, operations, hours, disk and memory."""
