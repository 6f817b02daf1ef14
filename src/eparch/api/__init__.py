"""The wire: handlers that parse, call one function, and answer."""
