"""From an app and its options to every container of it: pure."""
