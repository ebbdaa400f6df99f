import pickle

import pytest
import torch
from trainings import NETWORKS, Stopped, settings, stop_at, weights

from recon.errors import CheckpointError
from recon.training.checkpoint import load_tensors, save_tensors
from recon.training.loop import train
from recon.training.model_files import load_model


def test_bad_checkpoints_are_refused(corpus, tmp_path):
    train(settings(corpus), tmp_path / "out", device="cpu")
    whole = weights(tmp_path / "out")
    file = tmp_path / "model.safetensors"
    for content, message in (
        (whole[: len(whole) // 2], "cut short or damaged"),
        (b"", "cut short or damaged"),
        (b"\xff" * 4000, "cut short or damaged"),
        (pickle.dumps({"weights": 1}), "is a pickle"),
        (b"PK\x03\x04" + whole, "is a pickle"),
    ):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            load_model(file)
    for filler in range(300):  # a header of 128 bytes modulo 256 begins as a pickle does, but is not a pickle
        save_tensors(file, {"x": torch.ones(2)}, {"model": "x" * filler})
        if file.read_bytes().startswith(b"\x80"):
            break
    else:
        pytest.fail("no header of such a length was made")
    assert load_tensors(file)[1] == {"model": "x" * filler}
    from safetensors.torch import save_file

    save_file({"x": torch.ones(2)}, file, {"schema": "99", "fathom": "{}"})
    with pytest.raises(CheckpointError, match="schema 99"):
        load_model(file)
    save_tensors(file, {"x": torch.ones(2)}, {"model": NETWORKS["variational"]})
    with pytest.raises(CheckpointError, match="another network"):
        load_model(file)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_model(tmp_path / "nowhere.safetensors")


def test_a_damaged_checkpoint_stops_a_resumed_training(corpus, tmp_path):
    with pytest.raises(Stopped):
        train(settings(corpus), tmp_path / "out", device="cpu", tell=stop_at(3))
    (tmp_path / "out" / "checkpoint.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="damaged"):
        train(settings(corpus), tmp_path / "out", device="cpu")
