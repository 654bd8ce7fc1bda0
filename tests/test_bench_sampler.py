"""The published algorithm equals our `official` model, and the cost benchmarks print what they promise."""

from __future__ import annotations

import json
import math

import pytest
import torch

from imder.__main__ import main
from imder.bench import sampler, timing, training
from imder.bench.cli import read_rows
from imder.modality import MODALITIES, missing
from imder.model import IMDer, ModelConfig
from imder.plots.sampler import costs, ratios
from imder.samplers import Noise, noise_seed

DIMS = {"text": 12, "audio": 5, "vision": 7}


@pytest.fixture(scope="module")
def pair():
    """Ours with every parameter perturbed, and the published algorithm with the same weights."""
    ours = sampler.official(DIMS, 0).requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(1)
    for p in ours.parameters():
        p.add_(0.02 * torch.randn(p.shape, generator=generator))
    return ours, timing.published().Published(ours).eval()


@pytest.fixture(scope="module")
def features():
    generator = torch.Generator().manual_seed(2)
    return {k: torch.randn(3, 18, width, generator=generator) for k, width in DIMS.items()}


@pytest.mark.parametrize("condition", [True, False])
def test_the_published_score_is_ours(pair, condition):
    ours, theirs = pair
    generator = torch.Generator().manual_seed(3)
    x, seen = (torch.randn(3, 32, 48, generator=generator) for _ in range(2))
    t, given = torch.rand(3, generator=generator) + 0.01, seen if condition else None
    with torch.no_grad():
        for k in MODALITIES:
            assert torch.allclose(theirs.scores[k](x, given, t), ours.published_score(k, x, t, given), atol=1e-4)


@pytest.mark.parametrize("available", [("text", "audio"), ("vision",)])
def test_the_published_sampler_is_ours_step_by_step(pair, available):
    ours, theirs = pair
    generator = torch.Generator().manual_seed(4)
    latents = {k: torch.randn(3, 32, 48, generator=generator) for k in MODALITIES}
    seeds = [5, 6, 7]
    there = torch.tensor([k in available for k in MODALITIES]).expand(3, -1)
    recovered = ours.recover(latents, there, valid=torch.ones(3, 48, dtype=torch.bool), seeds=seeds, steps=12)
    condition = theirs.condition({k: latents[k] for k in available})
    for k in missing(available):
        noises = [Noise([noise_seed(s, k, *more) for s in seeds], 32, 48) for more in ((), ("condition",))]
        x = theirs.sample(k, condition, 12, noise=noises[0], condition_noise=noises[1])
        assert (x - recovered[k]).abs().max() <= 1e-4 * max(1.0, float(x.abs().max()))


def test_the_published_prediction_and_loss_are_ours(pair, features):
    ours, theirs = pair
    with torch.no_grad():
        latents = ours.encode(features)
        assert torch.allclose(theirs.predict(latents)[:, 0], ours.predict(latents), atol=1e-5)
    generator = torch.Generator().manual_seed(8)
    latents = {k: torch.randn(3, 32, 48, generator=generator) for k in MODALITIES}
    there = torch.tensor([[True, True, False]]).expand(3, -1)
    valid = torch.ones(3, 48, dtype=torch.bool)
    with torch.no_grad():
        loss = ours.score_loss("vision", latents, there, valid, torch.Generator().manual_seed(9))
        drawn = torch.Generator().manual_seed(9)  # in the order of IMDer: condition dropout, time, noise
        torch.rand(3, generator=drawn)
        t = torch.rand(3, generator=drawn)
        z = torch.randn(latents["vision"].shape, generator=drawn)
        condition = theirs.condition({k: latents[k] for k in ("text", "audio")})
        published = theirs.score_loss("vision", latents["vision"], condition, 1e-5 + (1 - 1e-5) * t, z)
    assert published / (32 * 48) == pytest.approx(float(loss.mean()), rel=1e-4)


@pytest.mark.parametrize("absent", [(), ("vision",), ("audio", "vision")])
def test_a_published_training_step_reaches_what_it_trains(pair, features, absent):
    theirs = timing.published().Published(pair[0]).requires_grad_(True)
    before = {name: p.detach().clone() for name, p in theirs.named_parameters()}
    label = torch.tensor([0.5, -1.0, 2.0])
    torch.manual_seed(0)
    short = {k: x[:, :10] for k, x in features.items()}  # 8 latent frames
    loss = theirs.training_step(theirs.optimiser(), short, label, absent, run=2)
    assert math.isfinite(loss)
    moved = {
        name.split(".")[0] + "." + name.split(".")[1]
        for name, p in theirs.named_parameters()
        if (p != before[name]).any()
    }
    for k in MODALITIES:
        assert (f"scores.{k}" in moved) == (f"reconstructors.{k}" in moved) == (k in absent)
        assert f"encoders.{k}" in moved


def test_only_official_weights_fit():
    with pytest.raises(ValueError, match="'corrected' is not allowed"):
        timing.published().Published(IMDer(ModelConfig.from_preset("corrected", DIMS)))


def test_without_a_checkout_the_error_names_the_file(tmp_path):
    with pytest.raises(ValueError, match=r"published\.py is not a file; this benchmark needs a checkout"):
        timing.published(tmp_path / "published.py")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The rows of both quick forms, through the command line."""
    found, folder = {}, tmp_path_factory.mktemp("bench")
    for name in ("sampler", "training"):
        path = folder / f"{name}.jsonl"
        assert main(["bench", name, "--quick", "--json", "--out", str(path)]) == 0
        found[name] = read_rows(path)
    return found


def test_rows_are_flat_and_their_values_positive_numbers(rows):
    for bench, own in rows.items():
        names = [row["name"] for row in own]
        assert len(set(names)) == len(names)
        for row in own:
            assert row["bench"] == bench
            assert json.loads(json.dumps(row, allow_nan=False)) == row
            assert not any(isinstance(value, dict | list) for value in row.values())
            assert row["value"] > 0


def test_the_promised_rows_are_there(rows):
    by = {row["name"]: row for row in rows["sampler"]}
    assert set(sampler.AIMS) <= set(by)
    for name, aim in sampler.AIMS.items():
        assert by[name]["aim"] == aim
        assert 0 < by[name]["steps_timed"] < by[name]["linearity_steps"] <= 500
        assert by[name]["linearity"] > 0
    assert by["ratio_equal_quality_batch1"]["steps"] <= 10
    assert {"recovery_ms_batch8", "recovery_ms_frames48", "recovery_ms_steps10"} <= set(by)
    assert {f"ratio_{how}{n}_missing" for how in ("", "all_") for n in ("one", "two")} <= {
        row["name"] for row in rows["training"]
    }


def test_tables_and_figures_show_the_rows(rows):
    for bench, own in ((sampler, rows["sampler"]), (training, rows["training"])):
        assert len(bench.table(own).splitlines()) > 4
    shown = ratios(rows["sampler"])
    assert sorted(x for trace in shown.data[::2] for x in trace.x) == sorted(
        row["value"] for row in rows["sampler"] if row["name"].startswith("ratio_")
    )
    assert [len(trace.x) for trace in costs(rows["sampler"]).data] == [2, 2, 2]
