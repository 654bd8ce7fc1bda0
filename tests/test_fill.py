"""The fills, on latents whose best predictor is known."""

from __future__ import annotations

import pytest
import torch

from imder.baselines.fill import Encoded, MeanFill, NeighbourFill, RidgeFill, Scale, ZeroFill
from imder.modality import MODALITIES, PATTERNS, missing

D, L = 4, 10
NOISE = 0.6  # of what is seen around the shared signal


def clips(count: int, seed: int, frames: int = L, padded: bool = False) -> Encoded:
    """A trait a clip and a signal in time, shared by all three; audio hears it one frame late; own noise, own scale."""
    g = torch.Generator().manual_seed(seed)
    trait = torch.randn(count, D, 1, generator=g)
    signal = torch.randn(count, D, frames + 1, generator=g)
    shared = {"text": signal[..., 1:], "audio": signal[..., :-1], "vision": signal[..., 1:]}
    latents = {k: 3 * (trait + shared[k] + NOISE * torch.randn(count, D, frames, generator=g)) + 5 for k in MODALITIES}
    valid = torch.ones(count, frames, dtype=torch.bool)
    if padded:
        valid[::2, frames - 3 :] = False
    return Encoded(
        {k: z * valid[:, None] for k, z in latents.items()},
        valid,
        torch.zeros(count),
        tuple(f"clip{seed}-{i}" for i in range(count)),
    )


@pytest.fixture(scope="module")
def splits():
    return clips(400, 0, padded=True), clips(100, 1, padded=True), clips(100, 2, padded=True)


def error(filled: dict, test: Encoded, k: str) -> float:
    """Squared error in units of the variance, over valid frames."""
    scale = Scale.fit(test)
    squared = ((filled[k] - test.latents[k]) / scale.std[k][:, None]).square().mean(1)
    return float(((squared * test.valid).sum(1) / test.valid.sum(1)).mean())


@pytest.mark.parametrize("pattern", PATTERNS[:-1], ids="-".join)
def test_order_of_the_fills(splits, pattern):
    train, tune, test = splits
    for k in missing(pattern):
        found = {
            name: error(fill(test.latents, pattern, test.valid), test, k)
            for name, fill in (
                ("mean", MeanFill(train)),
                ("knn", NeighbourFill(train, tune)),
                ("ridge", RidgeFill(train, tune)),
            )
        }
        assert found["mean"] == pytest.approx(1, abs=0.06)
        assert found["ridge"] < found["knn"] < 0.97
        # trait, signal and noise are independent: what is left even if the shared part were known
        assert found["ridge"] > 0.9 * NOISE**2 / (2 + NOISE**2)


def test_ridge_uses_the_frames_around(splits):
    train, tune, test = splits
    ridge = RidgeFill(train, tune)
    got = error(ridge(test.latents, ("text",), test.valid), test, "audio")
    assert ridge._weights["audio", ("text",)][0] > 0  # audio is a frame late
    # trait and signal are seen through noise; frame by frame at lag 0 only the trait could be read
    assert got < 0.5


def test_mean_fill_is_one_on_the_training_split(splits):
    train = splits[0]
    for k in MODALITIES:
        others = tuple(o for o in MODALITIES if o != k)
        scale = Scale.fit(train)
        z = MeanFill(train)(train.latents, others, train.valid)[k]
        squared = ((z - train.latents[k]) / scale.std[k][:, None]).square().mean(1)
        assert float(squared[train.valid].mean()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("make", [NeighbourFill, RidgeFill, lambda train, tune: MeanFill(train)])
def test_shapes_padding_and_hidden_truth(splits, make):
    train, tune, _ = splits
    test = clips(6, 3, frames=14)
    valid = test.valid.clone()
    valid[1, 7:] = False
    fill = make(train, tune)
    got = fill(test.latents, ("vision",), valid)
    assert set(got) == {"text", "audio"}
    for z in got.values():
        assert z.shape == (6, D, 14)
        assert not z[1, :, 7:].any()
        assert torch.isfinite(z).all()
    hidden = {k: z if k == "vision" else torch.full_like(z, torch.nan) for k, z in test.latents.items()}
    again = fill(hidden, ("vision",), valid)  # what is missing is never read
    spoilt = {k: z.clone() for k, z in test.latents.items()}
    spoilt["vision"][1, :, 7:] = 1e3  # nor is padding
    cut = fill({k: z[1:2, :, :7] for k, z in test.latents.items()}, ("vision",), valid[1:2, :7])
    padded = fill(spoilt, ("vision",), valid)
    for k, z in got.items():
        assert torch.equal(z, again[k])
        assert torch.allclose(z, padded[k], atol=1e-5)
        assert torch.allclose(z[1:2, :, :7], cut[k], atol=1e-4)  # alone or in a batch


def test_zero_fill_is_what_the_encoder_makes_of_zeros():
    seen = {}

    def encode(features):
        seen.update({k: x.shape for k, x in features.items()})
        return {k: torch.full((1, D, x.shape[1] - 2), 2.0) + x.sum() for k, x in features.items()}

    fill = ZeroFill(encode, {"text": 5, "audio": 3, "vision": 7})
    valid = torch.ones(2, L, dtype=torch.bool)
    valid[1, 4:] = False
    got = fill({}, ("audio",), valid)
    assert seen["vision"] == (1, L + 2, 7)
    assert set(got) == {"text", "vision"}
    assert (got["text"][0] == 2).all()
    assert not got["text"][1, :, 4:].any()


def test_absent_modality_is_named(splits):
    with pytest.raises(ValueError, match="'audio' are absent"):
        RidgeFill(*splits[:2])({"text": splits[2].latents["text"]}, ("audio",), splits[2].valid)
