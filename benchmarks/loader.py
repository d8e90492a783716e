"""Photos to standardised batches: our threads against torchvision's `ImageFolder` with a `DataLoader` of two workers.

Both take the same 397 photos, draw a random resized crop to 224, flip half of them and deliver float32 batches (32, 3, 224, 224), less
ImageNet's mean and over its deviation; each side in a process of its own, sides in turn (loader_side.py). Nothing consumes the batches, so
this is the most images a second that a training run could get.

What was tried, for photos of 500 × 375, in milliseconds of one thread's processor time, the least of six (4.4 in all for the peer's
transforms; 2.3 for ours, and 0.15 for the batch):

- JPEG: Pillow 2.3, simplejpeg 1.75. Its fast cosine transform and upsampling: no faster. At 1/8 of the size, 1.06: what remains are the
  Huffman codes. At 3/4: 1.76, since only 1/2, 1/4 and 1/8 are vectorised, and a crop to 224 seldom leaves 448 of 375 pixels.
- Large photos gain by 1/2, 1/4, 1/8, with the crop kept at least twice as large as its result: 34 → 27 ms for 2592 × 1944, 22 → 12 for
  1488 × 1984; then the result differs from that of the whole by 0.2 to 0.3 of 255 levels in the mean, 3 to 4 at most. Kept once as
  large: 21 and 11 ms, 0.5 to 0.6 in the mean, 10 to 14 at most, and not used.
- Crop and resize: Pillow 0.93 (with `box=` 1.00), torch's kernel for bytes 0.25, equal but for one level in 2 % of the values. A view of
  the crop instead of a copy costs several times as much: torch then copies it with threads of its own.
- By way of a Pillow image: 0.35 more than slicing the decoded array.
- To float, a batch at once: 0.12 an image with rows of pixels as runs of numbers, 0.39 with a mean for each channel broadcast over pixels
  whose channels come last. Flips image by image in place: 0.02; by a mask of the batch: 0.26.
"""

from __future__ import annotations

import statistics

from measuring import ROOT, SHARED, Finished, interleaved, python, ratios, say, section, spread, table, target

DATA = SHARED / "data/hymenoptera"
SCRIPT = ROOT / "benchmarks/loader_side.py"
REPEATS, WORKERS, PASSES = 5, 2, 3


def side(name: str) -> Finished:
    return python("-W", "ignore", SCRIPT, name, DATA, str(WORKERS), str(PASSES))


def main() -> None:
    say("one round to warm the disk, not counted")
    side("ours")
    runs = interleaved(REPEATS, ours=lambda: side("ours"), peer=lambda: side("peer"))
    found = {name: [run.json for run in runs[name]] for name in runs}
    rows, measured = [], {}
    for what, key, digits in (
        ("steady, images a second", "steady", 0),
        ("a whole epoch, images a second", "epoch", 0),
        ("to the first batch, seconds", "start", 2),
    ):
        values = {
            name: [run["images"] / run[key] if key == "epoch" else run[key] for run in found[name]] for name in found
        }
        measured[key] = ratios(values["ours"], values["peer"])
        rows.append((what, spread(values["ours"], digits), spread(values["peer"], digits), spread(measured[key])))
    images = found["ours"][0]["images"]
    assert images == found["peer"][0]["images"]
    section(
        "Loading photos: threads beside ImageFolder and DataLoader",
        f"{images} photos (the GIF excluded) read, decoded, randomly cropped to 224, flipped and standardised in batches of 32, by "
        f"`Streamed` with {WORKERS} threads and by `ImageFolder` and `DataLoader(num_workers={WORKERS})`; one thread of torch in the "
        f"main process of both, nothing consumes the batches. {REPEATS} rounds, sides in turn, medians (least–greatest), ratios of one "
        f"round. *Steady* is {PASSES} passes in one go without their first 8 batches; *a whole epoch* begins with listing the folder and "
        "starts the threads or processes; everything is imported before.",
        table(("", "ours", "torchvision", "ours / theirs"), rows),
        targets=[
            target(
                "steady: at least 1.5 × the peer",
                spread(measured["steady"]),
                statistics.median(measured["steady"]) >= 1.5,
            ),
            target(
                "a whole epoch: at least 1.5 × the peer",
                spread(measured["epoch"]),
                statistics.median(measured["epoch"]) >= 1.5,
            ),
        ],
        peers=("torchvision", "simplejpeg"),
    )


if __name__ == "__main__":
    main()
