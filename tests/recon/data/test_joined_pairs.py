import torch
from trainings import settings

from recon.data.datasets import PairDataset
from recon.data.joined_pairs import JoinedPairs
from recon.data.loader import make_loader
from recon.training.loop import train
from recon.training.model_files import strangeness


def test_joint_training_takes_from_every_corpus(corpus, other_corpus, tmp_path):
    pairs = JoinedPairs([PairDataset(corpus), PairDataset(other_corpus)])
    shapes = [tuple(batch["masked_kspace"].shape[1:]) for batch in make_loader(pairs, 3, device="cpu")]
    assert set(shapes) == {(4, 48, 56), (3, 40, 44)}
    assert "other.zarr, pair 0" in pairs.name_of(10)
    single = PairDataset(other_corpus)[2]
    for name, value in pairs[12].items():
        assert torch.equal(value, single[name]), name
    both = settings(corpus, data={"corpora": [str(corpus), str(other_corpus)]})
    card = train(both, tmp_path / "out", device="cpu")
    assert [part["coils"] for part in card["data"]] == [[4], [3]]


def test_strange_corpora_are_told(corpus, other_corpus, tmp_path):
    card = train(settings(corpus), tmp_path / "out", device="cpu")
    assert strangeness(card, [PairDataset(corpus)]) == []
    told = strangeness(card, [PairDataset(other_corpus)])
    assert told[0] == "coils of 6 of 6 pairs: 3; the network was trained on 4, and may do worse here"
    earlier = {**card, "data": [{k: v for k, v in part.items() if k != "scope"} for part in card["data"]]}
    coils, matrix = strangeness(earlier, [PairDataset(other_corpus)])
    assert "the number of coils was 4 in training, but is 3 in this corpus" in coils
    assert "[48, 56]" in matrix
