"""Templates in actions: whether a text is one, what it becomes, and parameters that are made of them.

Owns the limits of a template and the ``__prefect_kind`` values of parameters (wire: ``RunDeployment``).
What a template may do is in ``action_sandbox``, which is imported when there is a template, as Jinja is slow
to load.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from eparch.core.errors import TemplateInvalid

if TYPE_CHECKING:
    from jinja2 import nodes

MAX_SOURCE = 65_536
"""Characters of a template."""
MAX_OUTPUT = 524_288
"""Characters that it may become."""
MAX_LOOPS = 10
MAX_NESTED_LOOPS = 2
"""As in Prefect."""
MAX_NODES = 5000
MAX_DEPTH = 60
"""Parts of a template, and how deep they may stand in each other."""
MAX_VALUES = 10_000
"""Values in the parameters of an action."""
MAX_NESTING = 64

KIND = "__prefect_kind"
"""The key that says how a value of the parameters is made."""

_REMOVED = object()


class Flaw(NamedTuple):
    """What is wrong with a template, and in which line, counted from 1; 0 is unknown."""

    message: str
    line: int = 0


def is_template(text: str) -> bool:
    """Whether anything in ``text`` is to be rendered."""
    return "{{" in text or "{%" in text


def check_template(text: str) -> Flaw | None:
    """What is wrong with the template; None: nothing."""
    if not is_template(text) and "{#" not in text:
        return None
    if len(text) > MAX_SOURCE:
        return Flaw(f"A template has at most {MAX_SOURCE} characters.")
    from jinja2.exceptions import TemplateSyntaxError

    from eparch.core.action_sandbox import Sandbox

    try:
        sandbox = Sandbox(dict.fromkeys(_OURS, str))
        flaw = _shape(sandbox.parse(text))
        if flaw is None:
            sandbox.prepare(text)
    except TemplateSyntaxError as error:
        return Flaw(error.message or "It is no template.", error.lineno)
    except RecursionError:
        return Flaw("It is nested too deeply.")
    except (SyntaxError, ValueError, MemoryError) as error:
        return Flaw(str(error) or "It is no template.")
    return flaw


_OURS = ("ui_url", "ui_resource_events_url", "flow_run_id")


def _shape(tree: nodes.Template) -> Flaw | None:
    """Whether the parts of a template are too many, in one walk."""
    from jinja2 import nodes

    count = loops = 0
    left: list[tuple[nodes.Node, int, int]] = [(tree, 0, 0)]
    while left:
        node, depth, nested = left.pop()
        count += 1
        if isinstance(node, nodes.For):
            loops, nested = loops + 1, nested + 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            return Flaw("The template is too large or nested too deeply.", node.lineno)
        if loops > MAX_LOOPS:
            return Flaw(f"A template has at most {MAX_LOOPS} for loops.", node.lineno)
        if nested > MAX_NESTED_LOOPS:
            return Flaw(f"For loops stand at most {MAX_NESTED_LOOPS} deep in each other.", node.lineno)
        left.extend((child, depth + 1, nested) for child in node.iter_child_nodes())
    return None


def names_in(texts: Iterable[str]) -> set[str]:
    """The names that the templates ask of their context; those of a text that is no template are none."""
    from jinja2 import nodes

    from eparch.core.action_sandbox import Sandbox

    found: set[str] = set()
    for text in texts:
        if is_template(text) and check_template(text) is None:
            tree = Sandbox(dict.fromkeys(_OURS, str)).parse(text)
            found.update(node.name for node in tree.find_all(nodes.Name) if node.ctx == "load")
    return found


def render(text: str, context: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]]) -> str:
    """What ``text`` becomes with ``context``; ``filters`` are ``action_context.filters_for``.

    Raises:
        TemplateInvalid: it is no template, or it fails, or does too much.
    """
    if not is_template(text):
        return text
    flaw = check_template(text)
    if flaw is not None:
        raise TemplateInvalid(flaw.message, line=flaw.line)
    from eparch.core.action_sandbox import Sandbox

    try:
        rendered = Sandbox(filters).prepare(text).render(context)
    except RecursionError as error:
        raise TemplateInvalid("The template calls itself without end.") from error
    except Exception as error:  # whatever a template does wrong is its author's to see
        raise TemplateInvalid(f"The template cannot be rendered: {str(error)[:500]}") from error
    if len(rendered) > MAX_OUTPUT:
        raise TemplateInvalid(f"The template becomes more than {MAX_OUTPUT} characters.")
    return rendered


class Hydration(NamedTuple):
    """What the values of parameters are made with; without ``render`` they are only looked at."""

    render: Callable[[str], str] | None = None
    variables: Mapping[str, Any] = {}


def upgraded(value: Any) -> Any:
    """``value`` with a ``__prefect_kind`` around each text that is a template.

    A text that is one expression keeps the type of what it becomes.
    """
    if isinstance(value, dict):
        return value if KIND in value else {key: upgraded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [upgraded(item) for item in value]
    if not isinstance(value, str) or not is_template(value):
        return value
    text = value.strip()
    if text.startswith("{{") and text.endswith("}}") and text.count("{{") == 1:
        template = {KIND: "jinja", "template": "{{ (" + text[2:-2].strip() + ") | tojson }}"}
        return {KIND: "json", "value": template}
    return {KIND: "jinja", "template": value}


def wanted_of(parameters: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The templates and the names of variables in ``parameters``."""
    templates: list[str] = []
    variables: list[str] = []
    for value in _values(upgraded(parameters)):
        if isinstance(value, dict) and value.get(KIND) == "jinja" and isinstance(value.get("template"), str):
            templates.append(value["template"])
        elif isinstance(value, dict) and value.get(KIND) == "workspace_variable":
            name = value.get("variable_name")
            variables += [name] if isinstance(name, str) else []
    return templates, variables


def flaws_in(parameters: dict[str, Any]) -> list[str]:
    """What is wrong with the templates in ``parameters``, each with the name of its parameter."""
    try:
        sum(1 for _ in _values(parameters))
    except TemplateInvalid as error:
        return [error.message]
    found = []
    for name, value in parameters.items():
        templates, _ = wanted_of({name: value})
        flaws = (check_template(template) for template in templates)
        found += [f"{name}: {flaw.message}" for flaw in flaws if flaw is not None]
        try:
            hydrate({name: value}, Hydration())
        except TemplateInvalid as error:
            found.append(f"{name}: {error.message}")
    return found


def _values(value: Any) -> Iterator[Any]:
    left = [(value, 0)]
    for _ in range(MAX_VALUES):
        if not left:
            return
        one, depth = left.pop()
        if depth > MAX_NESTING:
            break
        yield one
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        left.extend((item, depth + 1) for item in inner)
    raise TemplateInvalid("The parameters are too many or nested too deeply.")


def hydrate(parameters: dict[str, Any], using: Hydration) -> dict[str, Any]:
    """``parameters`` with every ``__prefect_kind`` replaced by what it stands for.

    Raises:
        TemplateInvalid: one of them cannot be made.
    """
    made = _hydrated(upgraded(parameters), using)
    return made if isinstance(made, dict) else {}


def _hydrated(value: Any, using: Hydration) -> Any:
    if isinstance(value, list):
        return [made for item in value if (made := _hydrated(item, using)) is not _REMOVED]
    if not isinstance(value, dict):
        return value
    if KIND not in value:
        items = ((key, _hydrated(item, using)) for key, item in value.items())
        return {key: made for key, made in items if made is not _REMOVED}
    maker = _MAKERS.get(value[KIND]) if isinstance(value[KIND], str) else None
    return maker(value, using) if maker else value.get("value")


def _inner(value: dict[str, Any], key: str, using: Hydration) -> Any:
    return _hydrated(value[key], using) if isinstance(value[key], dict) else value[key]


def _none(value: dict[str, Any], using: Hydration) -> Any:
    if "value" not in value:
        raise TemplateInvalid("The key 'value' is missing.")
    return _hydrated(value["value"], using)


def _json(value: dict[str, Any], using: Hydration) -> Any:
    if "value" not in value:
        return _REMOVED
    text = _inner(value, "value", using)
    if not isinstance(text, str) or (using.render is None and isinstance(value["value"], dict)):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TemplateInvalid(f"It is not JSON: {error}") from error


def _jinja(value: dict[str, Any], using: Hydration) -> Any:
    if "template" not in value:
        raise TemplateInvalid("The key 'template' is missing.")
    text = _inner(value, "template", using)
    if not isinstance(text, str):
        raise TemplateInvalid("A template is a text.")
    return using.render(text) if using.render is not None else text


def _variable(value: dict[str, Any], using: Hydration) -> Any:
    if "variable_name" not in value:
        return _REMOVED
    name = _inner(value, "variable_name", using)
    if using.render is None:
        return name
    if not isinstance(name, str) or name not in using.variables:
        raise TemplateInvalid(f"Variable '{name}' not found in workspace.")
    return using.variables[name]


_MAKERS: dict[str, Callable[[dict[str, Any], Hydration], Any]] = {
    "none": _none,
    "json": _json,
    "jinja": _jinja,
    "workspace_variable": _variable,
}
