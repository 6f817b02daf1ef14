"""``RunInput``: a model of what a run asks people for when it pauses (row B6). It needs pydantic."""

from __future__ import annotations

from typing import Any

from eparch.core.errors import Usage

try:
    import pydantic
except ImportError as error:
    raise Usage("RunInput needs pydantic, which is not installed.", fix="pip install pydantic") from error


class RunInput(pydantic.BaseModel):
    """Fields that are asked for: ``pause_flow_run(wait_for_input=MyInput)`` gives a ``MyInput``."""

    model_config = pydantic.ConfigDict(extra="forbid")

    _description: str | None = pydantic.PrivateAttr(default=None)

    @classmethod
    def with_initial_data(cls, description: str | None = None, **values: Any) -> type[RunInput]:
        """The same fields with ``values`` for defaults, and a text that says what is asked."""
        fields: dict[str, Any] = {}
        for name, value in values.items():
            known = cls.model_fields.get(name)
            fields[name] = (known.annotation if known is not None else type(value), value)
        made: type[RunInput] = pydantic.create_model(cls.__name__, __base__=cls, **fields)
        if description is not None:
            made._description = description
        return made
