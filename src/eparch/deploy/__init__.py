"""From prefect.yaml to deployments on a server."""
