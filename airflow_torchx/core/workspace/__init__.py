"""Which image a workspace makes: pure."""
