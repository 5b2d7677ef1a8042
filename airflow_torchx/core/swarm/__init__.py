"""Replicas as services of a Docker Swarm: what to request, and what its answers mean."""
