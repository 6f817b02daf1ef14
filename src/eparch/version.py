"""The version of Eparch: read by the build, the command line and the server."""

__version__ = "0.1.0"
