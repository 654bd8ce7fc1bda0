"""Two missing modalities drawn one after the other, temperature, and the interval's margin."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from test_model import DIMS, correlated, everything, latents_of, small

from imder.modality import MODALITIES
from imder.model import PRESETS, ModelConfig
from imder.model.config import CELLS
from imder.pipeline import label_interval


def stream(model, available, *, rows=3, seeds=None, **how):
    z = latents_of(rows)
    hidden = {k: z[k] if k in available else torch.full_like(z[k], 0.0) for k in MODALITIES}
    return list(
        model.stream(hidden, available, valid=everything(rows), seeds=seeds or list(range(rows)), steps=4, **how)
    )


def with_fields(model, **fields):
    model.config = dataclasses.replace(model.config, **fields)
    return model


def test_the_first_of_a_chain_is_the_draw_from_the_observed_alone():
    model = small()
    alone, chained = (stream(model, ("text",), order=order)[-1] for order in ("", "VLA"))
    torch.testing.assert_close(chained["vision"].x, alone["vision"].x)
    assert not torch.allclose(chained["audio"].x, alone["audio"].x, atol=1e-3)


def test_the_second_of_a_chain_is_given_its_own_rows_draw_of_the_first():
    model = small()
    last = stream(model, ("text",), order="AVL", seeds=[1, 2, 3])[-1]
    z = latents_of(3)
    z["audio"] = model.crop(last["audio"].x, 16)
    mask = torch.tensor([[True, True, False]]).expand(3, -1)
    given = model.recover(z, mask, valid=everything(3), seeds=[1, 2, 3], steps=4)
    torch.testing.assert_close(model.crop(last["vision"].x, 16), given["vision"], rtol=1e-4, atol=1e-4)
    other = stream(model, ("text",), order="AVL", seeds=[1, 5, 3])[-1]
    torch.testing.assert_close(other["vision"].x[[0, 2]], last["vision"].x[[0, 2]], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(other["vision"].x[1], last["vision"].x[1], atol=1e-3)


@pytest.mark.parametrize(("sampler", "evaluations"), [("dpmpp-2m", 4), ("heun", 7), ("euler-maruyama", 4)])
def test_a_chains_path_has_two_halves_and_counts_both(sampler, evaluations):
    path = stream(small(), ("audio",), order="LAV", sampler=sampler)
    assert [step["text"].index for step in path] == list(range(9))
    for step in path:
        one, two = step["text"], step["vision"]
        assert (one.index, one.total, one.nfe) == (two.index, two.total, two.nfe)
        assert one.total == 8
        assert one.last == (step is path[-1])
    counts = [step["text"].nfe for step in path]
    assert counts == sorted(counts)
    assert path[-1]["text"].nfe == 2 * evaluations
    before, after = path[:4], path[4:]
    assert all(torch.equal(step["vision"].x, path[0]["vision"].x) for step in before)
    assert all(step["vision"].score is None and not step["vision"].denoised.any() for step in before)
    assert all(torch.equal(step["text"].x, path[-1]["text"].x) and step["text"].std == 0 for step in after)
    assert torch.equal(path[4]["vision"].x, path[0]["vision"].x)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_draw_both_ways(preset):
    model = small(preset)
    for order in ("", "VAL"):
        path = stream(model, ("text",), order=order)
        assert len(path) == (9 if order else 5)
        assert all(torch.isfinite(step[k].denoised).all() for step in path for k in step)


def test_the_published_presets_draw_side_by_side_and_ours_one_after_the_other():
    orders = {name: ModelConfig.from_preset(name, DIMS).order for name in PRESETS}
    assert orders == {"official": "", "paper": "", "corrected": "LAV"}


def test_one_missing_has_no_order():
    path, plain = (stream(small(), ("text", "audio"), order=order) for order in ("LAV", ""))
    assert len(path) == len(plain) == 5
    assert torch.equal(path[-1]["vision"].x, plain[-1]["vision"].x)


def test_nothing_missing_has_no_steps():
    assert stream(small(), MODALITIES) == []


def chained_pair(rho=0.8, rows=100, **how):
    """Draws (rows, 2 D L) of two modalities that share what the observed one does not say."""
    model, generator = small(awake=False), torch.Generator().manual_seed(0)

    def swapped(count):  # text says nothing of audio and vision, which are correlated
        z = correlated(count, generator, rho)
        return {"text": z["vision"], "audio": z["text"], "vision": z["audio"]}

    model.fit_linear(swapped(6000), everything(6000))
    mask = torch.tensor([[True, False, False]]).expand(rows, -1)
    drawn = model.recover(swapped(rows), mask, valid=everything(rows), seeds=range(rows), **how)
    return drawn["audio"].flatten(), drawn["vision"].flatten()


@pytest.mark.parametrize(("order", "wanted"), [("", 0.0), ("LAV", 0.8), ("VAL", 0.8)])
def test_a_chain_draws_the_joint_of_a_gaussian(order, wanted):
    """The network begins at zero, so what is tested is the linear-Gaussian skip, the chain and the sampler."""
    a, b = chained_pair(order=order, steps=20)
    assert torch.corrcoef(torch.stack([a, b]))[0, 1].item() == pytest.approx(wanted, abs=0.03)
    assert a.std().item() == pytest.approx(1, abs=0.04)
    assert b.std().item() == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("value", [0.7, 1.3])
def test_temperature_scales_the_spread_about_the_conditional_mean(value):
    model, generator = small(awake=False), torch.Generator().manual_seed(0)
    model.fit_linear(correlated(6000, generator), everything(6000))
    with_fields(model, temperature={"LV>A": value})
    z, rows = correlated(100, generator), 100
    mask = torch.tensor([[True, False, True]]).expand(rows, -1)
    how = {"valid": everything(rows), "seeds": range(rows), "steps": 20}
    residual = model.recover(z, mask, **how)["audio"] - 0.8 * z["text"]
    assert residual.std().item() == pytest.approx(0.6 * value, abs=0.04)
    again = model.recover(z, mask, sampler="dpmpp-2m-sde", **how)["audio"] - 0.8 * z["text"]
    assert again.std().item() == pytest.approx(0.6, abs=0.04)  # a stochastic sampler has none


def test_temperature_is_that_of_what_the_user_gave():
    plain = stream(small(), ("text",), order="AVL")
    model = with_fields(small(), temperature={"L>V": 2.0, "LA>V": 0.5})
    warm = stream(model, ("text",), order="AVL")
    torch.testing.assert_close(warm[0]["vision"].x, 2 * plain[0]["vision"].x)
    assert torch.equal(warm[-1]["audio"].x, plain[-1]["audio"].x)
    blind, cold = (stream(m, ("text",), order="", guidance=0)[0] for m in (model, small()))
    assert torch.equal(blind["vision"].x, cold["vision"].x)


@pytest.mark.parametrize("order", ["VA", "LLA", "lav", "LAVV", 1, ["L", "A", "V"]])
def test_an_order_out_of_range_is_refused(order):
    with pytest.raises(ValueError, match="order: "):
        stream(small(), ("text",), order=order)
    with pytest.raises(ValueError, match="order: "):
        ModelConfig.from_preset("corrected", DIMS, order=order)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("temperature", {"AL>V": 1.0}, "'AL>V' is unknown; allowed: L>A"),
        ("temperature", {"L>A": 0}, r"temperature\[L>A\]: 0"),
        ("temperature", {"L>A": math.nan}, r"temperature\[L>A\]: nan"),
        ("temperature", {"L>A": "1"}, r"temperature\[L>A\]: '1'"),
        ("temperature", {"L>A": True}, r"temperature\[L>A\]: True"),
        ("temperature", [1.0], "temperature: .1.0. is not allowed; an object is"),
        ("interval_margin", {"LAV": [1.0] * 6}, "'LAV' is unknown"),
        ("interval_margin", {"L": [1.0] * 5}, "6 numbers are"),
        ("interval_margin", {"L": 1.0}, "6 numbers are"),
        ("interval_margin", {"L": [1.0] * 5 + [math.inf]}, r"interval_margin\[L\]: inf"),
        ("interval_margin", None, "an object is"),
    ],
)
def test_a_calibration_out_of_range_is_refused(field, value, said):
    data = ModelConfig.from_preset("corrected", DIMS).to_json() | {field: value}
    with pytest.raises(ValueError, match=said):
        ModelConfig.from_json(data)


def test_only_the_corrected_preset_has_a_temperature():
    with pytest.raises(ValueError, match="'paper' has none"):
        ModelConfig.from_preset("paper", DIMS, temperature={"L>A": 1.1})


def test_a_calibration_survives_json():
    config = ModelConfig.from_preset(
        "corrected",
        DIMS,
        temperature=dict.fromkeys(CELLS, 1.05),
        interval_margin={"L": (0.6, 0.5, 0.4, 0.3, 0.2, 0.1), "AV": (1, 1, 1, 1, 1, -0.1)},
    )
    assert len(CELLS) == 9
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_a_margin_is_that_of_pattern_and_number_of_draws():
    config = ModelConfig.from_preset("corrected", DIMS, interval_margin={"LA": (0.6, 0.5, 0.4, 0.3, 0.2, 0.1)})
    assert config.margin(("text", "audio"), 1) == 0.6
    assert config.margin(("text", "audio"), 64) == 0.1
    assert 0.3 < config.margin(("text", "audio"), 6) < 0.4
    assert config.margin(("text",), 8) == 0
    draws = np.linspace(-1, 1, 32, dtype=np.float32)
    low, high = label_interval(config, ("text", "audio"), draws)
    assert (low, high) == pytest.approx((-1.0, 1.0))
    narrow = dataclasses.replace(config, interval_margin={"LA": (-5,) * 6})
    low, high = label_interval(narrow, ("text", "audio"), draws)
    assert low == pytest.approx(high, abs=1e-6)
