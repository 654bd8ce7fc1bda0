"""The model: sizes, presets, independence of the batch, what is never read, and a Gaussian oracle for the skip."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from imder.modality import MODALITIES
from imder.model import PRESETS, IMDer, ModelConfig
from imder.model.linear import MOST_MADE, LinearGaussian
from imder.samplers import noise_seed

DIMS = {"text": 7, "audio": 5, "vision": 6}
SMALL = {
    "latent_channels": 8,
    "channels": (8, 16, 16, 16),
    "heads": 4,
    "embedding_dim": 16,
    "fusion_layers": 1,
    "reconstruction_channels": 16,
    "reconstruction_blocks": 2,
    "frames": 16,
}


def small(preset="corrected", *, awake=True, **overrides) -> IMDer:
    """A tiny model; `awake` moves its last level away from the zero at which a preconditioned one begins."""
    torch.manual_seed(0)
    model = IMDer(ModelConfig.from_preset(preset, DIMS, **(SMALL | overrides))).eval()
    if awake:
        for network in model.scores.values():
            for p in network.up[-1].parameters():
                torch.nn.init.normal_(p, std=0.3)
    return model


def latents_of(rows=4, frames=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {k: torch.randn(rows, 8, frames, generator=generator) for k in MODALITIES}


def everything(rows=4, frames=16):
    return torch.ones(rows, frames, dtype=torch.bool)


def test_sizes_are_the_supplements():
    model = IMDer(ModelConfig.from_preset("official", {"text": 768, "audio": 5, "vision": 20}))

    def millions(module):
        return sum(p.numel() for p in module.parameters()) / 1e6

    readouts = millions(model.readouts)  # ours, not the paper's
    assert millions(model) - readouts == pytest.approx(13.00, abs=0.01)
    assert millions(model.scores["text"]) == pytest.approx(3.46, abs=0.005)
    assert millions(model.reconstructors["text"]) == pytest.approx(0.52, abs=0.005)
    assert millions(model.fusion) == pytest.approx(0.98, abs=0.005)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_row_is_recovered_alike_alone_and_in_a_batch(preset):
    model, z, valid = small(preset), latents_of(), everything()
    available = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 1, 0], [1, 0, 0]]).bool()
    seeds = [noise_seed(1, i) for i in range(4)]
    together = model.recover(z, available, valid=valid, seeds=seeds, steps=5)
    for i in range(4):
        row = slice(i, i + 1)
        alone = model.recover(
            {k: v[row] for k, v in z.items()}, available[row], valid=valid[row], seeds=[seeds[i]], steps=5
        )
        for k in MODALITIES:
            size = together[k].abs().max().item()  # an untrained network as published leaves large states
            torch.testing.assert_close(alone[k], together[k][row], rtol=1e-4, atol=1e-4 * size)


def test_what_is_missing_is_never_read():
    model, z, valid = small(), latents_of(), everything()
    available = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 1]]).bool()
    other = {k: torch.where(available[:, i, None, None], v, math.nan) for i, (k, v) in enumerate(z.items())}
    first = model.recover(z, available, valid=valid, seeds=range(4), steps=4)
    second = model.recover(other, available, valid=valid, seeds=range(4), steps=4)
    mean = model.conditional_mean(other, available, valid)
    for i, k in enumerate(MODALITIES):
        assert torch.equal(first[k], second[k])
        assert torch.isfinite(mean[k]).all()
        assert torch.equal(first[k][available[:, i]], z[k][available[:, i]])


def test_padding_changes_nothing():
    """A clip of 11 frames, alone or padded to 16 beside a longer one with rubbish in the padding."""
    model = small()
    short, long = latents_of(1, 11), latents_of(1, 16, seed=1)
    valid = torch.zeros(2, 16, dtype=torch.bool)
    valid[0, :11] = valid[1] = True
    both = {k: torch.cat([torch.nn.functional.pad(short[k], (0, 5), value=9.0), long[k]]) for k in MODALITIES}
    mask = torch.tensor([[True, False, False]])
    alone = model.recover(short, mask, valid=everything(1, 11), seeds=[4], steps=5)
    beside = model.recover(both, mask.expand(2, -1), valid=valid, seeds=[4, 5], steps=5)
    for k in MODALITIES:
        torch.testing.assert_close(alone[k][0], beside[k][0, :, :11], rtol=1e-4, atol=1e-4)
    refined = model.reconstruct("audio", both["audio"] * valid[:, None], valid)[0, :, :11]
    torch.testing.assert_close(model.reconstruct("audio", short["audio"])[0], refined, rtol=1e-4, atol=1e-5)
    predicted = model.predict(short, everything(1, 11))
    torch.testing.assert_close(predicted[0], model.predict(both, valid)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 13, 16, 40])
def test_any_length_is_recovered(frames):
    model = small()
    out = model.recover(
        latents_of(2, frames),
        torch.tensor([[False, True, False]] * 2),
        valid=everything(2, frames),
        seeds=[0, 1],
        steps=3,
    )
    assert all(z.shape == (2, 8, frames) and torch.isfinite(z).all() for z in out.values())


def test_without_guidance_the_condition_is_not_seen():
    model, valid = small(), everything()
    seeds = [5] * 4
    mask = torch.tensor([[True, False, True]]).expand(4, -1)
    free = model.recover(latents_of(), mask, valid=valid, seeds=seeds, steps=4, guidance=0.0)
    torch.testing.assert_close(free["audio"][0], free["audio"][3])
    seen = model.recover(latents_of(), mask, valid=valid, seeds=seeds, steps=4)
    assert not torch.allclose(seen["audio"][0], seen["audio"][3], atol=1e-3)
    nearly = model.recover(latents_of(), mask, valid=valid, seeds=seeds, steps=4, guidance=1 + 1e-6)
    torch.testing.assert_close(nearly["audio"], seen["audio"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("guidance", [math.nan, -1, 9, "much", None])
def test_guidance_out_of_range_is_refused(guidance):
    with pytest.raises(ValueError, match="guidance"):
        small().recover(
            latents_of(), torch.tensor([[True, False, True]] * 4), valid=everything(), seeds=range(4), guidance=guidance
        )


def correlated(rows, generator, rho=0.8, frames=16):
    """Frames independent in time; audio = rho text + rest, vision independent of both."""
    text, rest, vision = (torch.randn(rows, 8, frames, generator=generator) for _ in range(3))
    return {"text": text, "audio": rho * text + math.sqrt(1 - rho**2) * rest, "vision": vision}


def test_the_untrained_model_draws_from_the_exact_conditional_of_a_gaussian():
    """The network begins at zero, so what is tested is the linear-Gaussian skip and the sampler."""
    model, generator = small(awake=False), torch.Generator().manual_seed(0)
    model.fit_linear(correlated(20000, generator), everything(20000))
    z, rows = correlated(400, generator), 400
    mask = torch.tensor([[True, False, False]]).expand(rows, -1)
    drawn = model.recover(z, mask, valid=everything(rows), seeds=range(rows), sampler="heun", steps=40)["audio"]
    residual = drawn - 0.8 * z["text"]
    assert residual.mean().item() == pytest.approx(0, abs=0.02)
    assert residual.std().item() == pytest.approx(0.6, abs=0.03)
    corr = torch.corrcoef(torch.stack([drawn.flatten(), z["text"].flatten()]))[0, 1].item()
    assert corr == pytest.approx(0.8, abs=0.03)
    mean = model.conditional_mean(z, mask, everything(rows))["audio"]
    assert ((mean - 0.8 * z["text"]) ** 2).mean().item() < 0.02


def test_the_linear_loss_is_one_for_gaussian_data_and_the_network_starts_at_it():
    model, generator = small(awake=False), torch.Generator().manual_seed(0)
    z = correlated(4000, generator)
    model.fit_linear(z, everything(4000))
    mask = torch.ones(4000, 3, dtype=torch.bool)
    loss = model.linear_loss("audio", z, mask, everything(4000), torch.Generator().manual_seed(1))
    assert loss.mean().item() == pytest.approx(1.0, abs=0.03)
    start = model.score_loss("audio", z, mask, everything(4000), torch.Generator().manual_seed(1))
    torch.testing.assert_close(start, loss)


@pytest.mark.parametrize("preset", PRESETS)
def test_score_loss_reaches_every_parameter_of_its_network_and_no_other(preset):
    model = small(preset, condition_dropout=0.0).train()
    mask = torch.tensor([[1, 0, 0], [0, 0, 1], [1, 0, 1], [1, 0, 1]]).bool()
    model.score_loss("audio", latents_of(), mask, everything(), torch.Generator().manual_seed(0)).mean().backward()
    mine = {id(p) for p in model.score_modules("audio").parameters()}
    for name, p in model.named_parameters():
        assert (p.grad is not None) == (id(p) in mine), name


def test_the_condition_is_fused_by_what_each_row_has():
    model, z = small(condition_scale=1.0), latents_of(4)
    mask = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    condition, present = model.condition("vision", z, mask)
    assert present.tolist() == [True, True, True, False]
    torch.testing.assert_close(condition[0], z["text"][0])
    torch.testing.assert_close(condition[1], z["audio"][1])
    torch.testing.assert_close(condition[2], model.pairs["text_audio"](torch.cat([z["text"], z["audio"]], 1))[2])


@pytest.mark.parametrize("preset", PRESETS)
def test_configuration_survives_json(preset):
    config = ModelConfig.from_preset(preset, DIMS)
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("preset", "best", "'best' is unknown"),
        ("heads", 0, "heads: 0"),
        ("latent_channels", 10**6, "1000000"),
        ("latent_scale", math.nan, "latent_scale: nan"),
        ("dropout", 1.0, "dropout: 1.0"),
        ("channels", [32, 64], "list of 4"),
        ("feature_dims", {"text": 3}, "must name"),
        ("sampler", "ddim", "'ddim' is unknown"),
        ("masks", "yes", "masks: 'yes'"),
        ("heads", "8", "heads: '8'"),
    ],
)
def test_configuration_refuses_by_name_and_value(field, value, said):
    data = ModelConfig.from_preset("corrected", DIMS).to_json() | {field: value}
    with pytest.raises(ValueError, match=said):
        ModelConfig.from_json(data)


def test_configuration_refuses_unknown_and_absent_fields():
    data = ModelConfig.from_preset("corrected", DIMS).to_json()
    with pytest.raises(ValueError, match="unknown fields: colour"):
        ModelConfig.from_json(data | {"colour": 1})
    data.pop("heads")
    with pytest.raises(ValueError, match="lacks: heads"):
        ModelConfig.from_json(data)


def test_features_of_another_width_name_both():
    with pytest.raises(ValueError, match=r"text features have shape \(1, 10, 9\); expected .* 7\)"):
        small().encode({"text": torch.zeros(1, 10, 9)})


def test_readout_undoes_the_standardisation():
    model = small()
    raw = torch.randn(1, 8, 16)
    plain = model.read("audio", raw)
    mean, std = torch.randn(8), torch.rand(8) + 0.5
    model.set_latent_statistics(dict.fromkeys(MODALITIES, (mean, std)))
    torch.testing.assert_close(model.read("audio", (raw - mean[:, None]) / std[:, None]), plain, rtol=1e-4, atol=1e-5)
    assert dataclasses.replace(model.config) == model.config


def test_what_is_derived_from_the_covariance_is_bounded():
    linear = LinearGaussian(4, 8)
    first = linear.given("text", ("audio",), 8)
    for frames in range(9, 9 + 2 * MOST_MADE):
        linear.given("text", ("audio",), frames)
    assert len(linear._made) == MOST_MADE
    again = linear.given("text", ("audio",), 8)
    assert torch.equal(first.variances, again.variances)
