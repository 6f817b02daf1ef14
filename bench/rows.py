"""The budget table as values: one ``Row`` a line, one ``Reading`` a product. Measures nothing."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reading:
    """What one product was measured at; ``failures`` counts answers that were no success, by kind."""

    value: float
    failures: dict[str, int] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the table. ``budget`` is a floor for rates (unit ``/s``), else a ceiling."""

    key: str
    name: str
    unit: str
    budget: float
    prefect: Reading | None = None
    eparch: Reading | None = None

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit == "/s"

    @property
    def ratio(self) -> float | None:
        """How many times better Eparch is than Prefect; None when one was not measured."""
        if not self.prefect or not self.eparch or not self.prefect.value or not self.eparch.value:
            return None
        ours, theirs = self.eparch.value, self.prefect.value
        return ours / theirs if self.is_rate else theirs / ours

    @property
    def is_met(self) -> bool | None:
        """Whether Eparch keeps the budget without a single failure; None when it was not measured."""
        if not self.eparch:
            return None
        kept = self.eparch.value >= self.budget if self.is_rate else self.eparch.value <= self.budget
        return kept and not self.eparch.failures


BUDGETS = (
    Row("create-8", "create a flow run, 8 connections", "/s", 1500),
    Row("create-200", "create a flow run, 200 connections", "/s", 1500),
    Row("cycle-8", "create, run, complete (3 calls), 8 connections", "/s", 500),
    Row("cycle-200", "create, run, complete (3 calls), 200 connections", "/s", 500),
    Row("postgres-create", "create a flow run on PostgreSQL", "/s", 1000),
    Row("postgres-cycle", "create, run, complete on PostgreSQL", "/s", 350),
    Row("read", "read a run", "/s", 3000),
    Row("list", "list 50 runs", "/s", 800),
    Row("logs", "100 log lines a request", "/s", 400),
    Row("start-warm", "deployment's run created -> Running, median", "s", 0.15),
    Row("start-warm-p99", "the same, 99 of 100 runs", "s", 0.3),
    Row("start-many", "the same, 50 runs at once, median", "s", 1.5),
    Row("start-many-p99", "50 runs at once, 99 of 100 runs", "s", 3),
    Row("start-cold", "the same, cold: first run of a new worker", "s", 0.6),
    Row("tasks-called", "no-op tasks in one flow, called", "/s", 4000),
    Row("tasks-mapped", "no-op tasks in one flow, mapped", "/s", 4000),
    Row("flows", "empty flows called in a row", "/s", 100),
    Row("version", "`--version`, wall", "s", 0.08),
    Row("import", "import of flow and task, wall", "s", 0.12),
    Row("server-start", "server: start to first healthy answer", "s", 1.5),
    Row("server-memory", "server: resident memory at start", "MB", 90),
    Row("deploy-30", "deploy 30 trivial deployments", "s", 1),
    Row("deploy-1000", "deploy 1,000 trivial deployments", "s", 10),
    Row("plan-1000", "plan of 1,000 unchanged deployments", "s", 3),
    Row("size", "installed size", "MB", 60),
    Row("packages", "installed packages", "packages", 30),
)


def show(value: float, unit: str) -> str:
    """A number as a person reads it: three significant digits and its unit."""
    digits = 0 if value >= 100 or unit == "packages" else 1 if value >= 10 else 2 if value >= 1 else 3
    text = f"{value:,.{digits}f}"
    return text + unit if unit == "/s" else f"{text} {unit}" if unit != "packages" else text


def tell(reading: Reading | None, unit: str) -> str:
    """A reading with what went wrong beside it, ``-`` when there is none."""
    if reading is None:
        return "-"
    wrong = ", ".join(f"{count} x {kind}" for kind, count in sorted(reading.failures.items()))
    return show(reading.value, unit) + (f" (failed: {wrong})" if wrong else "")


def render(rows: list[Row]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [
        "| work | Prefect | Eparch | ratio | budget | kept |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        sign = ">=" if row.is_rate else "<="
        ratio = f"{row.ratio:,.1f}x" if row.ratio else "-"
        kept = {None: "-", True: "yes", False: "**no**"}[row.is_met]
        cells = (row.name, tell(row.prefect, row.unit), tell(row.eparch, row.unit), ratio)
        lines.append(f"| {' | '.join(cells)} | {sign} {show(row.budget, row.unit)} | {kept} |")
    return lines
