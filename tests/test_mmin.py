"""MMIN: its parts against loops, what is learnt from what, and what is never read."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from imder.baselines.mmin import KERNELS, MMIN, WEIGHTS, MMINConfig, TextCNN
from imder.baselines.recognizer import probe
from imder.data.clip import Batch, Clip, collate
from imder.modality import MODALITIES

DIMS = {"text": 5, "audio": 4, "vision": 3}
SMALL = {"hidden": 8, "blocks": 3, "wide": 12, "middle": 8, "code": 4}
FRAMES = (3, 9, 4, 6)
AVAILABLE = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 1, 1], [1, 0, 1]]).bool()


def model_of(**sizes) -> MMIN:
    torch.manual_seed(0)
    return MMIN(MMINConfig(DIMS, **(SMALL | sizes))).eval()


def batch_of(frames=FRAMES, seed=0) -> Batch:
    """A trait a clip, which is its label, in every feature under noise."""
    rng = np.random.default_rng(seed)
    clips = []
    for i, length in enumerate(frames):
        trait = rng.normal()
        features = {k: (trait + 0.3 * rng.normal(size=(length, w))).astype(np.float32) for k, w in DIMS.items()}
        clips.append(Clip(f"v{i}$_$0", f"v{i}", 0, "", features, float(trait)))
    return collate(clips)


def rows_of(batch: Batch, rows: slice, frames: int) -> Batch:
    """Some rows, cut to that many frames."""
    features = {k: x[rows, :frames] for k, x in batch.features.items()}
    named = (batch.ids[rows], batch.videos[rows], batch.places[rows])
    return Batch(features, batch.valid[rows, :frames], batch.label[rows], *named)


def differentiable(batch: Batch) -> Batch:
    """The same batch, its features leaves that want a gradient."""
    return replace(batch, features={k: x.clone().requires_grad_() for k, x in batch.features.items()})


def learning(model) -> set[str]:
    """The parts, by the first two steps of their names, of which a parameter got a gradient."""
    names = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    return {".".join(name.split(".")[:2]) for name in names}


def test_cascade_is_the_written_loop():
    cascade = model_of().student.imagine
    x = torch.randn(5, 24)
    out, sums, codes = None, torch.zeros_like(x), []
    for i in range(SMALL["blocks"]):
        e, d = cascade.encoders[i], cascade.decoders[i]
        h = x + sums
        h = F.leaky_relu(h @ e[0].weight.T + e[0].bias)
        h = F.leaky_relu(h @ e[2].weight.T + e[2].bias)
        h = h @ e[4].weight.T + e[4].bias
        codes.append(h)
        h = F.relu(h @ d[0].weight.T + d[0].bias)
        h = F.relu(h @ d[2].weight.T + d[2].bias)
        out = h @ d[4].weight.T + d[4].bias
        sums = sums + out
    got, joined = cascade(x)
    torch.testing.assert_close(got, x + sums, rtol=0, atol=1e-5)
    torch.testing.assert_close(joined, torch.cat(codes, dim=1), rtol=0, atol=1e-5)
    assert joined.shape == (5, SMALL["blocks"] * SMALL["code"])


def test_sizes_are_those_of_the_description():
    model = MMIN(MMINConfig(DIMS))
    widths = [(m.in_features, m.out_features) for m in model.student.imagine.encoders[0] if hasattr(m, "in_features")]
    assert widths == [(384, 256), (256, 128), (128, 64)]
    assert len(model.student.back.decoders) == 5
    assert [model.student.readout[i].in_features for i in (0, 3, 6)] == [320, 128, 128]
    assert [model.teacher.readout[i].in_features for i in (0, 3, 6)] == [384, 128, 128]
    assert {name.split(".")[0] for name in model.state_dict()} == {"teacher", "student"}


@pytest.mark.parametrize("frames", [3, 4, 5, 8])
def test_text_cnn_is_the_greatest_over_windows(frames):
    torch.manual_seed(1)
    cnn = TextCNN(5, MMINConfig(DIMS, **SMALL)).eval()
    x = torch.randn(1, frames, 5)
    parts = []
    for kernel, convolution in zip(KERNELS, cnn.convolutions, strict=True):
        wide = torch.cat([x[0], torch.zeros(kernel - 1, 5)])
        windows = [
            (convolution.weight * wide[i : i + kernel].T).sum(dim=(1, 2)) + convolution.bias for i in range(frames)
        ]
        parts.append(torch.stack(windows).relu().amax(dim=0))
    want = cnn.out(torch.cat(parts))
    torch.testing.assert_close(cnn(x, torch.ones(1, frames, dtype=torch.bool))[0], want, rtol=0, atol=1e-5)


@torch.no_grad()
def test_losses_are_those_written_down():
    model, batch = model_of(), batch_of()
    got, found = model.losses(batch, AVAILABLE), model(batch, AVAILABLE)
    assert set(got) == set(WEIGHTS) == {"task", "imagination", "cycle"}
    for i, length in enumerate(FRAMES):
        here = rows_of(batch, slice(i, i + 1), length)
        want = []
        for j, k in enumerate(MODALITIES):
            if not AVAILABLE[i, j]:
                truth = model.teacher.encoders[k](here.features[k], here.valid)[0]
                want.append((truth - found.imagined[k][i]).square().mean())
        assert float(got["imagination"][i]) == pytest.approx(float(sum(want)) / max(len(want), 1), abs=1e-6)
        zeroed = {k: x * AVAILABLE[i, j] for j, (k, x) in enumerate(here.features.items())}
        seen = model.student.encoders(zeroed, here.valid)
        back, _ = model.student.back(model.student.imagine(seen)[0])
        assert float(got["cycle"][i]) == pytest.approx(float((back - seen).square().mean()), abs=1e-6)
        assert float(got["task"][i]) == pytest.approx(abs(float(found.value[i, 0] - batch.label[i])), abs=1e-6)
    assert got["imagination"][2] == 0  # nothing is missing there


def test_each_loss_teaches_its_parts():
    everything = {"student.encoders", "student.imagine", "student.back", "student.readout"}
    parts = {
        "task": everything - {"student.back"},
        "imagination": {"student.encoders", "student.imagine"},
        "cycle": everything - {"student.readout"},
    }
    for name, expected in parts.items():
        model, batch = model_of(), batch_of()
        model.losses(batch, AVAILABLE)[name].sum().backward()
        assert learning(model) == expected
        assert all(p.grad is None for p in model.teacher.parameters())
    model = model_of()
    model.teacher_losses(batch_of())["task"].sum().backward()
    assert learning(model) == {"teacher.encoders", "teacher.readout"}
    assert all(p.grad is None for p in model.student.parameters())


def test_targets_carry_no_gradient():
    model, batch = model_of(), differentiable(batch_of())
    model.losses(batch, AVAILABLE)["imagination"].sum().backward()
    for i, k in enumerate(MODALITIES):
        missing = ~AVAILABLE[:, i]
        assert not batch.features[k].grad[missing].any()

    seen = model.student.encoders({k: torch.zeros(4, 9, w) for k, w in DIMS.items()}, batch.valid).detach()
    empty = replace(batch, features={k: torch.zeros(4, 9, w) for k, w in DIMS.items()})
    got = torch.autograd.grad(
        model.losses(empty, AVAILABLE)["cycle"].sum(), list(model.student.encoders.parameters()), allow_unused=True
    )
    again = model.student.encoders(empty.features, batch.valid)
    back, _ = model.student.back(model.student.imagine(again)[0])
    want = torch.autograd.grad(  # as if the target were a constant
        (back - seen).square().mean(dim=1).sum(), list(model.student.encoders.parameters()), allow_unused=True
    )
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_targets_do_not_depend_on_dropout():
    model, batch = model_of().train(), batch_of()
    model.student.eval()
    first, second = (model.losses(batch, AVAILABLE)["imagination"] for _ in range(2))
    assert torch.equal(first, second)
    assert model.teacher.training
    model.student.train()
    first, second = (model.losses(batch, AVAILABLE)["task"] for _ in range(2))
    assert not torch.equal(first, second)  # the student's is on


def test_what_is_missing_has_no_gradient():
    model, batch = model_of(), differentiable(batch_of())
    model(batch, AVAILABLE).value.sum().backward()
    for i, k in enumerate(MODALITIES):
        assert not batch.features[k].grad[~AVAILABLE[:, i]].any()
        reached = batch.features[k].grad.abs().sum(dim=(1, 2)) > 0
        assert torch.equal(reached, AVAILABLE[:, i])
        assert not batch.features[k].grad[~batch.valid].any()


@pytest.mark.parametrize("rubbish", [7.0, math.nan])
def test_what_is_missing_and_padding_are_never_read(rubbish):
    model, batch = model_of(), batch_of()
    first, losses = model(batch, AVAILABLE), model.losses(batch, AVAILABLE)
    hidden = {
        k: torch.where(AVAILABLE[:, i, None, None] & batch.valid[..., None], x, rubbish)
        for i, (k, x) in enumerate(batch.features.items())
    }
    second = model(replace(batch, features=hidden), AVAILABLE)
    assert torch.equal(first.value, second.value)
    for k in MODALITIES:
        assert torch.equal(first.imagined[k], second.imagined[k])
    padded = {k: x.masked_fill(~batch.valid[..., None], rubbish) for k, x in batch.features.items()}
    for name, value in model.losses(replace(batch, features=padded), AVAILABLE).items():
        assert torch.equal(value, losses[name])


def test_a_clip_is_predicted_alike_alone_and_beside_longer_ones():
    model, batch = model_of(), batch_of()
    together, losses = model(batch, AVAILABLE), model.losses(batch, AVAILABLE)
    assert together.value.shape == (4, 1)
    for i, length in enumerate(FRAMES):
        row = slice(i, i + 1)
        here = rows_of(batch, row, length)
        alone = model(here, AVAILABLE[row])
        torch.testing.assert_close(alone.value, together.value[row], rtol=0, atol=1e-5)
        for k in MODALITIES:
            torch.testing.assert_close(alone.imagined[k], together.imagined[k][row], rtol=0, atol=1e-5)
        for name, value in model.losses(here, AVAILABLE[row]).items():
            torch.testing.assert_close(value, losses[name][row], rtol=0, atol=1e-5)


def test_only_the_student_predicts():
    model, batch = model_of(), batch_of()
    before = model(batch, AVAILABLE).value
    for p in model.teacher.parameters():
        torch.nn.init.normal_(p)
    for p in model.student.back.parameters():
        torch.nn.init.normal_(p)
    assert torch.equal(model(batch, AVAILABLE).value, before)


def test_the_student_starts_from_a_copy():
    model, batch = model_of(), batch_of()
    model.start_student()
    mine, theirs = model.student.encoders, model.teacher.encoders
    assert torch.equal(mine(batch.features, batch.valid), theirs(batch.features, batch.valid))
    with torch.no_grad():
        for p in mine.parameters():
            p.add_(1)
    assert not torch.equal(mine(batch.features, batch.valid), theirs(batch.features, batch.valid))


def test_learning():
    model, batch = model_of(hidden=16, dropout=0.0), batch_of([6, 8, 5, 7] * 4)
    available = AVAILABLE.repeat(4, 1)

    def step(losses, optimiser) -> float:
        total = sum(WEIGHTS[name] * x.mean() for name, x in losses.items())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        return total.item()

    optimiser = torch.optim.Adam(model.teacher.parameters(), lr=5e-3)
    course = [step(model.teacher_losses(batch), optimiser) for _ in range(40)]
    assert course[-1] < 0.5 * course[0]
    model.start_student()
    taught = {name: p.clone() for name, p in model.teacher.state_dict().items()}
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)  # even then the teacher stays
    course = [step(model.losses(batch, available), optimiser) for _ in range(40)]
    assert course[-1] < 0.5 * course[0]
    assert all(torch.equal(p, taught[name]) for name, p in model.teacher.state_dict().items())


def test_probe_and_json():
    config = MMINConfig(DIMS, **SMALL, dropout=0, outputs=2)
    again = MMINConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert again == config
    torch.manual_seed(0)
    model = MMIN(again)
    numbers = probe(model)
    assert all(map(math.isfinite, numbers))
    other = MMIN(again)
    other.load_state_dict(model.state_dict())
    assert probe(other) == numbers
    assert model(batch_of(), AVAILABLE).value.shape == (4, 2)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("hidden", 0, "a whole number from 1 to 4096"),
        ("blocks", 2.0, "a whole number from 1 to 64"),
        ("code", True, "a whole number from 1 to 4096"),
        ("dropout", 1, "a number from 0 to 0.9"),
        ("dropout", math.nan, "a number from 0 to 0.9"),
        ("outputs", 0, "a whole number from 1 to 4096"),
    ],
)
def test_sizes_that_are_refused(name, value, allowed):
    with pytest.raises(ValueError, match=f"{name}: {value!r} is not allowed; {allowed}"):
        MMINConfig(DIMS, **{name: value})
