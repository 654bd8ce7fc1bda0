"""IMDer: encoders E_k, score networks s_k, reconstruction D_k and fusion T_k (Wang et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from imder.modality import MODALITIES, SYMBOLS, from_mask, missing, ordered
from imder.model.config import ModelConfig, cell_name, check_order
from imder.model.fusion import Fusion
from imder.model.linear import Gaussian, LinearGaussian
from imder.model.reconstruction import Reconstruction
from imder.model.score import Prepared, ScoreNetwork
from imder.model.task import outcome
from imder.samplers import MIN_STD, Noise, check_steps, get_sampler, noise_seed
from imder.sde import VESDE
from imder.trajectory import Estimate, Step

#: Pairs of observed modalities in the order in which they are concatenated (the published tensors').
PAIRS = (("text", "audio"), ("text", "vision"), ("vision", "audio"))

Latents = dict[str, Tensor]

# Noise levels of training in `corrected`: log-normal around the latents' scale, and some uniform in t (evaluation.md).
LOG_NORMAL_SHARE, LOG_NORMAL_SHIFT, LOG_NORMAL_SPREAD = 0.85, 0.4, 1.4


def round_up(frames: int, to: int = 8) -> int:
    """The next multiple of `to`: the U-Net halves three times."""
    return -(-frames // to) * to


@dataclass(frozen=True)
class Skip:
    """The linear-Gaussian denoisers of the rows of a batch: (rows, Gaussian, conditional mean in unit latents)."""

    groups: list[tuple[Tensor | slice, Gaussian, Tensor | float]]


class IMDer(nn.Module):
    """The whole model. Latents are (B, D, L) with L two less than the features' frames (E_k has kernel 3, no padding).

    In `corrected` latents are standardised: each channel has mean 0 and variance 1 on the training split.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config, self.sde = config, VESDE()
        d = config.latent_channels
        self.frames = round_up(config.frames)
        self.encoders = nn.ModuleDict({k: nn.Conv1d(config.feature_dims[k], d, 3, bias=False) for k in MODALITIES})
        self.readouts = nn.ModuleDict({k: nn.ConvTranspose1d(d, config.feature_dims[k], 3) for k in MODALITIES})
        self.pairs = nn.ModuleDict({"_".join(pair): nn.Conv1d(2 * d, d, 1) for pair in PAIRS})
        self.scores = nn.ModuleDict({k: ScoreNetwork(config) for k in MODALITIES})
        self.reconstructors = nn.ModuleDict({k: Reconstruction(config) for k in MODALITIES})
        self.fusion = Fusion(config)
        self.linear = None
        if config.preconditioned:
            self.linear = LinearGaussian(d, self.frames)
            for network in self.scores.values():
                network.start_at_zero()
        self.register_buffer("latent_mean", torch.zeros(len(MODALITIES), d))
        self.register_buffer("latent_std", torch.ones(len(MODALITIES), d))

    @property
    def device(self) -> torch.device:
        """Where the model computes; latents are wanted there, `available` and seeds are not."""
        return self.latent_mean.device

    # Latents ---------------------------------------------------------------------------------------------------------

    def _statistics(self, k: str) -> tuple[Tensor, Tensor]:
        i = MODALITIES.index(k)
        return self.latent_mean[i][:, None], self.latent_std[i][:, None]

    def encode(self, features: dict[str, Tensor]) -> Latents:
        """Standardised features {k: (B, L, F_k)}, L at least 3, to the model's latents {k: (B, D, L - 2)}."""
        latents = {}
        for k, x in features.items():
            if x.ndim != 3 or x.shape[1] < 3 or x.shape[2] != self.config.feature_dims[k]:
                width = self.config.feature_dims[k]
                raise ValueError(f"{k} features have shape {tuple(x.shape)}; expected (batch, frames >= 3, {width})")
            z = self.encoders[k](x.transpose(1, 2))  # (B, D, L - 2)
            if self.config.standardise_latents:
                mean, std = self._statistics(k)
                z = (z - mean) / std
            latents[k] = z
        return latents

    @staticmethod
    def latent_valid(valid: Tensor) -> Tensor:
        """(B, L) validity of feature frames to (B, L - 2) of latents; the first latent frame always counts."""
        out = valid[:, 2:].clone()
        out[:, 0] = True
        return out

    def unit(self, k: str, z: Tensor) -> Tensor:
        """Latents in metric units: each channel of mean 0 and variance 1 on the training split."""
        if self.config.standardise_latents:
            return z
        mean, std = self._statistics(k)
        return (z - mean) / std

    def raw(self, k: str, z: Tensor) -> Tensor:
        """Latents as E_k's convolution gives them: what the readout and T_k see."""
        if not self.config.standardise_latents:
            return z
        mean, std = self._statistics(k)
        return z * std + mean

    def read(self, k: str, z: Tensor) -> Tensor:
        """The linear readout of latents (B, D, L) as standardised features (B, L + 2, F_k)."""
        return self.readouts[k](self.raw(k, z)).transpose(1, 2)

    @torch.no_grad()
    def set_latent_statistics(self, statistics: dict[str, tuple[Tensor, Tensor]]) -> None:
        """Mean and std (D,) of E_k's outputs over the training split's valid frames."""
        for i, k in enumerate(MODALITIES):
            self.latent_mean[i].copy_(statistics[k][0])
            self.latent_std[i].copy_(statistics[k][1].clamp(min=1e-5))

    @torch.no_grad()
    def fit_linear(self, latents: Latents, valid: Tensor) -> None:
        """Fits the linear-Gaussian skip to the training latents (N, D, L); nothing to do without preconditioning."""
        if self.linear is not None:
            padded, mask = self._pad(latents, valid)
            self.linear.fit(padded, mask)

    def _pad(self, latents: Latents, valid: Tensor) -> tuple[Latents, Tensor]:
        """Zero padding on the right to the score network's length; padding frames of the latents become 0."""
        frames = max(round_up(valid.shape[1]), self.frames)
        more = frames - valid.shape[1]
        mask = nn.functional.pad(valid, (0, more))
        whole = bool(valid.all())
        return {k: nn.functional.pad(z if whole else z * valid[:, None], (0, more)) for k, z in latents.items()}, mask

    # Scores ----------------------------------------------------------------------------------------------------------

    def score_modules(self, k: str) -> nn.ModuleDict:
        """What the training of s_k updates, under the model's names: its network and the fusion of the other two."""
        pair = next(name for name in self.pairs if k not in name.split("_"))
        own = {"scores": nn.ModuleDict({k: self.scores[k]}), "pairs": nn.ModuleDict({pair: self.pairs[pair]})}
        return nn.ModuleDict(own)

    def condition(self, k: str, latents: Latents, available: Tensor) -> tuple[Tensor, Tensor]:
        """The fused condition of s_k (B, D, L) from the available others, and which rows have one (B,) bool.

        `available` (B, 3) bool on the CPU here and everywhere: it decides what is computed.
        """
        there = {o: available[:, MODALITIES.index(o)] for o in MODALITIES if o != k}
        first, second = next(pair for pair in PAIRS if k not in pair)
        a, b = latents[first], latents[second]
        both = there[first] & there[second]
        kinds = (there[first] & ~both, there[second] & ~both, both)
        only_a, only_b, pairs = (rows.to(a.device)[:, None, None] for rows in kinds)
        fused = torch.where(only_a, a, 0.0) + torch.where(only_b, b, 0.0)
        if bool(both.any()):
            fused = torch.where(pairs, self.pairs[f"{first}_{second}"](torch.cat([a, b], dim=1)), fused)
        return fused * self.config.condition_scale, there[first] | there[second]

    def _skip(self, k: str, latents: Latents, available: Tensor) -> Skip:
        """Groups the rows by what they observe; `latents` padded, unit scale."""
        index = MODALITIES.index(k)
        seen = available.clone()
        seen[:, index] = False
        groups = []
        for row in torch.unique(seen, dim=0):
            observed = from_mask(row.tolist())
            rows = (seen == row).all(dim=1)
            pick: Tensor | slice = slice(None) if bool(rows.all()) else rows.nonzero()[:, 0]
            gaussian = self.linear.given(k, observed, latents[k].shape[2])
            groups.append((pick, gaussian, self.linear.mean(gaussian, [latents[o][pick] for o in observed])))
        return Skip(groups)

    def _linear(self, skip: Skip, x: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """The linear denoiser of x at std (B,), and its expected error (B,), both in the diffused scale."""
        scale = self.config.latent_scale
        if len(skip.groups) == 1:
            _, gaussian, mean = skip.groups[0]
            return self.linear.denoise(gaussian, x / scale, std / scale, mean) * scale, gaussian.error(
                std / scale
            ) * scale
        out, error = torch.empty_like(x), torch.empty_like(std)
        for rows, gaussian, mean in skip.groups:
            level = std[rows] / scale
            out[rows] = self.linear.denoise(gaussian, x[rows] / scale, level, mean) * scale
            error[rows] = gaussian.error(level) * scale
        return out, error

    def _network(self, k: str, x: Tensor, std: Tensor, prepared: Prepared) -> Tensor:
        """F(c_in x, ln std, condition) of the preconditioned score (Karras et al. 2022, Eq. 7); std (B,) or (1,)."""
        c_in = (self.config.latent_scale**2 + std**2).rsqrt()[:, None, None]
        return self.scores[k](c_in * x, std.log() / 4, prepared)

    def published_score(self, k: str, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """Network output / std(t), the published parametrisation; t (B,), condition already noised or None."""
        return self.scores[k](x, t, self.scores[k].prepare(condition)) / self.sde.marginal_std(t)[:, None, None]

    def score_loss(
        self, k: str, latents: Latents, available: Tensor, valid: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Denoising score matching for s_k, (B,): the error of the network's target, per valid frame and channel.

        Conditions on the available others of k; condition dropout and noise come from `generator`.
        `corrected`: loss of D = skip + c F at log-normal noise levels weighted to unit variance (EDM, Eq. 8);
        `paper`, `official`: || s std + z ||^2 at uniform t (Song et al. 2021, Eq. 7).
        """
        return self._losses(k, latents, available, valid, generator)[0]

    @torch.no_grad()
    def linear_loss(
        self, k: str, latents: Latents, available: Tensor, valid: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The same loss, noise and dropout with F = 0: the linear-Gaussian denoiser alone, which must be beaten."""
        if self.linear is None:
            raise ValueError(f"the preset {self.config.preset!r} has no linear-Gaussian denoiser")
        return self._losses(k, latents, available, valid, generator, network=False)[0]

    def _losses(
        self,
        k: str,
        latents: Latents,
        available: Tensor,
        valid: Tensor,
        generator: torch.Generator,
        network: bool = True,
    ) -> tuple[Tensor, Tensor]:
        config, rows = self.config, len(valid)
        latents, mask = self._pad(latents, valid)
        x0 = latents[k] * config.latent_scale
        kept = torch.rand(rows, generator=generator) >= config.condition_dropout
        available = available & kept[:, None]
        device = x0.device  # everything is drawn on the CPU, so that the draws are the same everywhere
        uniform = self.sde.eps + (1 - self.sde.eps) * torch.rand(rows, generator=generator).to(device)
        z = torch.randn(x0.shape, generator=generator).to(device)
        weight = mask[:, None].float()
        count = weight.sum(dim=(1, 2)) * x0.shape[1]
        inner = None if bool(mask.all()) else mask
        if not config.preconditioned:
            condition, present = self.condition(k, latents, available)
            std = self.sde.marginal_std(uniform)[:, None, None]
            other = z if config.condition_noise == "shared" else torch.randn(x0.shape, generator=generator).to(device)
            prepared = self.scores[k].prepare(condition + std * other, present, inner)
            score = self.scores[k]((x0 + std * z) * weight, uniform, prepared) / std
            return ((score * std + z) ** 2 * weight).sum(dim=(1, 2)) / count, uniform
        log_std = math.log(config.latent_scale) + LOG_NORMAL_SHIFT
        log_std = log_std + LOG_NORMAL_SPREAD * torch.randn(rows, generator=generator).to(device)
        log_normal = torch.rand(rows, generator=generator).to(device) < LOG_NORMAL_SHARE
        std = torch.where(log_normal, log_std.exp(), self.sde.marginal_std(uniform)).clamp(MIN_STD, self.sde.std(1.0))
        x = (x0 + std[:, None, None] * z) * weight
        with torch.no_grad():
            skip, c = self._linear(self._skip(k, latents, available), x, std)
            target = (x0 - skip) / c[:, None, None]
        if not network:
            return (target**2 * weight).sum(dim=(1, 2)) / count, std
        condition, present = self.condition(k, latents, available)
        out = self._network(k, x, std, self.scores[k].prepare(condition, present, inner))
        return ((out - target) ** 2 * weight).sum(dim=(1, 2)) / count, std

    def estimator(
        self,
        k: str,
        latents: Latents,
        available: tuple[str, ...],
        valid: Tensor,
        *,
        guidance: float = 1.0,
        seeds: Sequence[int] = (),
    ):
        """One network evaluation of s_k as a function (x, t) -> Estimate; everything independent of x is computed here.

        `latents` padded. Guidance w: D_u + w (D_c - D_u), so 0 is unconditional and 1 conditional.
        """
        config, network = self.config, self.scores[k]
        rows = len(valid)
        mask = None if bool(valid.all()) else valid
        weight = 1.0 if mask is None else mask[:, None].float()
        there = torch.tensor([k2 in available and k2 != k for k2 in MODALITIES]).expand(rows, -1)
        condition = None if guidance == 0 or not bool(there.any()) else self.condition(k, latents, there)[0]
        if config.preconditioned:
            branches = []
            if condition is not None:
                branches.append((guidance, network.prepare(condition, None, mask), self._skip(k, latents, there)))
            if condition is None or guidance != 1:
                share = 1.0 if condition is None else 1 - guidance
                branches.append((share, network.prepare(None, None, mask), self._skip(k, latents, there & False)))

            def estimate(x: Tensor, t: float) -> Estimate:
                std = torch.full((1,), self.sde.std(t), dtype=x.dtype, device=x.device)
                denoised = 0.0
                for share, prepared, skip in branches:
                    linear, c = self._linear(skip, x * weight, std)
                    out = self._network(k, x * weight, std, prepared)
                    denoised = denoised + share * (linear + c[:, None, None] * out)
                denoised = denoised * weight
                return Estimate((denoised - x) / std**2, denoised)

            return estimate

        noise = self._noise([noise_seed(s, k, "condition") for s in seeds], valid)
        free = network.prepare(None, None, mask)

        def published(x: Tensor, t: float) -> Estimate:
            time, std = torch.full((1,), t, dtype=x.dtype, device=x.device), self.sde.std(t)
            score = 0.0
            if condition is not None:
                noised = condition if config.condition_noise == "none" else condition + std * noise()
                score = guidance * network(x * weight, time, network.prepare(noised, None, mask)) / std
            if condition is None or guidance != 1:
                score = score + (1 if condition is None else 1 - guidance) * network(x * weight, time, free) / std
            return Estimate(score * weight, (x + std**2 * score) * weight)

        return published

    def score_field(
        self,
        k: str,
        latents: Latents,
        available: Sequence[str],
        *,
        valid: Tensor,
        seeds: Sequence[int],
        guidance: float = 1.0,
    ) -> tuple[Callable[[Tensor, float], Estimate], Noise]:
        """s_k for a path of one's own: its estimator for states as long as the network needs them, and the noise.

        The first call of the noise is that which a recovery with these seeds starts from (before the temperature).
        """
        padded, mask = self._pad(latents, valid)
        estimate = self.estimator(k, padded, ordered(available), mask, guidance=guidance, seeds=seeds)
        return estimate, self._noise([noise_seed(s, k) for s in seeds], mask)

    # Recovery --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def stream(
        self,
        latents: Latents,
        available: Sequence[str],
        *,
        valid: Tensor,
        seeds: Sequence[int],
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float = 1.0,
        order: str | None = None,
    ) -> Iterator[dict[str, Step]]:
        """Recovers the modalities missing from `available`; every row has the same pattern.

        Two missing ones are drawn by `order` (the configuration's if None, see `ModelConfig`): side by side, in
        lockstep, each from what is observed; or one after the other, the second also given its row's draw of the first.
        Then the path has two halves, and a modality that waits has its noise as state and the training mean as
        estimate, one that is done its result. All steps of a dict share index, total and nfe, which there counts both.

        The steps' states are in the diffused scale and as long as the score network needs them (`crop` cuts them).
        With a deterministic sampler and a condition the first state is the prior's times `ModelConfig.temperature`.
        A row's result depends on its own seed only. Raises ValueError for a sampler, steps, guidance or order not
        allowed.
        """
        name = sampler or self.config.sampler
        chosen = get_sampler(name)
        own = self.config.steps if name == self.config.sampler else chosen.steps
        steps = check_steps(own if steps is None else steps)
        if not (isinstance(guidance, int | float) and math.isfinite(guidance) and 0 <= guidance <= 8):
            raise ValueError(f"guidance: {guidance!r} is not allowed; a number from 0 to 8 is")
        if len(seeds) != len(valid):
            raise ValueError(f"{len(seeds)} seeds were given for {len(valid)} rows; one a row is needed")
        available = ordered(available)
        absent = missing(available)
        order = check_order(self.config.order if order is None else order)
        padded, mask = self._pad(latents, valid)
        grid = chosen.grid(self.sde, steps)
        tweedie = self.config.tweedie or name != "euler-maruyama"
        noises, starts = {}, {}
        for k in absent:
            noises[k] = self._noise([noise_seed(s, k) for s in seeds], mask)
            starts[k] = self.sde.prior(noises[k]())
            if guidance and not chosen.stochastic:
                starts[k] = starts[k] * self.config.temperature.get(cell_name(available, k), 1.0)

        def path(k: str, given: Latents, names: tuple[str, ...]) -> Iterator[Step]:
            estimate = self.estimator(k, given, names, mask, guidance=guidance, seeds=seeds)
            return chosen.run(estimate, self.sde, starts[k], grid, noises[k], tweedie)

        if not order or len(absent) != 2:
            paths = {k: path(k, padded, available) for k in absent}
            for found in zip(*paths.values(), strict=True):
                yield dict(zip(paths, found, strict=True))
            return
        first, second = sorted(absent, key=lambda k: order.index(SYMBOLS[k]))
        waits = Step(0, 2 * steps, 1.0, self.sde.std(1.0), starts[second], self._mean(second, mask), None, 0)
        for done in path(first, padded, available):
            if not done.last:
                yield {
                    first: replace(done, total=waits.total),
                    second: replace(waits, index=done.index, nfe=done.nfe),
                }
        given = padded | {first: done.x / self.config.latent_scale * mask[:, None]}
        for step in path(second, given, ordered((*available, first))):
            at = {"index": done.index + step.index, "total": waits.total, "nfe": done.nfe + step.nfe}
            yield {first: replace(done, **at), second: replace(step, **at)}

    def _noise(self, seeds: Sequence[int], mask: Tensor) -> Noise:
        """Noise for latents with the padding mask `mask` (B, L), where that is."""
        return Noise(seeds, self.config.latent_channels, mask.shape[1], mask.device)

    def _mean(self, k: str, mask: Tensor) -> Tensor:
        """The training mean of a modality in the diffused scale, for every valid frame of `mask` (B, L)."""
        own = self._statistics(k)[0] * self.config.latent_scale
        mean = torch.zeros_like(own) if self.config.standardise_latents else own
        return mean * mask[:, None].expand(-1, self.config.latent_channels, -1)

    def crop(self, x: Tensor, frames: int) -> Tensor:
        """A state of a recovery as latents of `frames` frames: unscaled, without the padding."""
        return x[..., :frames] / self.config.latent_scale

    @torch.no_grad()
    def recover(
        self,
        latents: Latents,
        available: Tensor,
        *,
        valid: Tensor,
        seeds: Sequence[int],
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float = 1.0,
        order: str | None = None,
    ) -> Latents:
        """Latents with the rows' missing modalities drawn from p(missing | available); `available` (B, 3) bool.

        The arguments are those of `stream`. What is missing is never read. Rows with the same pattern run together;
        complete rows stay as they are.
        """
        out = {k: z.clone() for k, z in latents.items()}
        for row in torch.unique(available, dim=0):
            names = from_mask(row.tolist())
            if not missing(names):
                continue
            rows = (available == row).all(dim=1).nonzero()[:, 0]
            hidden = {k: z[rows] if k in names else torch.zeros_like(z[rows]) for k, z in latents.items()}
            path = self.stream(
                hidden,
                names,
                valid=valid[rows],
                seeds=[seeds[i] for i in rows.tolist()],
                sampler=sampler,
                steps=steps,
                guidance=guidance,
                order=order,
            )
            last = None
            for last in path:  # noqa: B007
                pass
            for k, step in last.items():
                out[k][rows] = self.crop(step.x, valid.shape[1])
        return out

    @torch.no_grad()
    def conditional_mean(self, latents: Latents, available: Tensor, valid: Tensor) -> Latents:
        """Like `recover`, with (nearly) E[x0 | available]: the denoised estimate at the highest noise level.

        Neither order nor temperature matters here: each mean is that given what is available.
        """
        out = {k: z.clone() for k, z in latents.items()}
        for row in torch.unique(available, dim=0):
            names = from_mask(row.tolist())
            rows = (available == row).all(dim=1).nonzero()[:, 0]
            hidden = {k: z[rows] if k in names else torch.zeros_like(z[rows]) for k, z in latents.items()}
            padded, mask = self._pad(hidden, valid[rows])
            for k in missing(names):
                seeds = [0] * len(rows)
                estimate = self.estimator(k, padded, names, mask, seeds=seeds)
                x = self.sde.prior(self._noise(seeds, mask)())
                out[k][rows] = self.crop(estimate(x, 1.0).denoised, valid.shape[1])
        return out

    def reconstruct(self, k: str, z: Tensor, valid: Tensor | None = None) -> Tensor:
        """D_k of recovered latents (B, D, L)."""
        whole = valid is None or bool(valid.all())
        return self.reconstructors[k](z, None if whole else valid[:, None].float())

    def predict(self, latents: Latents, valid: Tensor | None = None) -> Tensor:
        """T_k's answer to latents of the three modalities, true or recovered: a sentiment (B,), or class by class the
        probability (B, outputs) where there are several outputs."""
        return outcome(self.output(latents, valid))

    def output(self, latents: Latents, valid: Tensor | None = None) -> Tensor:
        """T_k's outputs (B, outputs): the sentiment, or a score a class."""
        return self.fusion({k: self.raw(k, z) for k, z in latents.items()}, valid)
