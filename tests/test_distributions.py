"""Recovered against real: planes, histograms and gaps of known answer, the stored file, live draws, live rows."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_run
from sklearn.decomposition import PCA

from imder import hub
from imder.__main__ import main
from imder.data.dataset import FeatureSet
from imder.evaluation.distribution import halves_floor, sample_floor, sliced_wasserstein
from imder.evaluation.distributions import SETS, Stored, compute, study_of, write
from imder.evaluation.evaluate import DISTANCES
from imder.evaluation.live import LiveAsk, live_cells, live_draws, live_study, random_rows, stepwise
from imder.evaluation.recovered import (
    BINS,
    KINDS,
    VIEWS,
    Bins,
    Plane,
    channel_gaps,
    embed,
    picture,
    pictured,
    view_of,
)
from imder.evaluation.rows import identity, read_rows
from imder.evaluation.study import run_digest
from imder.modality import MODALITIES

ASSETS = Path(__file__).parents[1] / "assets"
CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "corrected"


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    run, data = tiny_run.make(folder)
    tiny_run.distributions(run, data, folder / "tiny.safetensors")
    return folder


@pytest.fixture(scope="module")
def run(home):
    return hub.load(str(home / "run"), fallback=False)


@pytest.fixture(scope="module")
def study(home, run):
    return study_of(run, FeatureSet.open(home / "data"), batch=4)


@pytest.fixture(scope="module")
def stored(home):
    return Stored.read(home / "tiny.safetensors")


# --- known truths -----------------------------------------------------------------------------------------------------


def test_the_plane_is_that_of_sklearn_on_the_joint_set_whatever_its_order(rng):
    sets = [rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)) for _ in range(3)]
    made, joint = picture(sets), np.concatenate(sets)
    expected = PCA(2, svd_solver="full").fit_transform(joint)
    assert np.abs(made.pca.reshape(-1, 2)) == pytest.approx(np.abs(expected), abs=1e-9)
    mixed = Plane.fit(joint[rng.permutation(len(joint))])
    assert np.abs(mixed(joint)) == pytest.approx(np.abs(expected), abs=1e-9)
    assert made.pca.shape == made.tsne.shape == (3, 40, 2)
    with pytest.raises(ValueError, match="at least 2"):
        Plane.fit(joint[:1])


def test_tsne_keeps_clusters_apart_and_repeats_itself(rng):
    centres = np.repeat(np.eye(3, 8) * 30, 20, axis=0)
    points = centres + rng.normal(size=centres.shape)
    made = embed(points)
    label = np.repeat(np.arange(3), 20)
    distance = np.linalg.norm(made[:, None] - made[None], axis=2) + np.diag([np.inf] * 60)
    assert (label[distance.argmin(axis=1)] == label).all()
    assert np.array_equal(made, embed(points))


def test_histograms_are_those_of_a_normal_and_lose_nothing(rng):
    real = rng.normal(size=(200_000, 2)) * [1, 5] + [0, 3]
    bins = Bins.around(real)
    shares = bins.shares(real)
    assert shares.shape == (2, BINS)
    assert shares.sum(axis=1) == pytest.approx(1)
    edges = np.linspace(bins.low[1], bins.high[1], BINS + 1)
    cdf = np.array([0.5 * (1 + math.erf((e - 3) / (5 * math.sqrt(2)))) for e in edges])
    assert shares[1][1:-1] == pytest.approx(np.diff(cdf)[1:-1], abs=0.002)
    far = bins.shares(np.array([[1e9, -1e9]]))
    assert (far[0, -1], far[1, 0]) == (1, 1)


def test_the_gap_of_a_channel_is_its_shift_in_standard_deviations(rng):
    real = rng.normal(size=(50_000, 3)) * [1, 2, 0.1]
    moved = rng.normal(size=(40_000, 3)) * [1, 2, 0.1] + [0, 1, 0.3]
    assert channel_gaps(moved, real) == pytest.approx([0, 0.5, 3], abs=0.03)
    assert channel_gaps(real[::-1], real) == pytest.approx(0, abs=1e-12)
    assert channel_gaps(real * 2, real) == pytest.approx(
        math.sqrt(2 / math.pi), abs=0.02
    )  # E |Z|, W1 of N(0,4), N(0,1)


def test_a_small_sample_is_held_to_a_floor_of_its_own_size(rng):
    real = rng.normal(size=(200, 5))
    small, half = sample_floor(sliced_wasserstein, real, 10), halves_floor(sliced_wasserstein, real)
    assert small.value > half.value > 0  # fewer points, farther apart
    fresh = [sliced_wasserstein(rng.normal(size=(10, 5)), real) for _ in range(20)]
    assert np.mean(fresh) == pytest.approx(small.value, abs=3 * small.noise)
    assert sliced_wasserstein(rng.normal(2, 1, size=(10, 5)), real) > small.value + 5 * small.noise
    assert sample_floor(sliced_wasserstein, real, 199).value is None


def test_views_are_all_ways_to_recover():
    assert len(VIEWS) == len({view.name for view in VIEWS}) == 9
    assert view_of("vision", ("text", "audio")).name == "LA-V"
    with pytest.raises(ValueError, match="does not fit"):
        view_of("vision", ("vision",))
    assert pictured(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert pictured(1000, 4).tolist() == [0, 250, 500, 750]


# --- the stored file --------------------------------------------------------------------------------------------------


def test_the_file_holds_what_is_computed_anew(study, stored, home):
    about, tensors = compute(study)  # batches of 4, the file's had 100
    told = {key: value for key, value in stored.about.items() if key != "command"}
    assert told.keys() == about.keys()
    for name in ("run", "data", "fingerprint", "ids", "channels", "steps"):
        assert told[name] == about[name]
    assert set(tensors) == set(stored.tensors)
    for name, x in tensors.items():
        if not name.endswith(("tsne", "directions", "pca")):  # their signs and neighbours hang on rounding
            kept, x = (np.abs(one.astype(np.float64)) for one in (stored.tensors[name], x))
            if name.endswith("shares"):  # rounding may move a value over the edge of a bin
                assert (np.abs(kept - x).sum(axis=-1) < 0.01 * x.sum(axis=-1)).all(), name
                continue
            assert kept == pytest.approx(x, rel=1e-2, abs=5e-3 * max(1.0, float(x.max()))), name
    view = VIEWS[0]
    points = np.concatenate([study.real[view.modality], study.real[view.modality]])
    assert stored.points(view, False, "pca")[0] == pytest.approx(stored.plane(view, False)(points)[:24], abs=0.05)
    for state in SETS.values():
        for metric in DISTANCES:
            assert told["distances"]["LA-V"][state][metric] == pytest.approx(
                about["distances"]["LA-V"][state][metric], abs=1e-3
            )
    assert [one["modality"] for one in told["sentences"]] == ["audio", "vision"]
    assert stored.tensors["sentence-0/performed"].shape == (tiny_run.PERFORMANCES, 2)
    assert stored.points(view, True, "tsne").shape == (len(KINDS), 24, 2)
    assert write(home / "again.safetensors", stored.about, stored.tensors) == (home / "tiny.safetensors").stat().st_size
    assert (home / "again.safetensors").read_bytes() == (home / "tiny.safetensors").read_bytes()


def test_distances_are_those_of_the_evaluation(home, stored):
    out = home / "rows.jsonl"
    args = ["evaluate", "--run", str(home / "run"), "--data", str(home / "data"), "--out", str(out), "--workers", "1"]
    assert main([*args, "--methods", "imder", "unconditional", "--draws", "1"]) == 0
    rows = read_rows(out, pytest.fail)

    def value(**wanted):
        [found] = [row["value"] for row in rows if all(row[key] == one for key, one in wanted.items())]
        return found

    for view in VIEWS:
        for refined in (False, True):
            for metric, (halves, _, train, own, free) in stored.distances(view, refined).items():
                where = {"available": list(view.observed), "modality": view.modality, "refined": refined}
                assert own == pytest.approx(value(method="imder", metric=metric, **where), abs=1e-5)
                assert free == pytest.approx(value(method="unconditional", metric=metric, **where), abs=1e-5)
                for floor, name in ((halves, "floor"), (train, "floor_train")):
                    real = value(method="real", metric=f"{metric}_{name}", modality=view.modality)
                    assert floor == pytest.approx(real, abs=1e-5)


def test_the_file_answers_for_one_run_and_one_data_set(home, stored, run):
    digest, fingerprint = run_digest(home / "run"), FeatureSet.open(home / "data").fingerprint
    stored.check(digest, fingerprint)
    with pytest.raises(ValueError, match="run"):
        stored.check("00000000", fingerprint)
    with pytest.raises(ValueError, match="data set"):
        stored.check(digest, "0" * 16)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 64])
def test_another_file_is_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a file of the command"):
        Stored.read(path)


def test_mistakes_on_the_command_line_are_one_line(home, tmp_path, capsys):
    assert main(["distributions", "--out", str(tmp_path / "x.json")]) == 2
    assert (
        main(["distributions", "--run", str(CHECKPOINT.parent / "mmin"), "--out", str(tmp_path / "x.safetensors")]) == 2
    )
    for line in capsys.readouterr().err.strip().splitlines():
        assert line.startswith("error: ")


def test_the_bundled_file_is_of_the_bundled_run_and_agrees_with_the_bundled_rows():
    path = ASSETS / "distributions.safetensors"
    assert path.stat().st_size < 600_000
    bundled = Stored.read(path)
    bundled.check(run_digest(CHECKPOINT), FeatureSet.open("bundled").fingerprint)
    rows = {}
    for line in (ASSETS / "benchmark.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["protocol"] == "fixed" and row["draws"] == 1 and row["limit"] is None and row["seed"] == 0:
            key = row["run"], row["method"], tuple(row["available"]), row["modality"], row["metric"], row["refined"]
            rows[key] = row["value"]
    for view in VIEWS:
        for refined in (False, True):
            for metric, (_, _, _, own, free) in bundled.distances(view, refined).items():
                for method, value in (("imder", own), ("unconditional", free)):
                    key = bundled.about["run"], method, view.observed, view.modality, metric, refined
                    assert value == pytest.approx(rows[key], abs=1e-4)


# --- live -------------------------------------------------------------------------------------------------------------


def test_live_draws_of_seed_0_are_the_stored_ones(study, stored):
    view = view_of("audio", ("text",))
    rows = random_rows(9, 24, 5)
    assert len(set(rows)) == 9
    assert rows == random_rows(9, 24, 5) != random_rows(9, 24, 6)
    ticks = []
    made = live_draws(study, view, rows, 1, 0, False, ticks.append)
    assert sum(ticks) == 9 * 2 * 2  # steps x two missing modalities
    assert len(ticks) == 3
    found = stored.plane(view, False)(made.points)
    assert found == pytest.approx(stored.points(view, False, "pca")[1][rows], abs=0.02 * float(np.abs(found).max()))
    others = np.setdiff1d(np.arange(24), rows)
    expected = sliced_wasserstein(made.points, study.real["audio"][others])
    assert made.distances["sliced_wasserstein"][0] == pytest.approx(expected)
    assert made.sentence is None


def test_live_draws_of_a_clip_with_performances_are_compared_with_them(study):
    made = live_draws(study, view_of("vision", ("text",)), [0], 8, 0, False, lambda units: None)
    assert made.sentence.performed.shape == (tiny_run.PERFORMANCES, 2)
    assert len(made.sentence.drawn) == 8
    assert len(np.unique(made.points[:, 0])) == 8
    assert live_draws(study, view_of("vision", ("text",)), [1], 8, 0, False, lambda units: None).sentence is None
    assert live_draws(study, view_of("vision", ("audio",)), [0], 8, 0, False, lambda units: None).sentence is None


def test_work_is_told_as_it_goes_and_ends_when_nobody_listens():
    ticks = []

    def work(tick):
        for i in range(1000):
            time.sleep(0.01)
            ticks.append(i)
            tick(1)
        return "never"

    steps = stepwise(work, every=0.02)
    _, result = next(steps)
    assert result is None
    began = time.monotonic()
    steps.close()
    assert time.monotonic() - began < 1
    count = len(ticks)
    time.sleep(0.1)
    assert len(ticks) == count < 100
    assert list(stepwise(lambda tick: (tick(2), "done")[1]))[-1] == (2, "done")
    with pytest.raises(ValueError, match="no"):
        list(stepwise(lambda tick: (_ for _ in ()).throw(ValueError("no"))))


@pytest.mark.parametrize("ask", [LiveAsk(clips=8), LiveAsk("random", 0.5, 8, 1, 2)], ids=["fixed", "random"])
def test_live_rows_are_those_of_the_command_that_the_page_shows(home, run, tmp_path, ask):
    words = ask.command(str(home / "run"), str(home / "data"), ["imder", "zero", "ridge"]).split()
    assert words[:3] == ["python", "-m", "imder"]
    out = tmp_path / "live.jsonl"
    words[words.index("--out") + 1] = str(out)
    assert main([*words[3:], "--workers", "1"]) == 0
    stored = {identity(row): row for row in read_rows(out, pytest.fail)}
    study = live_study(run, FeatureSet.open(home / "data"), ask)
    found = []
    for method in ("imder", "zero", "ridge"):
        cells = live_cells(study, method, ask)
        assert len(cells) == (6 if ask.protocol == "fixed" else 1)
        for i in cells:
            found += study.answer(study.cells[i])[0]
    assert len(found) > 40
    for row in found:
        assert row == stored[identity(row)]
    assert {row["modality"] for row in found} == {*MODALITIES, None}
    full = ask.command("r", "d", ["imder"], 0)
    assert "--limit" not in full
