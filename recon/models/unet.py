"""A U-net for complex images: real and imaginary parts in, a correction to them out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """The U-net of Ronneberger 2015 with residual output: image [batch y x] + the net's correction.

    Each level is two 3x3 convolutions with leaky rectifiers; it halves the resolution by strided convolution and
    doubles the channels. There is no normalisation and no bias, so that the net is homogeneous: f(a x, a c) = a f(x, c)
    for a > 0, and what it has learnt at one brightness and noise level holds at others (Mohan et al., ICLR 2020, on
    denoisers). Images are padded by reflection to a multiple of 2^levels, and the result is cropped. `conditions`
    numbers per image, in the image's unit (a noise level, for instance), enter as constant planes. With `images` 2, the
    net takes a second image beside the one that it corrects. With `bf16`, convolutions are done in bfloat16, while
    weights and image stay in single precision.
    """

    def __init__(
        self, channels: int = 32, levels: int = 3, conditions: int = 0, *, images: int = 1, bf16: bool = False
    ) -> None:
        super().__init__()
        self.levels, self.conditions, self.bf16 = levels, conditions, bf16
        widths = [channels * 2**k for k in range(levels + 1)]
        self.first = _block(2 * images + conditions, widths[0])
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2, bias=False) for a, b in pairs)
        self.encode = nn.ModuleList(_block(b, b) for _, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2, bias=False) for a, b in reversed(pairs))
        self.decode = nn.ModuleList(_block(2 * a, a) for a, _ in reversed(pairs))
        self.last = nn.Conv2d(widths[0], 2, 1, bias=False)
        nn.init.zeros_(self.last.weight)  # at first the net adds nothing
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: Tensor, conditions: Tensor | None = None, beside: Tensor | None = None) -> Tensor:
        """Correct images [batch y x], with the images `beside` and `conditions` [batch condition] as further inputs.

        Raises ValueError for a wrong number of conditions, and for images too small for the levels.
        """
        given = 0 if conditions is None else conditions.shape[1]
        if given != self.conditions:
            raise ValueError(f"this U-net takes {self.conditions} conditions per image, got {given}")
        shown = [torch.view_as_real(part) for part in ([image] if beside is None else [image, beside])]
        x = torch.cat(shown, dim=-1).to(self.last.weight.dtype)
        x = x.permute(0, 3, 1, 2)  # channels lie last in memory: faster convolutions
        if conditions is not None:
            planes = conditions[:, :, None, None].to(x).expand(-1, -1, *x.shape[-2:])
            x = torch.cat([x, planes], dim=1)
        rows, columns = image.shape[-2:]
        step = 2**self.levels
        if -rows % step >= rows or -columns % step >= columns:
            raise ValueError(f"images of {rows}x{columns} are too small for {self.levels} levels; lower model.levels")
        if rows % step or columns % step:
            x = nn.functional.pad(x, (0, -columns % step, 0, -rows % step), mode="reflect")
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            change = self._correction(x)[..., :rows, :columns].to(image.real.dtype)
        return image + torch.view_as_complex(change.permute(0, 2, 3, 1).contiguous())

    @torch.no_grad()
    def begin_as(self, narrower: UNet) -> None:
        """Take the weights of a U-net with fewer channels and as many levels; the images are then the same.

        Its channels come first. Weights to them from the new channels are 0, and training changes that; weights to the
        new channels stay as they are. (Net2Net, Chen et al., ICLR 2016, copies channels to the same end.)
        """
        for (mine, parts), (theirs, their_parts) in zip(self._layers(), narrower._layers(), strict=True):
            places = zip(torch.arange(sum(parts)).split(parts), their_parts, strict=True)
            mine[: len(theirs)] = 0
            mine[: len(theirs), torch.cat([place[:size] for place, size in places])] = theirs

    def _layers(self) -> Iterator[tuple[Tensor, list[int]]]:
        """The weight [output input y x] of each convolution, and how many channels each image has that it takes."""
        for name, weight in self.named_parameters():
            images = 2 if name.startswith("decode.") and name.endswith(".0.weight") else 1  # beside the skipped one
            turned = weight.transpose(0, 1) if name.startswith("up.") else weight
            yield turned, [turned.shape[1] // images] * images

    def _correction(self, x: Tensor) -> Tensor:
        skips = [self.first(x)]
        for down, encode in zip(self.down, self.encode, strict=True):
            skips.append(encode(down(skips[-1])))
        x = skips.pop()
        for up, decode in zip(self.up, self.decode, strict=True):
            x = decode(torch.cat([up(x), skips.pop()], dim=1))
        return self.last(x)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions, each followed by a leaky rectifier."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.LeakyReLU(0.1, inplace=True),
    )
