"""From Prefect 2 agents and infrastructure blocks to workers."""
