"""A messenger for the terminal, on the public names of `peers` alone. docs/chat.md tells of it."""
