"""Score fields: the toy against closed forms and autograd, the learned slice against the network itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde, multivariate_normal

from imder.data.clip import collate
from imder.field import (
    PAIRS,
    TOYS,
    Arrows,
    FieldEnd,
    FieldPaths,
    FieldProgress,
    FieldRequest,
    FieldStart,
    PlaneSlice,
    ToyRequest,
    draw_toy,
    grid,
    log_density,
    stream_field,
)
from imder.field.learned import LOW, ODE, SDE
from imder.field.picture import CELLS, FLOOR, REACH
from imder.field.toy import SIDE
from imder.pipeline import RecoveryPipeline
from imder.report.field import toy_findings, toy_table
from imder.samplers import SAMPLERS, log_grid, noise_seed
from imder.sde import VESDE

# --- the toy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("std", [0.01, 0.4, 9.845])
def test_the_toys_score_is_the_gradient_of_its_log_density(name, std):
    toy = TOYS[name]
    x = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).mul(3).requires_grad_()
    covariance = torch.diag(torch.tensor(toy.std, dtype=torch.float64) ** 2 + std**2)
    parts = torch.distributions.MultivariateNormal(torch.tensor(toy.means, dtype=torch.float64), covariance)
    log = torch.logsumexp(parts.log_prob(x[:, None]) + torch.tensor(toy.weights, dtype=torch.float64).log(), dim=1)
    (slope,) = torch.autograd.grad(log.sum(), x)
    found = toy.estimate(x.detach()[..., None], std)
    torch.testing.assert_close(found.score[..., 0], slope, rtol=1e-7, atol=1e-6)
    ours = log_density(x.detach().numpy(), np.array(toy.means), toy.covariance(std), np.array(toy.weights))
    np.testing.assert_allclose(ours, log.detach().numpy(), rtol=1e-9)


def test_density_is_scipys():
    rng = np.random.default_rng(0)
    points, at = rng.normal(size=(60, 2)) * [3, 1], rng.normal(size=(7, 5, 2))
    reference = gaussian_kde(points.T)
    ours = log_density(at, points, reference.covariance)
    assert ours.shape == (7, 5)
    np.testing.assert_allclose(ours.ravel(), reference.logpdf(at.reshape(-1, 2).T), rtol=1e-8)


def test_grid_is_the_middles_of_the_windows_cells():
    at = grid(np.array([1.0, -2.0]), 4.0, 4)
    np.testing.assert_allclose(at[0, :, 0], [-2, 0, 2, 4])
    np.testing.assert_allclose(at[:, 0, 1], [-5, -3, -1, 1])


def test_the_gaussians_flow_is_known_and_the_solver_comes_to_it():
    few, many = (draw_toy(ToyRequest("gaussian", "dpmpp", steps)) for steps in (10, 160))
    sde, toy = VESDE(), TOYS["gaussian"]
    mean, s = np.array(toy.means[0]), np.array(toy.std)
    end = many.picture.std[-2]
    exact = mean + (many.ode[0] - mean) * np.sqrt((s**2 + end**2) / (s**2 + sde.std(1.0) ** 2))
    np.testing.assert_allclose(many.ode[-2], exact, atol=2e-3)
    assert many.solver_error < few.solver_error / 50
    # What the prior's ignorance of the mean leaves over, 7 % of it on the first axis (architecture.md).
    bias = s / np.hypot(s, sde.std(1.0))
    assert bias[0] == pytest.approx(0.0709, abs=1e-4)
    noise = 4 * s / math.sqrt(4000)
    assert np.all(np.abs(many.mean["ode"] - mean * (1 - bias)) < noise)
    assert np.all(np.abs(many.mean["sde"] - mean) < noise)
    assert abs(many.mean["ode"][0] - mean[0]) > noise[0]


@pytest.mark.parametrize(("pair", "order"), [("dpmpp", 2), ("heun", 2)])
@pytest.mark.parametrize("toy", TOYS)
def test_solver_error_falls_with_the_solvers_order(toy, pair, order):
    counts = [20, 40, 80]
    errors = [draw_toy(ToyRequest(toy, pair, steps)).solver_error for steps in counts]
    slope = -np.polyfit(np.log(np.array(counts) - 1), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.5)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_sde_finds_the_mixture_and_starts_where_the_ode_does(pair):
    field = draw_toy(ToyRequest("mixture", pair, 60))
    assert np.array_equal(field.ode[0], field.sde[0])
    assert not np.allclose(field.ode[1], field.sde[1])
    np.testing.assert_allclose(field.shares["sde"], field.shares["true"], atol=0.03)
    np.testing.assert_allclose(field.mean["sde"], field.mean["true"], atol=0.1)
    np.testing.assert_allclose(field.spread["sde"], field.spread["true"], rtol=0.05)
    assert field.nfe["ode"] == SAMPLERS[PAIRS[pair].ode].evaluations(60)


def test_toy_arrows_and_density_are_exact_and_the_same_each_time():
    field, again = draw_toy(ToyRequest(steps=7, seed=3)), draw_toy(ToyRequest(steps=7, seed=3))
    picture, toy = field.picture, TOYS["mixture"]
    assert picture.std[-1] == 0
    assert picture.density.shape == (8, CELLS, CELLS)
    assert picture.density.max() == 0
    assert picture.density.min() >= -FLOOR
    k = 2
    at = grid(picture.centre, picture.reach[k], SIDE)[4, 9]
    var = toy.std[0] ** 2 + picture.std[k] ** 2
    pull = np.array([w * multivariate_normal(m, var).pdf(at) for w, m in zip(toy.weights, toy.means, strict=True)])
    score = pull / pull.sum() @ (np.array(toy.means) - at) / var
    np.testing.assert_allclose(field.arrows[k].values[4, 9], picture.std[k] ** 2 * score, rtol=1e-4)
    for a, b in zip(field.arrows, again.arrows, strict=True):
        assert np.array_equal(a.values, b.values)
    assert np.array_equal(field.sde, again.sde)


def test_toys_table_says_what_was_found():
    one, three = draw_toy(ToyRequest("gaussian")), draw_toy(ToyRequest("mixture"))
    assert toy_table(one).head == ("quantity", "true", "exact ODE", "ODE, solved", "SDE, solved")
    assert f"{one.mean['exact'][0]:.3f}" in toy_findings(one)
    assert [line[0][0].text for line in toy_table(three).body][4:7] == [f"Share of cluster {i}" for i in (1, 2, 3)]
    assert "no closed form" in toy_findings(three)
    with pytest.raises(ValueError, match="mixture; only the flow of one Gaussian"):
        TOYS["mixture"].flow(np.zeros((1, 2)), 1.0, 0.1)


@pytest.mark.parametrize(
    "bad",
    [
        {"toy": "swiss roll"},
        {"pair": None},
        {"steps": 1},
        {"steps": 201},
        {"steps": True},
        {"steps": 2.0},
        {"seed": -1},
    ],
)
def test_toy_refuses_by_name_and_value(bad):
    [(name, value)] = bad.items()
    with pytest.raises(ValueError, match=f"{name}: {value!r} is"):
        ToyRequest(**bad)


# --- the learned field ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline() -> RecoveryPipeline:
    return RecoveryPipeline.from_pretrained()


@pytest.fixture(scope="module")
def request_(pipeline):
    clip = pipeline.data.split("test")[3]
    return FieldRequest(clip, ("text", "audio"), "vision", seed=5, paths=3, steps=6, side=3, every=4)


@pytest.fixture(scope="module")
def items(pipeline, request_):
    return list(stream_field(pipeline, request_))


def of(items, kind):
    return [item for item in items if isinstance(item, kind)]


def test_a_field_comes_from_noise_to_data_with_its_progress(items, request_):
    assert isinstance(items[0], FieldStart)
    assert isinstance(items[-1], FieldEnd)
    assert [a.index for a in of(items, Arrows)] == [0, 4, 5] == list(request_.fields)
    done = [p.done for p in of(items, FieldProgress)]
    assert done == sorted(done)
    assert done[-1] == items[-1].evaluations == request_.evaluations == 2 * 3 * 6 + 3 * 9
    picture = items[0].picture
    assert picture.t[-1] == picture.std[-1] == 0
    assert np.all(np.diff(picture.std) < 0)
    assert np.all(np.diff(picture.reach) < 0)


def test_sde_and_ode_share_their_start_and_it_is_the_recoverys_own(pipeline, items, request_):
    [paths] = of(items, FieldPaths)
    assert paths.ode.shape == paths.sde.shape == (7, 3, 2)
    assert np.array_equal(paths.ode[0], paths.sde[0])
    assert not np.allclose(paths.ode[2], paths.sde[2])
    batch = pipeline.run.standardiser.apply(collate([request_.clip]))
    model = pipeline.model
    latents = {k: z.detach() for k, z in model.encode(batch.features).items()}
    seeds = [noise_seed(5, request_.clip.id, 0)]
    step = next(
        model.stream(latents, ("text", "audio"), valid=model.latent_valid(batch.valid), seeds=seeds, sampler=SDE)
    )
    flat = model.unit("vision", model.crop(step["vision"].x, 48)).flatten(1).numpy()
    np.testing.assert_allclose(pipeline.planes["vision"].transform(flat)[0], paths.sde[0, 0], rtol=1e-4, atol=1e-3)


def test_an_arrow_is_the_networks_own_step_at_that_point(pipeline, items, request_):
    """One grid point by hand: a full state with the path's complement, one call of the estimator, the PCA's own map."""
    model, plane = pipeline.model, pipeline.planes["vision"]
    batch = pipeline.run.standardiser.apply(collate([request_.clip]))
    valid = model.latent_valid(batch.valid)
    latents = {k: z.detach() for k, z in model.encode(batch.features).items()}
    seeds = [noise_seed(5, request_.clip.id, 0)]
    estimate, noise = model.score_field("vision", latents, ("text", "audio"), valid=valid, seeds=seeds)
    ts = log_grid(model.sde, 6, LOW)
    with torch.no_grad():
        path = SAMPLERS[ODE].run(estimate, model.sde, model.sde.prior(noise()), ts, noise, True)
        states = [step.x for step in path]
        picture = items[0].picture
        for arrows in of(items, Arrows):
            i, (row, column) = arrows.index, (2, 0)
            target = grid(picture.centre, picture.reach[i], 3)[row, column]
            unit = (states[i][0] / model.config.latent_scale).flatten().numpy()
            own = plane.transform(unit[None])[0]
            point = unit + (target - own) @ plane.components_
            np.testing.assert_allclose(plane.transform(point[None])[0], target, atol=1e-3)
            x = torch.from_numpy(point).float().view(1, 32, 48) * model.config.latent_scale
            found = estimate(x, ts[i])
            step = model.sde.std(ts[i]) ** 2 * found.score / model.config.latent_scale
            by_hand = plane.components_ @ step.flatten().numpy()
            np.testing.assert_allclose(arrows.values[row, column], by_hand, rtol=1e-3, atol=2e-3)


def test_the_density_is_the_training_cloud_blurred_by_the_noise(pipeline, items):
    picture, cloud = items[0].picture, pipeline.cloud["vision"].astype(float)
    scale = pipeline.model.config.latent_scale
    sigma = pipeline.model.sde.std(float(picture.t[1])) / scale
    assert picture.std[1] == pytest.approx(sigma, rel=1e-5)
    assert picture.reach[1] == pytest.approx(
        REACH * math.sqrt(np.linalg.eigvalsh(np.cov(cloud.T, bias=True))[-1] + sigma**2), rel=1e-5
    )
    at = grid(picture.centre, picture.reach[1], CELLS)
    rows = [multivariate_normal(point, sigma**2).logpdf(at) for point in cloud]
    reference = np.logaddexp.reduce(rows) - math.log(len(cloud))
    reference = np.maximum(reference - reference.max(), -FLOOR)
    np.testing.assert_allclose(picture.density[1], reference, atol=1e-4)


def test_the_same_request_gives_the_same_field_and_the_truth_is_not_read(pipeline, items, request_):
    again = list(stream_field(pipeline, request_))
    for a, b in zip(of(items, Arrows), of(again, Arrows), strict=True):
        assert np.array_equal(a.values, b.values)
    assert np.array_equal(of(items, FieldPaths)[0].sde, of(again, FieldPaths)[0].sde)
    features = request_.clip.features | {"vision": request_.clip.features["vision"] * 0 + 1.0}
    changed = type(request_.clip)(**(vars(request_.clip) | {"features": features}))
    other = list(stream_field(pipeline, FieldRequest(**(vars(request_) | {"clip": changed}))))
    assert np.array_equal(of(items, Arrows)[1].values, of(other, Arrows)[1].values)
    assert not np.allclose(other[0].truth, items[0].truth)


def test_the_field_depends_on_what_is_observed(pipeline, items, request_):
    free = list(stream_field(pipeline, FieldRequest(**(vars(request_) | {"guidance": 0.0}))))
    assert not np.allclose(of(free, Arrows)[0].values, of(items, Arrows)[0].values, atol=1)
    for k in ("text", "audio"):
        one = list(stream_field(pipeline, FieldRequest(**(vars(request_) | {"available": (k,)}))))
        assert not np.allclose(of(one, Arrows)[0].values, of(items, Arrows)[0].values, atol=1)


def test_a_shorter_clip_moves_on_its_own_frames_alone(pipeline):
    valid = torch.ones(30, dtype=torch.bool)
    plane = PlaneSlice.of(pipeline, "audio", valid)
    wanted = torch.tensor([[3.0, -4.0], [0.5, 0.0]])
    moved = plane.lift(wanted)
    assert moved.shape == (2, 32, 30)
    torch.testing.assert_close(plane.step(moved), wanted, rtol=1e-4, atol=1e-4)
    unit = torch.randn(32, 30)
    padded = np.pad(unit.numpy(), ((0, 0), (0, 18))).reshape(1, -1)
    np.testing.assert_allclose(plane.coordinates(unit), pipeline.planes["audio"].transform(padded)[0], atol=1e-3)


def test_published_presets_have_a_field_too(request_):
    pipeline = RecoveryPipeline.from_pretrained("checkpoints/official", data="bundled")
    items = list(stream_field(pipeline, FieldRequest(**(vars(request_) | {"guidance": 1.0}))))
    assert np.isfinite(of(items, Arrows)[-1].values).all()
    plane = PlaneSlice.of(pipeline, "vision", torch.ones(48, dtype=torch.bool))
    model, x = pipeline.model, torch.randn(2, 32, 48)
    change = plane.lift(torch.tensor([2.0, 1.0]))
    before, after = (model.unit("vision", model.crop(v, 48)) for v in (x, x + change))
    torch.testing.assert_close(
        plane.coordinates(after) - plane.coordinates(before), torch.tensor([[2.0, 1.0]] * 2), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"target": "text"}, {"target": "smell"}, {"seed": -1}, {"seed": True}, {"paths": 0}, {"paths": 65},
        {"steps": 1}, {"side": 26}, {"side": 3.0}, {"every": 0}, {"guidance": math.nan}, {"guidance": 9},
        {"guidance": "1"},
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_named(request_, bad):
    [name] = bad
    with pytest.raises(ValueError, match=rf"^{name}: .* (allowed|is)"):
        FieldRequest(**(vars(request_) | bad))


def test_too_much_work_is_refused(request_):
    with pytest.raises(ValueError, match="evaluations"):
        FieldRequest(**(vars(request_) | {"side": 25, "steps": 60, "every": 1}))
