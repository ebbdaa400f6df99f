import hashlib
import json
import pickle
import warnings

import pytest
import torch
from corpus_forms import exchange
from safetensors import safe_open
from safetensors.torch import save_file
from trainings import NETWORKS, Stopped, settings, stop_at, weights

from recon.errors import CheckpointError
from recon.training.check import check_training
from recon.training.checkpoint import load_tensors, save_tensors
from recon.training.loop import train
from recon.training.model_files import load_model
from synth.storage.whole import UncheckedWarning


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
    cut = [(640).to_bytes(8, "little") + b'{"__metadata__"', b"\x80\x04"]  # a header of 640 bytes; too few to tell
    for content, message in zip(cut, ("cut short or damaged", "is a pickle"), strict=True):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            load_tensors(file)
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


def test_every_byte_of_a_file_of_tensors_counts(tmp_path):
    file = tmp_path / "model.safetensors"
    save_tensors(file, {"x": torch.arange(6.0), "y": torch.ones(2, 3)}, {"step": 3})
    whole = file.read_bytes()
    for place in range(len(whole)):
        for change in (1, 0x20):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
            with pytest.raises(CheckpointError, match=r"model\.safetensors"):
                load_tensors(file)
    file.write_bytes(whole)
    assert load_tensors(file)[1] == {"step": 3}


def test_the_sum_is_of_the_file_with_zeros_in_its_place(tmp_path):
    file = tmp_path / "model.safetensors"
    save_tensors(file, {"x": torch.ones(2)}, {})
    with safe_open(file, framework="pt") as opened:
        told = opened.metadata()["sha256"].encode()
    assert hashlib.sha256(file.read_bytes().replace(told, b"0" * 64)).hexdigest().encode() == told


def test_files_without_a_sum_load_and_that_is_said_once(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"x": torch.ones(2)}, file, {"schema": "1", "fathom": "{}"})  # as before there were sums
    with pytest.warns(UncheckedWarning, match="without a checksum: damage would not be noticed"):
        assert load_tensors(file)[1] == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_tensors(file)
    save_file({"x": torch.ones(2)}, file, {"schema": "2", "fathom": "{}"})
    with pytest.raises(CheckpointError, match="checksum or its facts are missing"):
        load_tensors(file)


NONSENSE = {
    "a step before the first": ({"step": -5}, "step -5 of 6"),
    "a step after the last": ({"step": 7}, "step 7 of 6"),
    "a step that is a word": ({"step": "3"}, "step '3' of 6"),
    "a step beside its batch": ({"step": 4}, "step 4, but epoch 0, batch 2"),
    "endless waiting": ({"waited": 99}, "99 validations"),
    "time before the start": ({"seconds": -1.0}, "seconds = -1.0"),
    "no best loss": ({"best": "low"}, "best = 'low'"),
    "an unknown key": ({"stride": 1}, "stride"),
}


def test_nonsense_in_a_checkpoint_is_refused_with_its_path(corpus, tmp_path):
    short = settings(corpus, training={"steps": 6})
    with pytest.raises(Stopped):
        train(short, tmp_path / "out", device="cpu", tell=stop_at(3))
    file = tmp_path / "out" / "checkpoint.safetensors"
    tensors, facts = load_tensors(file)
    for state, message in NONSENSE.values():
        save_tensors(file, tensors, {**facts, "state": {**facts["state"], **state}})
        with pytest.raises(CheckpointError, match=rf"checkpoint\.safetensors is damaged .*{message}"):
            train(short, tmp_path / "out", device="cpu")
    moment = next(name for name in tensors if name.endswith("exp_avg"))
    for changed in ({"rng": torch.zeros(3, dtype=torch.uint8)}, {moment: torch.ones(2, 7)}):
        save_tensors(file, {**tensors, **changed}, facts)
        with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors is damaged"):
            train(short, tmp_path / "out", device="cpu")
    save_tensors(file, tensors, {k: v for k, v in facts.items() if k != "loader"})
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors is damaged"):
        train(short, tmp_path / "out", device="cpu")
    save_tensors(file, tensors, facts)
    train(short, tmp_path / "out", device="cpu")


def test_a_finished_training_is_checked_file_by_file(corpus, tmp_path):
    out = tmp_path / "out"
    train(
        settings(corpus, data={"validation": [str(corpus)]}, training={"steps": 2, "validate_every": 1}),
        out,
        device="cpu",
    )
    problems, not_covered = check_training(out)
    assert (problems, set(not_covered)) == ([], {"metrics.jsonl", "tensorboard"})
    for name in ("model.safetensors", "checkpoint.safetensors", "best.safetensors", "model.json", "settings.json"):
        whole = (out / name).read_bytes()
        (out / name).write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
        (problem,) = check_training(out)[0]
        assert name in problem
        (out / name).write_bytes(whole)
    one, other = out / "best.safetensors", out / "checkpoint.safetensors"
    exchange(one, other)
    assert ["belongs elsewhere" in problem for problem in check_training(out)[0]] == [True, True]
    exchange(one, other)
    (out / "notes.txt").write_text("mine")
    assert check_training(out)[1]["notes.txt"] == "is not part of the training"
    told = json.loads((out / "settings.json").read_text())
    del told["settings"]["training"]["patience"]  # as an earlier version, which did not have it, began the training
    (out / "settings.json").write_text(json.dumps(told, indent=2) + "\n")
    assert check_training(out)[0] == []
    (out / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has not ended"):
        check_training(out)
