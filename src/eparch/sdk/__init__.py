"""Flows and tasks: what runs inside a flow-run process."""
