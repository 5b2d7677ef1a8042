"""Pure decisions: nothing here does I/O, reads a clock, rolls dice or looks at the environment."""
