"""The endpoints, one module a family; ``core.calls`` gathers them and is what others import."""
