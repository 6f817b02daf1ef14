"""Sends endpoint calls to a server."""
