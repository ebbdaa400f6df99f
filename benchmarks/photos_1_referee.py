"""The networks that stand beside photos-1 before the referee: a variational network and fastMRI's VarNet.

    python benchmarks/photos_1_referee.py PHOTOS OUT NAME STEPS [START]   (PHOTOS: BSDS500's train; NAME: vn or varnet)

NAME learns from the pairs of the fifth part of photos-1's training whose masks are lines, since VarNet takes no others.
Their corpora are built in OUT, and the training in OUT/NAME-STEPS goes on where it was stopped. START is the folder of
another one, with whose weights it begins. Then, with fastMRI:

    fathom study referee --out OUT/referee --model photos-1=photos-1 --model vn=OUT/vn-STEPS
        --model varnet=benchmarks/photos_1_referee.py:varnet,OUT/varnet-STEPS

VarNet has 6 cascades and 8 channels, as in `peers_trained.py`, and the batch and the rate of fastMRI's own training
code, 1 and 1e-3; the variational network has the settings of `laptop-variational`. Both learn from `decibel`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from pipelines.ready.names import named_recipe, named_study, named_training
from pipelines.study.settings import load_study
from recon import from_fastmri, load_training, train
from synth.recipe import load_recipe

OWN = {"vn": [], "varnet": ["training.batch_size=1", "optimiser.rate=1e-3"]}


def varnet():
    from fastmri.models import VarNet

    return from_fastmri(VarNet(num_cascades=6, chans=8, pools=4, sens_chans=4, sens_pools=4))


def corpora(photos, out):
    """The corpora of lines of the fifth part of the training, built in ``out``."""
    study = load_study(named_study("photos-1"))
    for name in study.trainings["photos-1-fifth"].corpora:
        part = study.corpora[name]
        if not any("regular-2d" in change for change in part.set):
            path = out / f"{name}.zarr"
            recipe = load_recipe(named_recipe(part.recipe), [*part.set, f'source.path="{photos}"'])
            build(recipe, path, ClusterSpec("sync"))
            yield path


def main():
    photos, out, name, steps = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), sys.argv[3], int(sys.argv[4])
    found = [str(path) for path in corpora(photos, out)]
    begun = [f'start="{Path(sys.argv[5]).resolve()}"'] if len(sys.argv) > 5 else []
    changes = [f"data.corpora={found}", f"training.steps={steps}", *OWN[name], *begun]
    settings = load_training(named_training("laptop-variational"), changes)
    train(settings, out / f"{name}-{steps}", varnet() if name == "varnet" else None, tell=print)


if __name__ == "__main__":
    main()
