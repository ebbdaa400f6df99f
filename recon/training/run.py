"""The parts of a training (model, optimiser, loader, state), its steps, and its checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from synth.storage.place import Place
from synth.version import versions

from ..data.datasets import PairDataset
from ..data.joined_pairs import joined
from ..data.loader import PairLoader, make_loader
from ..data.packed_batch import Batch
from ..data.pairs import Pairs
from ..errors import CheckpointError, TrainingError
from ..models.cuda_graphs import graphs_on
from ..models.unrolled_sense import UnrolledSense
from .checkpoint import flat_state, load_tensors, restore_state, save_tensors
from .late_losses import LateLosses
from .losses import loss_of
from .metrics_log import MetricsLog
from .model_files import described, give_weights, learnt_numbers, save_model, start_from
from .noisier import noisier, refuse_magnitudes
from .optimisers import optimiser_of
from .own_model import OwnModel, network_of
from .process_group import ProcessGroup
from .settings import AdamSpec, Training
from .state import State
from .usable_pairs import refuse_unusable


class Run:
    """One training in one process."""

    def __init__(
        self,
        settings: Training,
        corpora: list[PairDataset],
        validation: list[PairDataset],
        out: Place,
        identity: str,
        world: ProcessGroup,
        device: torch.device,
        own: OwnModel | None = None,
    ) -> None:
        self.settings, self.corpora, self.validation = settings, corpora, validation
        self.out, self.identity, self.versions = out, identity, versions("torch", "zarr", "numpy")
        self.world, self.device, self.state = world, device, State()
        self._losses = LateLosses()
        self._newest: Batch | None = None
        length = settings.training
        refuse_unusable([*corpora, *validation], settings)
        self.own, self.model = own, network_of(settings, own).to(device)
        self._started_from = (
            [] if settings.start is None else start_from(self.model, settings.start, None if own else settings.model)
        )
        self.optimiser = optimiser_of(self.model, settings)
        self._rates = [group.get("lr", 0.0) for group in self.optimiser.param_groups]
        sampling = {"seed": settings.seed, "device": device, "rank": world.rank, "world_size": world.size}
        sampling["window"] = settings.data.window
        self.loader: PairLoader = make_loader(joined(corpora), length.batch_size, **sampling)  # type: ignore[arg-type]
        self.epoch_steps = len(self.loader)
        if self.epoch_steps == 0:
            many = f" for each of {world.size} processes; start fewer" if world.size > 1 else "; build more pairs"
            raise TrainingError(f"the corpora give no batch{many}")
        self.steps = length.steps or (length.epochs or 1) * self.epoch_steps

    def advance(self, batch: Batch) -> None:
        """One step on a batch; `told` gives its loss when the device has sent it."""
        how = self.settings.optimiser
        if isinstance(how, AdamSpec):
            for group, rate in zip(self.optimiser.param_groups, self._rates, strict=True):
                group["lr"] = rate * how.factor(self.state.step, self.steps)

        batch = self._corrected(batch, self.state.step)
        self._newest = batch
        checks: list[Tensor] = []

        def closure(*, backward: bool = True) -> Tensor:
            return self._gradients(batch, checks) if backward else self._loss(batch)

        loss = self.optimiser.step(closure)  # type: ignore[arg-type]
        if isinstance(how, AdamSpec) and self.own is None and hasattr(self.model, "project"):
            self.model.project()  # type: ignore[operator]
        state = self.loader.state_dict()
        place = int(state["epoch"]), int(state["given"])
        self._losses.add(self.state.step + 1, loss, torch.stack(checks).sum(), batch, place)  # type: ignore[arg-type]

    def told(self, *, every: bool) -> Iterator[tuple[int, float]]:
        """Steps and losses that have come from the device, or, with `every`, all; raises TrainingError for NaN."""
        for step in self._losses.ready(every=every):
            if not math.isfinite(step.check):
                positions = self.loader.order.epoch(step.place[0])[step.place[1] - 1]
                told = f"loss {step.loss:g}, gradient's norm {step.check - step.loss:g}"
                raise TrainingError(
                    self._what_is_not_finite(step.batch, self.loader.order.pairs, positions, told, step.number)
                )
            yield step.number, step.loss

    def _gradients(self, batch: Batch, checks: list[Tensor]) -> Tensor:
        """The loss [], with its gradients in the parameters, both averaged over the processes."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser.zero_grad()
        loss = self._training_loss(batch)
        if not loss.requires_grad:
            raise TrainingError("the network's images do not depend on its parameters; is one detached, or a constant?")
        loss.backward()
        gradients = [p.grad for p in parameters if p.grad is not None]
        mean = loss.detach().clone()
        self.world.average([*gradients, mean])
        clip = getattr(self.settings.optimiser, "clip", 0.0)
        norm = nn.utils.clip_grad_norm_(parameters, clip or math.inf)
        checks.append(mean + norm)
        return mean

    def _training_loss(self, batch: Batch) -> Tensor:
        length = self.settings.training
        if length.supervise_steps == 0 or not isinstance(self.model, UnrolledSense):  # a user's own has no such steps
            return self._mean_loss(batch)
        *inner, last = self.model.steps(batch)
        final = loss_of(last, batch, length.loss).mean()
        if not inner:
            return final
        return (
            final + length.supervise_steps * torch.stack([loss_of(z, batch, length.loss).mean() for z in inner]).mean()
        )

    def _mean_loss(self, batch: Batch) -> Tensor:
        return loss_of(self._image(batch), batch, self.settings.training.loss).mean()

    def _image(self, batch: Batch) -> Tensor:
        image: Tensor = self.model(batch) if self.own is None else self.own(batch)
        return refuse_magnitudes(image) if self.settings.training.noisier else image

    def _corrected(self, batch: Batch, step: int) -> Batch:
        """The batch, with a noisy reference corrected where the settings ask for it."""
        how = self.settings.training.noisier
        return noisier(batch, how, self.settings.seed, step) if how else batch

    @torch.no_grad()
    def _loss(self, batch: Batch) -> Tensor:
        mean = self._mean_loss(batch)
        self.world.average([mean])
        return mean

    def _what_is_not_finite(self, batch: Batch, pairs: Pairs, positions: list[int], told: str, step: int) -> str:
        """A message that names the pairs; it is the same in every process."""
        bad = [
            pairs.name_of(position)
            for k, position in enumerate(positions)
            if not all(bool(torch.isfinite(batch[part][k].abs()).all()) for part in ("masked_kspace", "target"))
        ]
        named = self.world.gather((bad, [pairs.name_of(position) for position in positions]))
        has_one = (self.out / "checkpoint.safetensors").exists()
        where, kept = f"step {step}", "; the last good checkpoint is kept" if has_one else ""
        if any(names for names, _ in named):
            spoiled = ", ".join(name for names, _ in named for name in names)
            return f"{where}: {spoiled} holds NaN or infinity; run `fathom verify` on the corpus{kept}"
        used = ", ".join(name for _, names in named for name in names)
        if step == 1:  # no rate has had an effect
            return f"{where}: {told} on {used}; the network itself gives it, before any step: see its code or its start"
        return f"{where}: {told} on {used}; lower optimiser.rate, or set optimiser.clip = 1{kept}"

    def validation_is_due(self) -> bool:
        """Whether to validate now: after every `validate_every` steps, or after each epoch."""
        every = self.settings.training.validate_every or self.epoch_steps
        return bool(self.validation) and self.state.step % every == 0

    def patience_is_over(self) -> bool:
        """Whether the last `patience` validations brought no improvement."""
        return 0 < self.settings.training.patience <= self.state.waited

    def validate(self) -> float:
        """Mean loss over the validation corpora; saves the weights if the loss is the lowest so far."""
        mean = self._validation_loss()
        better = self.state.best is None or mean < self.state.best
        self.state.waited = 0 if better else self.state.waited + 1
        if better:
            self.state.best = mean
            if self.world.rank == 0:
                save_tensors(self.out / "best.safetensors", self.model.state_dict(), {"step": self.state.step})
        return mean

    @torch.no_grad()
    def _validation_loss(self) -> float:
        size, loss = self.settings.training.batch_size, self.settings.training.loss
        pairs = joined(self.validation)
        batches = make_loader(pairs, size, shuffle=False, device=self.device)
        losses: list[Tensor] = []
        self.model.eval()
        for stored, positions in zip(batches, batches.order.epoch(0), strict=True):
            batch = self._corrected(stored, -1)  # the same noise in every validation, and in no step
            losses.append(loss_of(self._image(batch), batch, loss))
            if not bool(torch.isfinite(losses[-1]).all()):
                raise TrainingError(
                    self._what_is_not_finite(batch, pairs, positions, "validation loss not finite", self.state.step)
                )
        self.model.train()
        total = torch.cat(losses).mean()
        self.world.average([total])  # the last digits may differ between GPUs, and all must decide alike
        return float(total)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        if self.world.rank != 0:
            return
        tensors, groups = flat_state(self.optimiser)
        weights = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        facts = {
            "identity": self.identity,
            "state": asdict(self.state),
            "loader": self.loader.state_dict(),
            "groups": groups,
        }
        save_tensors(self.out / "checkpoint.safetensors", {**tensors, **weights, "rng": torch.get_rng_state()}, facts)

    def resume(self) -> State:
        """Go on from the checkpoint if there is one."""
        file = self.out / "checkpoint.safetensors"
        if len(set(self.world.gather(file.exists()))) > 1:
            raise TrainingError(f"not all processes see {file}; --out must be a folder that they share")
        if not file.exists():
            return self.state
        tensors, facts = load_tensors(file)
        if facts.get("identity") != self.identity:
            raise TrainingError(
                f"{file} is the checkpoint of another training; put back this training's own, or choose another --out"
            )
        weights = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
        give_weights(self.model, weights, file)
        try:
            restore_state(self.optimiser, tensors, facts["groups"])
            self.loader.load_state_dict({**facts["loader"], "rank": self.world.rank})
            torch.set_rng_state(tensors["rng"])
            self.state = State.of(facts["state"], self.steps, self.epoch_steps, facts["loader"])
        except (LookupError, ValueError, TypeError, RuntimeError, AttributeError) as error:
            raise CheckpointError(f"{file} is damaged ({error}); restore it, or remove it and train anew") from None
        return self.state

    def finish(self, journal: MetricsLog) -> dict[str, Any]:
        """Write the model and its card; with validation corpora, the model is that of the best validation."""
        self.save()
        self.world.wait()
        weights, step_kept, loss = self._kept(journal)
        on_gpu = self.device.type == "cuda"
        self.model.load_state_dict(weights)
        card = {
            "name": self.settings.name,
            "model": self.own.card if self.own else self.settings.model_dump(mode="json")["model"],
            "parameters": sum(p.numel() for p in self.model.parameters()),
            **learnt_numbers({} if self.own else weights),
            "cg_residuals": self._residuals(),
            "steps": self.state.step,
            "step_kept": step_kept,
            "validation_loss": loss,
            "seconds": round(self.state.seconds, 1),
            "device": torch.cuda.get_device_name(self.device) if on_gpu else "cpu",
            "processes": self.world.size,
            **({"tf32": torch.backends.cudnn.allow_tf32, "cuda_graphs": graphs_on()} if on_gpu else {}),
            "identity": self.identity,
            "settings": self.settings.model_dump(mode="json"),
            "data": described(self.corpora),
            "started_from": self._started_from,
            "versions": self.versions,
        }
        if self.world.rank == 0:
            save_model(self.out, weights, card)
        self.world.wait()
        return card

    def _kept(self, journal: MetricsLog) -> tuple[dict[str, Tensor], int, float | None]:
        """The weights of the model, their step and their validation loss.

        A last step after which no validation was due is validated here, and not in the state: a longer training, which
        goes on from the same checkpoint, has no validation there.
        """
        weights, step, best = self.model.state_dict(), self.state.step, self.state.best
        if not self.validation:
            return weights, step, None
        if not self.validation_is_due():
            loss = self._validation_loss()
            journal.write(step, validation=loss)
            if best is None or loss < best:
                return weights, step, loss
        weights, facts = load_tensors(self.out / "best.safetensors")
        return weights, facts["step"], best

    def _residuals(self) -> list[float] | None:
        """How far the SENSE steps of an unrolled network are from their solutions, on the newest batch."""
        if not isinstance(self.model, UnrolledSense):
            return None
        batch = self._newest  # none where a training was killed after its last step
        batch = batch or next(iter(make_loader(joined(self.corpora), 1, shuffle=False, device=self.device)))
        return [float(f"{value:.2g}") for value in self.model.residuals(batch)]
