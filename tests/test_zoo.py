"""Models by name, their weights, and statistics that are worth folding."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bnfuse.errors import RequestError
from bnfuse.factory import FORMS
from bnfuse.zoo import load_model, randomize_statistics
from tests.importing.support import Case, numbers

FACTORIES = """
import torch
from torch import nn

def plain():
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).train()

def pair():
    return plain(), (torch.ones(1, 3, 4, 4),)

def listed():
    return plain(), [torch.ones(1, 3, 4, 4)]

def empty():
    return plain(), ()

def tensor():
    return plain(), torch.ones(2, 3, 4, 4)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the module ``factories`` in the current folder, which Python does not look in."""
    (tmp_path / "factories.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "factories", raising=False)
    return tmp_path


def test_torchvision_model() -> None:
    loaded = load_model("torchvision:shufflenet_v2_x0_5")
    assert type(loaded.model).__name__ == "ShuffleNetV2"
    assert [x.shape for x in loaded.example_inputs] == [(1, 3, 224, 224)]
    assert loaded.is_random
    assert not loaded.model.training


def test_timm_model() -> None:
    loaded = load_model("timm:test_resnet", seed=1)
    assert [x.shape for x in loaded.example_inputs] == [(1, 3, 160, 160)]
    assert loaded.is_random
    assert not any(module.training for module in loaded.model.modules())
    norms = [module for module in loaded.model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all((norm.weight < 0).any() or len(norm.weight) < 8 for norm in norms)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("plain", (1, 3, 224, 224)),
        ("pair", (1, 3, 4, 4)),
        ("listed", (1, 3, 4, 4)),
        ("tensor", (2, 3, 4, 4)),
    ],
)
@pytest.mark.usefixtures("folder")
def test_factory_in_the_current_folder(name: str, shape: tuple[int, ...]) -> None:
    loaded = load_model(f"factories:{name}")
    assert type(loaded.model) is nn.Sequential
    assert isinstance(loaded.example_inputs, tuple)
    assert [x.shape for x in loaded.example_inputs] == [shape]
    assert not loaded.is_random
    assert loaded.is_guessed == (name == "plain")
    assert not load_model(f"factories:{name}", shapes=["1x3x4x4"]).is_guessed
    assert not loaded.model.training
    assert torch.equal(loaded.model.get_buffer("1.running_mean"), torch.zeros(2))


def test_shapes_make_the_inputs() -> None:
    loaded = load_model("timm:test_resnet", shapes=("2x3x32X32", "7"))
    assert [x.shape for x in loaded.example_inputs] == [(2, 3, 32, 32), (7,)]


def test_seed_decides_weights_statistics_and_inputs() -> None:
    first, again, other = (load_model("timm:test_resnet", seed=seed) for seed in (0, 0, 1))
    one, two, three = (made.model.state_dict() for made in (first, again, other))
    assert all(torch.equal(one[key], two[key]) for key in one)
    changed = [key for key in one if not torch.equal(one[key], three[key])]
    fixed = {"fc.bias"} if "fc.bias" not in changed else set()  # timm starts it at zero
    assert set(changed) == {key for key in one if "num_batches" not in key} - fixed
    assert torch.equal(first.example_inputs[0], again.example_inputs[0])
    assert not torch.equal(first.example_inputs[0], other.example_inputs[0])


def test_callers_random_numbers_go_on_undisturbed() -> None:
    torch.manual_seed(5)
    wanted = torch.randn(3)
    torch.manual_seed(5)
    load_model("timm:test_resnet")
    assert torch.equal(torch.randn(3), wanted)


def test_randomized_statistics_have_both_signs() -> None:
    model = randomize_statistics(nn.Sequential(nn.BatchNorm2d(500)))
    norm = model[0]  # type: ignore[index]
    for name in ("weight", "bias", "running_mean"):
        values = getattr(norm, name).detach()
        assert 0.4 < float((values > 0).float().mean()) < 0.6
        assert 0.8 < float(values.std()) < 1.2
    assert 0.5 <= float(norm.running_var.min()) < 0.6
    assert 1.9 < float(norm.running_var.max()) <= 2.0


def test_randomized_statistics_depend_on_the_seed_alone() -> None:
    states: list[dict[str, Any]] = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(states))
        states.append(randomize_statistics(nn.BatchNorm1d(4), seed).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["running_mean"], states[2]["running_mean"])


def test_only_batch_norms_are_randomized() -> None:
    model = nn.Sequential(
        nn.Linear(2, 2),
        nn.LayerNorm(2),
        nn.BatchNorm1d(2, affine=False),
        nn.BatchNorm1d(2, track_running_stats=False),
    )
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert randomize_statistics(model) is model
    after = model.state_dict()
    changed = [key for key in before if not torch.equal(before[key], after[key])]
    assert changed == ["2.running_mean", "2.running_var"]


@pytest.mark.usefixtures("folder")
def test_weights_of_a_named_model(folder: Path) -> None:
    state = randomize_statistics(load_model("factories:plain").model, 9).state_dict()
    torch.save(state, folder / "w.pt")
    loaded = load_model("factories:plain", weights=folder / "w.pt")
    assert all(torch.equal(state[key], value) for key, value in loaded.model.state_dict().items())


def test_given_weights_are_not_randomized(tmp_path: Path) -> None:
    state = load_model("timm:test_resnet", seed=7).model.state_dict()
    torch.save(state, tmp_path / "w.pt")
    loaded = load_model("timm:test_resnet", weights=tmp_path / "w.pt")
    assert not loaded.is_random
    assert all(torch.equal(state[key], value) for key, value in loaded.model.state_dict().items())


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ("resnet50", "did you mean torchvision:resnet50 or timm:resnet50?"),
        ("levit_128s", "did you mean timm:levit_128s?"),
        ("shufflenet_v2_x0_5", "did you mean torchvision:shufflenet_v2_x0_5?"),
        ("squeezenet1", "did you mean torchvision:squeezenet1_1 or torchvision:squeezenet1_0?"),
        ("q_q_q", f"write one like {FORMS}."),
        ("", f"write one like {FORMS}."),
        (":resnet50", f"write one like {FORMS}."),
        ("resnet50:", f"write one like {FORMS}."),
        ("net.engine", "an engine has no layers to read, so name the model it was built from."),
        ("factories.py", "name a function in the file, like factories:load."),
        ("w.pt", f"write one like {FORMS}, and give a file of weights with --weights."),
    ],
)
def test_a_name_without_what_the_model_is_from(folder: Path, spec: str, remedy: str) -> None:
    (folder / "w.pt").touch()
    with pytest.raises(RequestError, match=re.escape(f"there is no model {spec!r}: {remedy}")):
        load_model(spec)


def test_a_name_is_looked_for_in_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RequestError, match=r"did you mean torchvision:resnet50\?$"):
        load_model("resnet50")
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(RequestError, match=r"write one like torchvision:resnet50, .+\.$"):
        load_model("resnet50")


def test_an_example_of_no_inputs_stays_one(folder: Path) -> None:
    assert load_model("factories:empty").example_inputs == ()


@pytest.mark.parametrize("text", ["", "x", "3x", "1x0", "1,2", "one"])
def test_bad_shape(text: str) -> None:
    wanted = f"{text!r} is no shape: write one like 1x3x224x224."
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        load_model("timm:test_resnet", shapes=(text,))


def test_an_onnx_file_is_a_model_with_inputs_of_its_shapes(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(Case("Relu", [numbers(2, 3)]).proto().SerializeToString())
    loaded = load_model(str(path))
    assert not loaded.is_random
    assert loaded.imported is not None
    assert loaded.imported.module is loaded.model
    assert [tuple(x.shape) for x in loaded.example_inputs] == [(2, 3)]
    (given,) = load_model(str(path), shapes=["7x3"]).example_inputs
    assert given.shape == (7, 3)
    with pytest.raises(RequestError, match="holds its own weights: leave out --weights"):
        load_model(str(path), weights=tmp_path / "w.pt")
