"""Stage 3: what the shared dictionary says, measured offline on sparse codes."""
