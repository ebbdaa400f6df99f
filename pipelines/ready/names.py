"""Ready recipes, trainings, studies and networks by name, and users' own by path."""

from __future__ import annotations

from pathlib import Path

from synth.errors import RecipeError, SettingsError
from synth.settings.nearest import nearest
from synth.storage.place import local_path

from .kinds import kind_of

HERE = Path(__file__).parent
RECIPES, TRAININGS, STUDIES = (HERE / folder for folder in ("recipes", "trainings", "studies"))
COMMANDS = {"recipe": "build", "training": "train", "study": "study"}
NETWORKS = HERE / "networks"  # each a folder, as `fathom publish` writes it


def named_recipe(name: str) -> Path:
    """The file of a recipe, by its path or by the name of a ready one; raises RecipeError with the known names."""
    return _named(name, RECIPES, "recipe", RecipeError)


def named_training(name: str) -> Path:
    """The file of a training; raises SettingsError with the known names."""
    return _named(name, TRAININGS, "training", SettingsError)


def named_study(name: str) -> Path:
    """The file of a study; raises SettingsError with the known names."""
    return _named(name, STUDIES, "study", SettingsError)


def ready_networks() -> dict[str, Path]:
    """The folders of the trained networks that come with the package, by name."""
    return {folder.name: folder for folder in sorted(NETWORKS.glob("*")) if (folder / "model.json").is_file()}


def _named(name: str, folder: Path, what: str, error: type[ValueError]) -> Path:
    path, ready = local_path(name), folder / f"{name}.toml"
    if path.suffix == ".toml" or path.is_file():
        return path
    if ready.exists():
        return ready
    known = sorted(p.stem for p in folder.glob("*.toml"))
    names = ", ".join(known)
    if path.is_dir():
        kind = kind_of(path) or "a folder"
        where = ", in which data.corpora names the corpora to train on" if what == "training" else ""
        raise error(
            f"{name}: is {kind}; `fathom {COMMANDS[what]}` takes a {what}{where}: a TOML file, or one of the ready "
            f"ones, {names}"
        )
    near = nearest(name, [*known, *(f"{path.stem}.toml" for path in Path().glob("*.toml"))])
    raise error(
        f"{name}: no such file, and no ready {what} of that name; "
        + (f"did you mean {near}? " if near else "")
        + f"{'T' if near else 't'}he ready ones are {names} (`fathom ready` tells which folders they need)"
    )
