"""GCNet: convolutions against loops, how far a clip sees, and that videos keep to themselves."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from imder.baselines.gcnet import (
    WEIGHTS,
    GCNet,
    GCNetConfig,
    GraphConvolution,
    RelationalConvolution,
    edges,
    seats,
)
from imder.baselines.recognizer import probe
from imder.data.clip import Batch, Clip, collate
from imder.modality import MODALITIES

DIMS = {"text": 5, "audio": 4, "vision": 3}
#: Video, place and frames: two videos mixed up, the places of one with a gap, and a video of one clip.
ROWS = (("b", 4, 6), ("a", 2, 4), ("b", 0, 3), ("c", 7, 5), ("a", 0, 8), ("a", 1, 3), ("b", 1, 7), ("a", 3, 4))


def model_of(**sizes) -> GCNet:
    torch.manual_seed(0)
    return GCNet(GCNetConfig(DIMS, **({"hidden": 6} | sizes))).eval()


def batch_of(rows=ROWS, seed=0) -> Batch:
    """A trait a clip, which is its label, in every feature under noise."""
    rng = np.random.default_rng(seed)
    clips = []
    for video, place, length in rows:
        trait = rng.normal()
        features = {k: (trait + 0.3 * rng.normal(size=(length, w))).astype(np.float32) for k, w in DIMS.items()}
        clips.append(Clip(f"{video}$_${place}", video, place, "", features, float(trait)))
    return collate(clips)


def masks_of(count: int, seed=0) -> torch.Tensor:
    """(count, 3) bool; the first row misses two, the last nothing."""
    mask = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) > 0.5
    mask[~mask.any(dim=1), 1] = True
    mask[0], mask[-1] = torch.tensor([False, True, False]), True
    return mask


def rows_of(batch: Batch, rows: list[int]) -> Batch:
    """Some rows in that order, cut to the longest of them."""
    valid = batch.valid[rows]
    frames = int(valid.sum(dim=1).max())
    named = [tuple(column[i] for i in rows) for column in (batch.ids, batch.videos, batch.places)]
    features = {k: x[rows, :frames] for k, x in batch.features.items()}
    return Batch(features, valid[:, :frames], batch.label[rows], *named)


def close(got, want) -> None:
    torch.testing.assert_close(got.value, want.value, rtol=0, atol=1e-5)
    for k in MODALITIES:
        torch.testing.assert_close(got.imagined[k], want.imagined[k], rtol=0, atol=1e-5)


def part(prediction, rows: list[int]):
    return replace(
        prediction, value=prediction.value[rows], imagined={k: x[rows] for k, x in prediction.imagined.items()}
    )


def five() -> tuple[torch.Tensor, torch.Tensor]:
    """Five nodes in a row of six seats."""
    torch.manual_seed(2)
    there = torch.ones(1, 6, dtype=torch.bool)
    there[0, 5] = False
    return torch.randn(1, 6, 7), there


@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize("branch", ["temporal", "speaker"])
def test_relational_convolution_is_the_written_sum(window, branch):
    x, there = five()
    links = edges(there, window)[branch]
    conv = RelationalConvolution(7, 3, links.shape[1])
    weights = conv.relations.weight.view(links.shape[1], 3, 7)
    got = conv(x, links)[0]
    for i in range(5):
        want = conv.root.weight @ x[0, i] + conv.root.bias
        near = [j for j in range(5) if abs(i - j) <= window]
        groups = [near]
        if branch == "temporal":
            groups = [[j for j in near if j < i], [i], [j for j in near if j > i]]
        for w, group in zip(weights, groups, strict=True):
            for j in group:
                want = want + w @ x[0, j] / len(group)
        torch.testing.assert_close(got[i], want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", [1, 2, 4])
def test_graph_convolution_is_the_written_sum(window):
    x, there = five()
    links = edges(there, window)
    near = links["temporal"].any(dim=1)
    assert torch.equal(near, links["speaker"][:, 0])  # the branches tell the same neighbours apart differently
    conv = GraphConvolution(7, 3)
    got = conv(x, near)[0]
    for i in range(5):
        want = conv.root.weight @ x[0, i] + conv.root.bias
        for j in range(5):
            if abs(i - j) <= window:
                want = want + conv.neighbours.weight @ x[0, j]
        torch.testing.assert_close(got[i], want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["temporal", "speaker"])
def test_a_branch_joins_its_parts(name):
    _, there = five()
    x, links, branch = torch.randn(1, 6, 12), edges(there, 2), model_of().branches[name]
    near = torch.tensor([[abs(i - j) <= 2 for j in range(5)] for i in range(5)])[None]
    h = branch.graph(branch.relational(x, links[name])[:, :5], near)
    h, _ = branch.conversation.lstm(torch.cat([x[:, :5], h], dim=2))  # not packed
    want = torch.relu(h @ branch.out.weight.T + branch.out.bias)
    torch.testing.assert_close(branch(x, links[name], there)[:, :5], want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", [1, 2, 3])
def test_a_clip_sees_its_window(window):
    there = torch.ones(1, 8, dtype=torch.bool)
    links = edges(there, window)["temporal"]
    first, second = RelationalConvolution(4, 3, 3), GraphConvolution(3, 3)

    def seen(function, i) -> list[int]:
        x = torch.randn(1, 8, 4, requires_grad=True)
        function(x)[0, i].sum().backward()
        return [j for j in range(8) if x.grad[0, j].any()]

    for i in range(8):
        assert seen(lambda x: first(x, links), i) == [j for j in range(8) if abs(i - j) <= window]
        both = seen(lambda x: second(first(x, links), links.any(dim=1)), i)
        assert both == [j for j in range(8) if abs(i - j) <= 2 * window]


def test_seats_are_in_order():
    batch = batch_of()
    rows, there = seats(batch)
    found = {batch.videos[r[0]]: r[t].tolist() for r, t in zip(rows, there, strict=True)}
    assert found == {"a": [4, 5, 1, 7], "b": [2, 6, 0], "c": [3]}
    assert not edges(there, 2)["speaker"][:, 0][~there].any()
    with pytest.raises(ValueError, match="video 'a': several clips have the place 2"):
        seats(batch_of((*ROWS, ("a", 2, 5))))


def test_order_of_rows_is_the_callers():
    model, batch, available = model_of(), batch_of(), masks_of(8)
    together, losses = model(batch, available), model.losses(batch, available)
    assert together.value.shape == (8, 1)
    assert {k: x.shape for k, x in together.imagined.items()} == {k: (8, w) for k, w in DIMS.items()}
    order = [3, 7, 0, 5, 6, 1, 4, 2]
    turned = rows_of(batch, order)
    close(model(turned, available[order]), part(together, order))
    for name, value in model.losses(turned, available[order]).items():
        torch.testing.assert_close(value, losses[name][order], rtol=0, atol=1e-5)


@pytest.mark.parametrize("video", ["a", "b", "c"])
def test_other_videos_do_not_matter(video):
    model, batch, available = model_of(), batch_of(), masks_of(8)
    together = model(batch, available)
    own = [i for i, name in enumerate(batch.videos) if name == video]
    close(model(rows_of(batch, own), available[own]), part(together, own))


def test_clips_between_are_not_needed():
    """Only the order of places counts: with or without a gap the same clips are neighbours."""
    model, batch, available = model_of(), batch_of(), masks_of(8)
    shut = replace(
        batch, places=tuple(p // 2 if v == "b" else p for v, p in zip(batch.videos, batch.places, strict=True))
    )
    some = [2, 0]  # clips 0 and 4 of b, without 1
    close(model(rows_of(batch, some), available[some]), model(rows_of(shut, some), available[some]))
    single = model(rows_of(batch, [0]), available[:1])
    assert single.value.shape == (1, 1)
    assert not torch.equal(single.value[0], model(batch, available).value[0])  # it misses its neighbours


def test_gradients_stay_in_the_video_and_off_what_is_missing():
    model, batch, available = model_of(), batch_of(), masks_of(8)
    leaves = {k: x.clone().requires_grad_() for k, x in batch.features.items()}
    row = 0  # of video b, where only the voice is there
    model(replace(batch, features=leaves), available).value[row].sum().backward()
    for i, k in enumerate(MODALITIES):
        reached = leaves[k].grad.abs().sum(dim=(1, 2)) > 0
        own = torch.tensor([name == "b" for name in batch.videos])
        assert torch.equal(reached, own & available[:, i])
        assert not leaves[k].grad[~batch.valid].any()


@pytest.mark.parametrize("rubbish", [7.0, math.nan])
def test_what_is_missing_and_padding_are_never_read(rubbish):
    model, batch, available = model_of(), batch_of(), masks_of(8)
    first, losses = model(batch, available), model.losses(batch, available)
    hidden = {
        k: torch.where(available[:, i, None, None] & batch.valid[..., None], x, rubbish)
        for i, (k, x) in enumerate(batch.features.items())
    }
    second = model(replace(batch, features=hidden), available)
    assert torch.equal(first.value, second.value)
    for k in MODALITIES:
        assert torch.equal(first.imagined[k], second.imagined[k])
    padded = {k: x.masked_fill(~batch.valid[..., None], rubbish) for k, x in batch.features.items()}
    for name, value in model.losses(replace(batch, features=padded), available).items():
        assert torch.equal(value, losses[name])


@torch.no_grad()
def test_losses_are_those_written_down():
    model, batch, available = model_of(), batch_of(), masks_of(8)
    got, found = model.losses(batch, available), model(batch, available)
    assert set(got) == set(WEIGHTS) == {"task", "reconstruction"}
    for i, (_, _, length) in enumerate(ROWS):
        want = 0.0
        for j, k in enumerate(MODALITIES):
            if not available[i, j]:
                mean = batch.features[k][i, :length].mean(dim=0)
                want += float((found.imagined[k][i] - mean).square().sum()) / DIMS[k]
        assert float(got["reconstruction"][i]) == pytest.approx(want, abs=1e-5)
        assert float(got["task"][i]) == pytest.approx(abs(float(found.value[i, 0] - batch.label[i])), abs=1e-6)
    assert got["reconstruction"][-1] == 0  # nothing is missing there
    assert not model.losses(batch, batch.complete)["reconstruction"].any()


def test_each_loss_teaches_its_parts():
    shared = {"conversation", "branches"}
    for name, head in (("task", "readout"), ("reconstruction", "reconstruction")):
        model = model_of()
        model.losses(batch_of(), masks_of(8))[name].sum().backward()
        learning = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        assert learning == shared | {head}
        for branch in model.branches.values():
            assert all(p.grad.any() for p in branch.parameters())


def test_learning():
    rows = [(video, place, 4 + place % 3) for video in "abcd" for place in range(6)]
    model, batch, available = model_of(hidden=16, dropout=0.0).train(), batch_of(rows), masks_of(24)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    course = []
    for _ in range(40):
        losses = model.losses(batch, available)
        total = sum(WEIGHTS[name] * x.mean() for name, x in losses.items())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        course.append({name: x.mean().item() for name, x in losses.items()})
    assert all(course[-1][name] < 0.5 * course[0][name] for name in WEIGHTS)


def test_dropout_is_on_in_training():
    model, batch, available = model_of(), batch_of(), masks_of(8)
    assert torch.equal(model(batch, available).value, model(batch, available).value)
    model.train()
    assert not torch.equal(model(batch, available).value, model(batch, available).value)


def test_probe_and_json():
    config = GCNetConfig(DIMS, hidden=6, window=3, dropout=0, outputs=2)
    again = GCNetConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert again == config
    model, other = GCNet(again), GCNet(again)
    numbers = probe(model)
    assert all(map(math.isfinite, numbers))
    other.load_state_dict(model.state_dict())
    assert probe(other) == numbers
    assert model(batch_of(), masks_of(8)).value.shape == (8, 2)
    assert GCNet.whole_videos


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("hidden", 1, "a whole number from 2 to 4096"),
        ("hidden", 100.0, "a whole number from 2 to 4096"),
        ("window", 0, "a whole number from 1 to 64"),
        ("dropout", 0.95, "a number from 0 to 0.9"),
        ("dropout", math.nan, "a number from 0 to 0.9"),
    ],
)
def test_sizes_that_are_refused(name, value, allowed):
    with pytest.raises(ValueError, match=f"{name}: {value!r} is not allowed; {allowed}"):
        GCNetConfig(DIMS, **{name: value})
