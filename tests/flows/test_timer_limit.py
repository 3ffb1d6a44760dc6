"""Slots of Prefect's global concurrency limits."""

from __future__ import annotations

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

from quant_core.errors import InputError
from tasks.concurrency import slot_of_prefect


def test_a_slot_is_held_inside_the_block_and_given_back():
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name="npu-of-test", limit=1))

        def held() -> int:
            return client.read_global_concurrency_limit_by_name("npu-of-test").active_slots

        with slot_of_prefect("npu-of-test"):
            assert held() == 1
        assert held() == 0


def test_a_limit_that_prefect_has_not_got_is_told_with_what_makes_it():
    told = "no global concurrency limit 'nowhere'.*prefect gcl create nowhere --limit 1"
    with pytest.raises(InputError, match=told), slot_of_prefect("nowhere"):
        pass
