"""Options that a command does not have, and values that an option cannot have."""

import pytest
from commands import run


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("build demo --out c --workers 0", "Invalid value for '--workers': '0'; it must be at least 1"),
        ("build demo --out c --workers many", "'many'; it must be a whole number"),
        ("build demo --out c --wait soon", "'soon'; it must be a number"),
        ("reconstruct photos-1 s.npy --out c --acceleration 0.5", "'0.5'; it must be a whole number"),
        ("reconstruct photos-1 s.npy --out c --map-sets 3", "'3'; it must be at most 2"),
        ("reconstruct photos-1 s.npy --out c --acc 4", "No such option: --acc; did you mean --acceleration?"),
        ("build demo --ou c", "No such option: --ou; did you mean --out?"),
        ("build demo --out c --s 3", "did you mean --set or --scheduler or --scheduler-file?"),
        ("test zero-filled c --batchsize 3", "did you mean --batch-size?"),
        ("build demo --out c --pairs 3", "No such option: --pairs; a key is changed with --set pairs=VALUE"),
        ("build demo --out c --reference-lines 24", "--set sampling.reference_lines=VALUE"),
        ("train first --out c --lr 1", "--set optimiser.rate=VALUE"),
        ("build demo --nothing-like-it", "No such option: --nothing-like-it; `fathom build -h` lists the options"),
    ],
)
def test_what_a_command_takes_in_their_place_is_told(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = run(*words.split())
    assert made.exit_code == 2
    assert told.replace("`fathom ", "`main ") in made.stderr.replace("`root ", "`main "), made.stderr
    assert not list(tmp_path.iterdir())
