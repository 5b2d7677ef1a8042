"""How to reach a Docker daemon."""
