"""What the tests of the engine share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.models import MODELS
from tests.quant_core.workbench import Workbench, bench


@pytest.fixture(scope="session")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Workbench]:
    """Makes the workbench of a model in MODELS, once for each setting of QuantizationConfig."""

    @cache
    def made(name: str, **config: object) -> Workbench:
        return bench(MODELS[name](), tmp_path_factory.mktemp(name), **config)

    return made
