"""The analytic corpora against dense linear algebra, and what `bench truth` must show of samplers and networks."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import torch

from imder.bench import truth
from imder.bench.analytic import CORPORA, Corpus
from imder.bench.truth import QUICK, AnalyticBench, Trial, exact_estimator, recovered, sampled
from imder.evaluation.distribution import exact_coverage
from imder.modality import MODALITIES, PATTERNS, missing
from imder.plots.truth import truth_draws, truth_samplers

CELLS = [((), "audio"), *((pattern, k) for pattern in PATTERNS[:-1] for k in missing(pattern))]


def arguments(**changes):
    """The flags of `bench truth --quick`."""
    flags = dict.fromkeys(("corpora", "targets", "presets", "parts", "updates", "batch", "cache"))
    return Namespace(quick=True, **(flags | {"seed": 0, "workers": 1, "device": "cpu"} | changes))


@pytest.fixture(scope="module", params=CORPORA)
def small(request):
    """A corpus of 3 x 5 latents: small enough for one dense covariance."""
    return Corpus.make(request.param, channels=3, frames=5, seed=2)


def dense(corpus, mode=0):
    """(means {k: (D L)}, covariances {(k, o): (D L, D L)}) of one mode, as one Gaussian without structure."""
    basis, d, n = corpus.basis.numpy(), corpus.channels, corpus.frames
    cov = np.einsum("fl,fcd,fm->cldm", basis, corpus.covariance.numpy(), basis)
    mean = np.einsum("fl,fc->cl", basis, corpus.means[mode].numpy())
    at = {k: slice(i * d, (i + 1) * d) for i, k in enumerate(MODALITIES)}
    means = {k: mean[at[k]].ravel() for k in MODALITIES}
    return means, {(a, b): cov[at[a], :, at[b]].reshape(d * n, d * n) for a in MODALITIES for b in MODALITIES}


def conditioned(corpus, mode, target, observed, clips):
    """(mean (B, D L), covariance, log density of what is observed (B,)) by dense solves."""
    means, cov = dense(corpus, mode)
    mean, own = np.tile(means[target], (len(clips[target]), 1)), cov[target, target]
    log = np.zeros(len(mean))
    if observed:
        z = np.concatenate([clips[k].flatten(1).double().numpy() - means[k] for k in observed], axis=1)
        coo = np.block([[cov[a, b] for b in observed] for a in observed])
        cko = np.concatenate([cov[target, o] for o in observed], axis=1)
        solved = np.linalg.solve(coo, z.T)
        mean = mean + (cko @ solved).T
        own = own - cko @ np.linalg.solve(coo, cko.T)
        log = -(z * solved.T).sum(1) / 2 - np.linalg.slogdet(2 * np.pi * coo)[1] / 2
    return mean, own, log


def test_channels_have_mean_0_and_variance_1_and_the_dense_covariance(small):
    z = small.sample(20000, seed=1)
    flat = np.concatenate([z[k].flatten(1).double().numpy() for k in MODALITIES], axis=1)
    assert np.abs(flat.mean(0)).max() < 0.05
    for k in MODALITIES:
        assert z[k].var(dim=(0, 2)).numpy() == pytest.approx(1, abs=0.05)
    expected = 0
    for mode, weight in enumerate(small.weights.tolist()):
        means, cov = dense(small, mode)
        mean = np.concatenate([means[k] for k in MODALITIES])
        expected = expected + weight * (
            np.outer(mean, mean) + np.block([[cov[a, b] for b in MODALITIES] for a in MODALITIES])
        )
    assert np.abs(np.cov(flat.T) - expected).max() < 0.06


@pytest.mark.parametrize(("observed", "target"), CELLS)
def test_conditionals_are_those_of_dense_algebra(small, observed, target):
    clips = small.sample(4, seed=3)
    exact = small.given(target, observed, clips)
    found = [conditioned(small, mode, target, observed, clips) for mode in range(len(small.weights))]
    log = small.weights.log().numpy() + np.stack([one[2] for one in found], 1)
    weights = np.exp(log - log.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    assert exact.weights.numpy() == pytest.approx(weights, abs=1e-9)
    mean = sum(weights[:, [mode]] * one[0] for mode, one in enumerate(found))
    assert exact.mean().flatten(1).numpy() == pytest.approx(mean, abs=1e-9)
    unit = torch.eye(mean.shape[1], dtype=torch.float64).unflatten(1, (small.channels, small.frames))
    c = exact.coordinates(unit).flatten(1)
    assert (c @ torch.diag(exact.variances.flatten()) @ c.T).numpy() == pytest.approx(found[0][1], abs=1e-9)


def test_draws_have_the_conditional_moments_and_mode_shares(small):
    clips = small.sample(2, seed=5)
    exact = small.given("vision", ("text",), clips).rows(torch.arange(2).repeat_interleave(20000))
    x = exact.draw(torch.Generator().manual_seed(0))
    error = x.unflatten(0, (2, -1)).mean(1) - exact.mean().unflatten(0, (2, -1))[:, 0]
    assert error.abs().max() < 0.04
    drawn = exact.coordinates(x).unflatten(0, (2, -1)).var(1)
    assert (drawn / exact.variance().unflatten(0, (2, -1))[:, 0]).numpy() == pytest.approx(1, abs=0.06)
    shares = exact.shares(x)
    assert shares.sum(1).numpy() == pytest.approx(1)
    assert shares.unflatten(0, (2, -1)).mean(1).numpy() == pytest.approx(
        exact.weights.unflatten(0, (2, -1))[:, 0].numpy(), abs=0.02
    )


def test_posterior_shares_average_to_the_prior():
    corpus = Corpus.make("mixture", channels=4, frames=8)
    weights = corpus.given("vision", ("text", "audio"), corpus.sample(8000, seed=4)).weights
    assert weights.sum(1).numpy() == pytest.approx(1)
    assert weights.mean(0).numpy() == pytest.approx(corpus.weights.numpy(), abs=0.03)
    assert 0.5 < weights.max(1).values.mean() < 0.99  # the mode is neither unknown nor given away


@pytest.mark.parametrize("std", [0.02, 0.3, 5.0])
def test_denoiser_is_tweedies_formula_of_the_dense_density(small, std):
    scale, observed, target = 0.15, ("audio",), "text"
    clips = small.sample(3, seed=6)
    exact = small.given(target, observed, clips)
    x = (scale * exact.mean() + std * torch.randn(3, 3, 5, dtype=torch.float64)).requires_grad_()
    terms = []
    for mode in range(len(small.weights)):
        mean, cov, _ = conditioned(small, mode, target, observed, clips)
        noised = torch.from_numpy(scale**2 * cov + std**2 * np.eye(len(cov)))
        density = torch.distributions.MultivariateNormal(torch.from_numpy(scale * mean), noised)
        terms.append(exact.weights[:, mode].log() + density.log_prob(x.flatten(1)))
    (score,) = torch.autograd.grad(torch.logsumexp(torch.stack(terms), 0).sum(), x)
    assert exact.denoised(x.detach(), std, scale).numpy() == pytest.approx(
        (x + std**2 * score).detach().numpy(), abs=1e-8
    )


def test_what_is_observed_explains_a_third_to_a_half():
    corpus = Corpus.make("gaussian")
    one = [corpus.explained(k, pattern) for pattern in PATTERNS[:3] for k in missing(pattern)]
    two = [corpus.explained(k, pattern) for pattern in PATTERNS[3:6] for k in missing(pattern)]
    assert 0.3 < min(one) < max(one) < min(two) < max(two) < 0.6


def test_refusals():
    with pytest.raises(ValueError, match="'cauchy' is unknown; allowed: gaussian, mixture"):
        Corpus.make("cauchy")
    corpus = Corpus.make("gaussian", 2, 4)
    with pytest.raises(ValueError, match="'text' is observed"):
        corpus.given("text", ("text",), corpus.sample(1, 0))
    with pytest.raises(ValueError, match="updates: 0 is not allowed"):
        truth.run(arguments(updates=0), print)
    with pytest.raises(ValueError, match="targets: audio is not allowed; text audio vision from the first on is"):
        truth.run(arguments(targets=["audio"]), print)
    with pytest.raises(ValueError, match="batch: -1 is not allowed"):
        truth.run(arguments(batch=-1), print)
    with pytest.raises(ValueError, match="device: 'gpu' is not allowed; cpu, cuda or cuda:N is"):
        truth.run(arguments(device="gpu"), print)


# What the benchmark must show -----------------------------------------------------------------------------------------


def trial_of(name, target="vision", available=("text",), channels=32, frames=48, conditions=6):
    corpus = Corpus.make(name, channels, frames)
    return corpus, Trial.make(corpus, target, available, corpus.sample(conditions, 1), 32, 0)


def test_the_exact_score_is_at_the_floor_in_ten_evaluations_and_the_published_sampler_is_not():
    _, trial = trial_of("mixture", conditions=18)
    floors = [trial.measure(trial.again(0, i)) for i in range(4)]
    floor = {name: np.mean([one[name] for one in floors]) for name in floors[0]}
    assert floor["coverage90"] == pytest.approx(exact_coverage(32), abs=0.02)
    assert floor["variance_smallest"] == pytest.approx(1, abs=0.05)
    assert abs(floor["energy_distance"]) < 0.1
    seeds = range(len(trial.truth))

    def drawn(sampler, steps, tweedie=True):
        return trial.measure(sampled(exact_estimator(trial.exact, 0.15), trial, seeds, 0.15, (sampler, steps), tweedie))

    ten = drawn("dpmpp-2m", 10)
    assert ten["sliced_wasserstein"] < 1.15 * floor["sliced_wasserstein"]
    assert ten["mode_shares"] < floor["mode_shares"] + 0.06
    published = drawn("euler-maruyama", 100, tweedie=False)
    assert published["sliced_wasserstein"] > 2 * ten["sliced_wasserstein"]
    assert published["variance_smallest"] > 10


def test_the_measure_sees_draws_that_ignore_what_is_observed_and_draws_that_are_too_narrow():
    corpus, trial = trial_of("gaussian")
    floor, right = (trial.measure(trial.again(0, i)) for i in range(2))
    free = corpus.given("vision", (), {"vision": trial.truth}).draw(torch.Generator().manual_seed(1))
    other = trial.again(0, 2)
    ignoring, narrow = trial.measure(free), trial.measure((trial.mean + 0.7 * (other - trial.mean)).float())
    for name in ("sliced_wasserstein", "mean_error"):
        assert right[name] < 1.3 * floor[name]
        assert ignoring[name] > 1.5 * floor[name]
    assert ignoring["energy_distance"] > 10 * abs(floor["energy_distance"])
    assert narrow["sliced_wasserstein"] > 1.3 * floor["sliced_wasserstein"]
    assert narrow["variance_leading"] == pytest.approx(0.49, abs=0.1)
    assert narrow["coverage90"] < floor["coverage90"] - 0.05


def test_the_untrained_corrected_network_is_near_the_floor_of_a_gaussian(tmp_path):
    plan = replace(QUICK, train=4000)
    corpus, trial = trial_of("gaussian", "audio", ("text", "vision"), plan.channels, plan.frames)
    model = AnalyticBench(corpus, "corrected", plan, tmp_path, 0).model()
    clips = {k: z.repeat_interleave(32, 0) for k, z in corpus.sample(6, 1).items()}
    drawn = [recovered(model, clips, trial.available, range(6 * 32), guidance)["audio"] for guidance in (1.0, 0.0)]
    conditional, unconditional = (trial.measure(x)["sliced_wasserstein"] for x in drawn)
    floor = np.mean([trial.measure(trial.again(0, i))["sliced_wasserstein"] for i in range(4)])
    assert conditional < 1.25 * floor
    assert unconditional > 1.5 * floor


def test_trained_networks_are_kept_and_read_again(tmp_path):
    plan = replace(QUICK, train=64, valid=8, updates=2)
    corpus, said = Corpus.make("mixture", plan.channels, plan.frames), []
    models = [AnalyticBench(corpus, "corrected", plan, tmp_path, 0).trained(said.append) for _ in range(2)]
    assert len(said) == 3  # one line a network, all from the first time
    for a, b in zip(*(model.state_dict().values() for model in models), strict=True):
        assert torch.equal(a, b)


@pytest.fixture(scope="module")
def rows():
    return truth.run(arguments(), lambda text: None)


def test_quick_rows_order_the_methods(rows):
    own = [row for row in rows if row["part"] == "patterns" and row["name"] == "sliced_wasserstein"]
    mean = {m: np.mean([row["value"] for row in own if row["method"] == m]) for m in truth.METHODS}
    assert len(own) == 9 * len(truth.METHODS)
    assert mean["floor"] < mean["conditional"] < mean["unconditional"] < mean["official"]
    assert mean["official"] > 5 * mean["unconditional"]


def test_quick_rows_tell_sampler_error_and_network_error_apart(rows):
    own = [row for row in rows if row["part"] == "samplers" and row["name"] == "sliced_wasserstein"]
    assert {(row["sampler"], row["steps"], row["last"]) for row in own} == {
        *((sampler, steps, "tweedie") for sampler, steps in QUICK.grids),
        ("euler-maruyama", 100, "plain"),
    }
    value = {(row["score"], row["sampler"], row["steps"], row["last"]): row["value"] for row in own}
    assert value["exact", "euler-maruyama", 100, "plain"] > 1.5 * value["exact", "dpmpp-2m", 10, "tweedie"]
    assert value["trained", "dpmpp-2m", 10, "tweedie"] > 0.95 * value["exact", "dpmpp-2m", 10, "tweedie"]


def test_table_and_figures_hold_every_method_cell_and_sampler(rows):
    text = truth.table(rows)
    for word in ("floor", "conditional", "unconditional", "official", "LA → V", "coverage90", "heun"):
        assert word in text
    draws = truth_draws(rows, "mixture")
    assert [len(trace.x) for trace in draws.data] == [9, 9, 9]
    samplers = truth_samplers(rows)
    assert {trace.name for trace in samplers.data} >= {"DPM-Solver++(2M)", "Heun"}
