"""A network or method that a user brings, by a file of Python code that is named on the command line.

Nothing else runs code: recipes, studies, trainings, checkpoints and cards are data, and none of them can name a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import json
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from synth.storage.arrays import sha256_of_file
from synth.storage.copies import local_copy
from synth.storage.place import Place, place_of
from synth.storage.whole import refuse_shortage

from ..data.packed_batch import Batch
from ..errors import CheckpointError, ModelError, TrainingError
from ..models.called import image_by
from ..models.catalogue import Reconstruction, make_model
from .checkpoint import load_tensors
from .model_files import give_weights, weights_file
from .settings import Training

SOURCE = re.compile(r"(?P<file>.+\.py):(?P<factory>[A-Za-z_]\w*)(?:,(?P<weights>.+))?")
PACKAGES = Path(__file__).resolve().parents[2]  # the folder of synth, recon and pipelines


@dataclass(frozen=True)
class OwnModel:
    """A model of a user's, called as ``model(batch) -> image``.

    Attributes
    ----------
    made
        The module or function, as the factory gave it.
    card
        Its identity: the file's name and sha256, the factory, the sha256 of the weights' file, and the shapes of all
        parameters. Files that the named file imports are not part of it.
    """

    made: Reconstruction
    card: dict[str, Any]
    file: Path | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """The image [batch y x]; raises ModelError, with the frames of the user's own code."""
        with blamed(self.file, str(self.card["factory"])):
            return image_by(self.made, batch)

    @property
    def identity(self) -> str:
        """sha256 of the card."""
        return hashlib.sha256(json.dumps(self.card, sort_keys=True).encode()).hexdigest()

    @classmethod
    def of(cls, made: Reconstruction) -> OwnModel:
        """A module or function from Python; its identity is its name and the shapes of its parameters."""
        factory = getattr(made, "__qualname__", type(made).__qualname__)
        return cls(made, {"kind": "own", "factory": factory, "parameters": _shapes(made)})


def is_own(name: str) -> bool:
    """Whether a model's name is that of a file of code; raises ModelError where it names no factory."""
    if name.endswith(".py") and not Path(name).is_dir():
        raise ModelError(f"{name}: write the name of a function or class after a colon, such as {name}:make")
    return SOURCE.fullmatch(name) is not None


def own_file(name: str) -> Path:
    """The file of code that a model's name names; raises ModelError where there is none."""
    return _parts(name)[0]


def own_identity(name: str) -> str:
    """sha256 of what a model's name stands for, without running it: the file's bytes, the factory, the weights."""
    file, factory, weights = _parts(name)
    return hashlib.sha256(
        json.dumps([sha256_of_file(file), factory, None if weights is None else sha256_of_file(weights)]).encode()
    ).hexdigest()


def own_history(name: str) -> dict[str, Any]:
    """What the card of the weights says of the data of their training; nothing where no training made them."""
    weights = _parts(name)[2]
    if weights is None:
        return {}
    try:
        card = load_tensors(weights)[1]
    except CheckpointError:
        return {}  # a file that another program wrote
    return {key: card[key] for key in ("data", "started_from") if key in card}


def load_own(name: str, device: torch.device | str = "cpu", seed: int = 0) -> OwnModel:
    """Run a user's file, and make the model that it describes.

    Parameters
    ----------
    name
        ``net.py:make``, or ``net.py:make,weights`` with a safetensors file, a file of `torch.save` that holds tensors
        alone, or the folder of a training. ``make`` is a factory, which takes nothing and gives a module or a
        function, or it is itself the function of a batch.
    device
        The device of a module.
    seed
        The seed of torch's generator while the factory runs.

    Raises
    ------
    ModelError
        The file, the factory or the weights cannot be used; errors in the user's code show its frames alone.
    """
    file, factory, weights = _parts(name)
    with blamed(file, factory), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = _made(_member(_module(file), file, factory))
    if not callable(made):
        raise ModelError(
            f"{file}:{factory} gives {type(made).__name__}; give a torch.nn.Module or a function of a batch"
        )
    card: dict[str, Any] = {"kind": "own", "file": file.name, "sha256": sha256_of_file(file), "factory": factory}
    if isinstance(made, nn.Module):
        if weights is not None:
            give_weights(made, _tensors(weights), weights)
        made = made.to(device)
    elif weights is not None:
        raise ModelError(f"{file}:{factory} is no torch.nn.Module, so it takes no weights; leave {weights} out")
    card |= {"weights": None if weights is None else sha256_of_file(weights), "parameters": _shapes(made)}
    return OwnModel(made, card, file)


@contextlib.contextmanager
def blamed(file: Path | None, factory: str) -> Iterator[None]:
    """Turn an error in a user's code into ModelError: a line that names it, and the user's own frames.

    What the code prints goes to standard error, so that results on standard output stay readable by programs.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (ModelError, CheckpointError) as error:
        raise type(error)(f"{_whose(file, factory)}: {error}") from None
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except SyntaxError as error:
        raise ModelError(f"{error.filename}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}") from None
    except (Exception, SystemExit) as error:
        if file is None:  # Python callers see their own traceback
            raise
        what = "".join(traceback.format_exception_only(error)).strip()
        frames = "".join(traceback.format_list(_own_frames(error, file))).rstrip()
        raise ModelError(f"{_whose(file, factory)}: {what}" + (f"\n{frames}" if frames else "")) from None


def _whose(file: Path | None, factory: str) -> str:
    return factory if file is None else f"{file}:{factory}"


def _own_frames(error: BaseException, file: Path) -> list[traceback.FrameSummary]:
    """The frames of a traceback that lie in the folder of a user's file, but in no installed package."""
    folder = file.resolve().parent
    ours = [PACKAGES / room for room in ("synth", "recon", "pipelines")]

    def is_own_frame(path: Path) -> bool:
        return (
            path.is_relative_to(folder)
            and "site-packages" not in path.parts
            and not any(map(path.is_relative_to, ours))
        )

    return [frame for frame in traceback.extract_tb(error.__traceback__) if is_own_frame(Path(frame.filename))]


def _parts(name: str) -> tuple[Path, str, Place | None]:
    found = SOURCE.fullmatch(name)
    if found is None:
        raise ModelError(f"{name} is not of the form FILE.py:FACTORY or FILE.py:FACTORY,WEIGHTS")
    file = Path(found["file"])
    if not file.is_file():
        raise ModelError(f"{file}: there is no such file")
    if found["weights"] is None:
        return file, found["factory"], None
    weights = place_of(found["weights"])
    if not weights.exists():
        raise ModelError(f"{weights}: there is no such file of weights")
    return file, found["factory"], weights_file(weights)


def _module(file: Path) -> Any:
    """The module of a file, which runs; files beside it can be imported."""
    name = f"own_model_{hashlib.sha256(bytes(file.resolve()) + file.read_bytes()).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file.resolve())
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look it up
        folder = str(file.resolve().parent)
        if folder not in sys.path:
            sys.path.append(folder)  # last, so that no file shadows a package
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _member(module: Any, file: Path, factory: str) -> Any:
    made = getattr(module, factory, None)
    if not callable(made):
        defined = [
            n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__
        ]
        raise ModelError(
            f"there is no function or class of this name; {file.name} defines {', '.join(defined) or 'none'}"
        )
    return made


def _made(factory: Callable[..., Any]) -> Any:
    """What a factory gives; a function that takes one argument, or is a module, is the model itself."""
    if isinstance(factory, nn.Module):
        return factory
    needed = [
        p.name
        for p in inspect.signature(factory).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) == 1 and not inspect.isclass(factory):
        return factory
    if needed:
        raise ModelError(
            f"takes {', '.join(needed)}, and a factory is called without arguments; give these defaults, or name a "
            "function that calls it with them"
        )
    return factory()


def _shapes(made: Any) -> dict[str, list[int]]:
    return {name: list(t.shape) for name, t in made.state_dict().items()} if isinstance(made, nn.Module) else {}


def _tensors(file: Place) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a file of `torch.save`, which is read without running its code."""
    try:
        with local_copy(file) as here:
            if file.suffix == ".safetensors":
                return load_file(here)
            found = torch.load(here, map_location="cpu", weights_only=True)
        found = found.get("state_dict", found)
        return {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
    except (SafetensorError, RuntimeError, ValueError, AttributeError, OSError, EOFError) as error:
        refuse_shortage(error)
        why = (str(error).splitlines() or [type(error).__name__])[0]
    except Exception as error:  # torch.load lets errors of pickle and of zip files through
        why = f"{type(error).__name__}: it may hold more than tensors, which could run code"
    raise ModelError(f"{file} holds no weights that can be read ({why}); save them with safetensors.torch.save_file")


def network_of(settings: Training, own: OwnModel | None) -> nn.Module:
    """The network to train; raises TrainingError if there is none, or if it has nothing to train."""
    if own is None and settings.model is not None:
        network = make_model(settings.model, settings.seed)
        network.checkpointing = settings.training.checkpointing  # type: ignore[assignment]
        return network
    if own is None:
        raise TrainingError(
            f"{settings.name} has no [model]; describe one there, or bring one: --model FILE.py:FACTORY"
        )
    if not isinstance(own.made, nn.Module) or not any(p.requires_grad for p in own.made.parameters()):
        raise TrainingError(f"{own.card['factory']} has no parameter to train; `fathom test` takes it as it is")
    return own.made
