"""The models that are promised, verified on an NVIDIA GPU."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu_checks import verified
from benchmarks.gpu_plan import DTYPES, MODELS


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_equal_on_the_gpu(model: str, dtype: str) -> None:
    found = verified(model, dtype)
    assert found["device"].startswith("cuda")
    assert found["passed"], found
