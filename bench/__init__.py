"""The benchmarks: Eparch beside Prefect on the same machine, against the budgets of the design.

Run by hand (``make bench``), never in CI: numbers of a shared machine decide nothing.
``targets`` knows how each product is installed and started, and is what the interop tests use too.
"""
