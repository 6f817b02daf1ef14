"""Carrying out what automations ask for. ``service`` takes actions from the outbox."""
