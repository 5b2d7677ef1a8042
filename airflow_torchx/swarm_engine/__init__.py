"""A Docker Swarm as an `Engine`: each replica is a service, and each service a container."""

from airflow_torchx.swarm_engine.diagnosis import diagnose
from airflow_torchx.swarm_engine.engine import SwarmEngine

__all__ = ["SwarmEngine", "diagnose"]
