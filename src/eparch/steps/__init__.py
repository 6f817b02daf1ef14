"""Build, push and pull steps of a project file."""
