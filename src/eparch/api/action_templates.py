"""Checking a template before it is saved."""

from __future__ import annotations

import asyncio

from eparch.api.request import Answer, Request
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.action_templates import check_template


@handles(calls.validate_template)
async def validate_template(request: Request, body: str) -> Answer:
    """Whether the text is a template that can be used; what is wrong and where, when it is not."""
    flaw = await asyncio.to_thread(check_template, body)
    if flaw is None:
        return Answer(204)
    return Answer(422, {"error": {"line": flaw.line, "message": flaw.message, "source": body}})


@handles(calls.validate_automation_template)
async def validate_automation_template(request: Request, body: str) -> Answer:
    """The same, by its older path."""
    answer: Answer = await validate_template(request, body)
    return answer
