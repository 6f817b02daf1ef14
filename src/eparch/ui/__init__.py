"""The web page, over the same services as the API."""
