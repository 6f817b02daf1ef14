"""Publish and subscribe: bounded, in order, nothing lost in silence."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.orchestration.broadcast import Broadcast, FellBehind


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 20))


def test_every_subscriber_hears_what_it_wants_in_order() -> None:
    async def go() -> None:
        broadcast: Broadcast[int] = Broadcast()
        everything, even = broadcast.subscribe(), broadcast.subscribe(lambda n: n % 2 == 0)
        for n in range(6):
            broadcast.publish(n)
        broadcast.close()
        assert [n async for n in everything] == [0, 1, 2, 3, 4, 5]
        assert [n async for n in even] == [0, 2, 4]
        assert len(broadcast) == 0

    run(go())


def test_a_subscriber_waits_until_something_is_said() -> None:
    async def go() -> None:
        broadcast: Broadcast[str] = Broadcast()
        async with broadcast.subscribe() as subscription:
            heard = asyncio.ensure_future(anext(subscription))
            await asyncio.sleep(0)
            assert not heard.done()
            broadcast.publish("now")
            assert await heard == "now"
        assert len(broadcast) == 0
        broadcast.publish("nobody")

    run(go())


def test_who_is_too_far_behind_is_told_and_nobody_waits() -> None:
    async def go() -> None:
        broadcast: Broadcast[int] = Broadcast()
        slow, quick = broadcast.subscribe(capacity=2), broadcast.subscribe()
        for n in range(5):
            broadcast.publish(n)
        with pytest.raises(FellBehind):
            await anext(slow)
        with pytest.raises(FellBehind):
            slow.waiting()
        assert quick.waiting() == [0, 1, 2, 3, 4]
        assert quick.waiting() == []
        assert len(broadcast) == 1

    run(go())


@given(st.lists(st.integers(), max_size=30), st.integers(1, 10))
def test_either_everything_is_heard_or_it_is_said_that_it_was_not(items: list[int], capacity: int) -> None:
    async def go() -> None:
        broadcast: Broadcast[int] = Broadcast()
        subscription = broadcast.subscribe(capacity=capacity)
        for item in items:
            broadcast.publish(item)
        if len(items) > capacity:
            with pytest.raises(FellBehind):
                subscription.waiting()
        else:
            assert subscription.waiting() == items

    run(go())
