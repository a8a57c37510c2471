"""Images: an ImageFolder, a torchvision data set already on disk, an .npz, or scikit-learn's digits."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frostline_trainer.contract import DataSpec
from frostline_trainer.data.arrays import labels, load_npz
from frostline_trainer.data.builtin import digits
from frostline_trainer.data.shape import DataShape
from frostline_trainer.data.source import ArraySource, Pair, Source, held_out
from frostline_trainer.errors import StudyFault
from frostline_trainer.seeds import derive

FOLDER_MEAN, FOLDER_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Channel statistics for images that are decoded on demand (those of ImageNet); arrays use their own."""


def open_images(data: DataSpec, seed: int) -> Source:
    """The images that `data` names, as three channels of floats, normalised per channel.

    Raises:
        StudyFault: nothing to read, or something that is no set of labelled images.
    """
    if data.builtin == "digits":
        images, which = digits()
        return _arrays(data, (images / 16.0, which), None, seed)
    assert data.path is not None
    path = Path(data.path)
    if not path.exists():
        raise StudyFault(f"data.path: there is no {path}; give a file or folder that this run can read")
    if data.torchvision:
        return _torchvision(data, path, seed)
    if path.suffix == ".npz":
        return _arrays(data, *load_npz(path), seed)
    return _folder(data, path, seed)


# --- arrays -----------------------------------------------------------------------------------------------------------


def _arrays(data: DataSpec, train: Any, valid: Any, seed: int) -> ArraySource:
    if valid is None:
        target, names = labels(train[1])
        images = _channels_first(train[0])
        kept, held = held_out(len(images), data.validation_fraction, seed)
        pairs = (images[kept], target[kept]), (images[held], target[held])
    else:
        target, names = labels(np.concatenate([train[1], valid[1]]))
        count = len(train[1])
        pairs = (_channels_first(train[0]), target[:count]), (_channels_first(valid[0]), target[count:])
    whole = pairs[0][0]
    divisor = 255.0 if whole.dtype == torch.uint8 else 1.0
    some = whole[:10_000].float() / divisor
    mean = some.mean((0, 2, 3), keepdim=True)
    std = some.std((0, 2, 3), keepdim=True)
    std = torch.where(std > 0, std, 1.0)
    size = data.image_size

    def transform(x: Tensor) -> Tensor:
        x = (x.float() / divisor - mean) / std
        if size and x.shape[-2:] != (size, size):
            x = torch.nn.functional.interpolate(x, (size, size), mode="bilinear", antialias=True)
        return x.expand(-1, 3, -1, -1)

    height, width = (size, size) if size else whole.shape[-2:]
    shape = DataShape("Images", (3, height, width), len(names))
    reading = {
        "classes": names, "divisor": divisor, "mean": mean.flatten().tolist(), "std": std.flatten().tolist(),
        "size": [height, width],
    }  # fmt: skip
    return ArraySource(shape, pairs[0], pairs[1], transform, _augment if data.augment else None, seed, reading)


def _channels_first(x: np.ndarray[Any, Any]) -> Tensor:
    """`[images, channels, height, width]`, one or three channels, uint8 as it is and floats as float32."""
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise StudyFault(f"data.path: images need shape [n, height, width] with 1 or 3 channels, not {list(x.shape)}")
    return torch.from_numpy(np.ascontiguousarray(x if x.dtype == np.uint8 else x.astype(np.float32)))


def _augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift by up to an eighth of the side (reflecting the border) and flip half of the images."""
    count, _, height, width = x.shape
    pad = max(1, height // 8)
    padded = torch.nn.functional.pad(x, (pad, pad, pad, pad), mode="reflect")
    top = torch.randint(0, 2 * pad + 1, (count,), generator=generator)
    left = torch.randint(0, 2 * pad + 1, (count,), generator=generator)
    flip = torch.rand(count, generator=generator) < 0.5
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.where(flip[:, None], torch.arange(width).flip(0), torch.arange(width))
    image = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


# --- decoded on demand ------------------------------------------------------------------------------------------------


class FolderSource(Source):
    """Images decoded from files as they are needed, by a few threads."""

    slow = True

    def __init__(
        self, train: tuple[Any, list[int]], valid: tuple[Any, list[int]], names: list[str], data: DataSpec, seed: int
    ):
        side = data.image_size or 224
        self.shape = DataShape("Images", (3, side, side), len(names))
        self.reading = {
            "classes": names, "divisor": 255.0, "mean": [*FOLDER_MEAN], "std": [*FOLDER_STD], "size": [side, side],
        }  # fmt: skip
        self.augmented = data.augment
        self._parts = train, valid
        self.train_samples, self.valid_samples = len(train[1]), len(valid[1])
        self._seed, self._side = seed, side
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="decode")
        self._mean = torch.tensor(FOLDER_MEAN).view(3, 1, 1)
        self._std = torch.tensor(FOLDER_STD).view(3, 1, 1)

    def training(self, indices: Tensor, position: int) -> Pair:
        """See `Source.training`."""
        images, indexes = self._parts[0]
        x, y = self._decode(images, [indexes[i] for i in indices.tolist()])
        if self.augmented:
            x = _augment(x, torch.Generator().manual_seed(derive(self._seed, "augment", position)))
        return x, y

    def validation(self, start: int, stop: int) -> Pair:
        """See `Source.validation`."""
        images, indexes = self._parts[1]
        return self._decode(images, indexes[start:stop])

    def _decode(self, images: Any, indexes: list[int]) -> Pair:
        pairs = list(self._threads.map(lambda i: self._one(*images[i]), indexes))
        return torch.stack([x for x, _ in pairs]), torch.tensor([y for _, y in pairs])

    def _one(self, image: Any, label: int) -> tuple[Tensor, int]:
        """Shorter side to the wanted side, the middle cut out."""
        image = image.convert("RGB")
        scale = self._side / min(image.size)
        size = [max(self._side, round(s * scale)) for s in image.size]
        pixels = torch.from_numpy(np.array(image.resize(size))).permute(2, 0, 1).float() / 255
        top, left = (pixels.shape[1] - self._side) // 2, (pixels.shape[2] - self._side) // 2
        return (pixels[:, top : top + self._side, left : left + self._side] - self._mean) / self._std, int(label)


def _folder(data: DataSpec, path: Path, seed: int) -> Source:
    from torchvision.datasets import ImageFolder

    def opened(folder: Path) -> Any:
        try:
            return ImageFolder(str(folder))
        except (FileNotFoundError, OSError) as error:
            raise StudyFault(
                f"data.path: {folder} is no image folder (one subfolder per class with images in it): {error}"
            ) from error

    if (path / "train").is_dir():
        train = opened(path / "train")
        for name in ("val", "valid", "validation", "test"):
            if (path / name).is_dir():
                valid = opened(path / name)
                if valid.classes != train.classes:
                    raise StudyFault(f"data.path: {path}/train and {path}/{name} have different classes")
                parts = (train, list(range(len(train)))), (valid, list(range(len(valid))))
                return FolderSource(*parts, train.classes, data, seed)
        path = path / "train"
    whole = opened(path)
    kept, held = held_out(len(whole), data.validation_fraction, seed)
    return FolderSource((whole, kept.tolist()), (whole, held.tolist()), whole.classes, data, seed)


def _torchvision(data: DataSpec, path: Path, seed: int) -> Source:
    from torchvision import datasets

    assert data.torchvision is not None
    kind = getattr(datasets, data.torchvision, None)
    if not inspect.isclass(kind):
        raise StudyFault(f"data.torchvision: torchvision has no data set {data.torchvision!r}; for instance CIFAR100")
    train, valid = (_part(kind, path, training) for training in (True, False))
    arrays = [getattr(part, "data", None) for part in (train, valid)]
    targets = [getattr(part, "targets", getattr(part, "labels", None)) for part in (train, valid)]
    if all(isinstance(a, np.ndarray | Tensor) for a in arrays) and all(t is not None for t in targets):
        pairs = [(np.asarray(a), np.asarray(t)) for a, t in zip(arrays, targets, strict=True)]
        return _arrays(data, pairs[0], pairs[1], seed)
    names = list(getattr(train, "classes", []))
    names = names or [str(i) for i in range(1 + max(int(train[i][1]) for i in range(len(train))))]
    return FolderSource((train, list(range(len(train)))), (valid, list(range(len(valid)))), names, data, seed)


def _part(kind: Callable[..., Any], path: Path, training: bool) -> Any:
    accepted = inspect.signature(kind).parameters
    ways: list[dict[str, Any]] = [{"train": training}] if "train" in accepted else []
    if "split" in accepted:
        ways = [{"split": name} for name in (("train",) if training else ("val", "valid", "test"))]
    if "download" in accepted:
        ways = [{**way, "download": False} for way in ways]
    error: Exception | None = None
    for way in ways or [{}]:
        try:
            return kind(str(path), **way)
        except (RuntimeError, ValueError, OSError) as failed:
            error = failed
    raise StudyFault(
        f"data.path: {path} does not hold {getattr(kind, '__name__', kind)} ({error}); "
        "put the data set there, nothing is downloaded"
    )
