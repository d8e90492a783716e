"""Downloads, from servers on this machine: only when asked, whole and right or not at all."""

from __future__ import annotations

import hashlib
import io
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import convatlas
from convatlas.errors import ConvAtlasError
from convatlas.weights import published as module
from convatlas.weights.download import fetch_file
from convatlas.weights.published import published
from convatlas.weights.source import find_weights
from loopback import COMMIT, Server
from peers import largest_difference, peer
from tiny import python

TORCHVISION = "torchvision/MobileNet_V3_Small_Weights.IMAGENET1K_V1"
TIMM = "timm/mobilenetv3_small_100.lamb_in1k"


@pytest.fixture
def offered(server: Server, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """A network whose weights the server has under torchvision's tag, in a file named after its own hash."""
    model, content = peer(published()[TORCHVISION].counterpart), io.BytesIO()
    torch.save(model.state_dict(), content)
    file = f"mobilenet_v3_small-{hashlib.sha256(content.getvalue()).hexdigest()[:8]}.pth"
    server.files[file] = content.getvalue()
    table = published() | {TORCHVISION: replace(published()[TORCHVISION], file=file)}
    for place in (module, sys.modules["convatlas.weights.source"]):
        monkeypatch.setattr(place, "published", lambda: table)
    return model


@pytest.fixture
def repository(server: Server, tmp_path: Path) -> torch.nn.Module:
    """A network whose weights the server has as timm's hub repository."""
    from timm.models import save_for_hf

    model = peer(published()[TIMM].counterpart)
    save_for_hf(model, str(tmp_path / "saved"), safe_serialization=True)
    for path in (tmp_path / "saved").iterdir():
        server.files[f"{TIMM}:{path.name}"] = path.read_bytes()
    return model


def same_logits(ours: torch.nn.Module, theirs: torch.nn.Module) -> bool:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return largest_difference(ours(images), theirs(images)) <= 1e-5


def left(folder: Path) -> list[str]:
    """The files below a folder that are more than a kilobyte, and anything unfinished."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [
        path.name for path in files if path.stat().st_size > 5000 or "partial" in path.name or "incompl" in path.name
    ]


def test_torchvision_s_file_is_fetched_once_when_asked(offered: torch.nn.Module, server: Server, caches: Path) -> None:
    with pytest.raises(ConvAtlasError, match=r"is not on this disk. Allow `--download` \(10 MB\), or put mobilenet"):
        convatlas.create("mobilenet_v3_small", weights=TORCHVISION)
    assert server.asked == []
    seen: list[tuple[str, int, int]] = []
    source = find_weights(TORCHVISION, download=True, progress=lambda *step: seen.append(step))
    assert source.path.parent == caches / "torch/hub/checkpoints"
    assert source.notes == (f"fetched {TORCHVISION} into {source.path.parent}.",)
    assert seen[-1] == (f"fetch {source.path.name}", 10, 10)
    assert left(caches) == [source.path.name]
    assert same_logits(convatlas.create("mobilenet_v3_small", weights=TORCHVISION, download=True), offered)
    assert find_weights(name="mobilenet_v3_small").tag == TORCHVISION
    assert len(server.asked) == 1


def test_torchvision_s_file_is_fetched_without_torch(offered: torch.nn.Module, server: Server, caches: Path) -> None:
    (file,) = server.files
    code = """
import sys
from pathlib import Path
from convatlas.weights.download import fetch_file
fetch_file(sys.argv[1], Path(sys.argv[2]))
assert not {"torch", "huggingface_hub"} & set(sys.modules)
"""
    outcome = python(code, f"{server.address}/{file}", caches / file)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert (caches / file).read_bytes() == server.files[file]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"damage": True}, "what came has SHA-256 .* so it was thrown away. Try again"),
        ({"cut": True}, "the download failed .*the connection ended after .* Fetch mobilenet_v3_small-.*elsewhere"),
        ({"files": {}}, "the download failed .*HTTP Error 400"),
        ({"address": "down"}, "the download failed .*(refused|unreachable)"),
    ],
)
def test_a_failed_download_leaves_nothing(
    fault: dict[str, object], said: str, offered: torch.nn.Module, server: Server, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    if fault.pop("address", None):
        monkeypatch.setenv("CONVATLAS_MIRROR", "http://127.0.0.1:9")
    for name, value in fault.items():
        setattr(server, name, value)
    with pytest.raises(ConvAtlasError, match=said) as caught:
        find_weights(TORCHVISION, download=True)
    assert str(caches / "torch/hub/checkpoints") in str(caught.value)
    assert left(caches) == []


def test_an_interrupted_download_leaves_nothing(offered: torch.nn.Module, caches: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_weights(TORCHVISION, download=True, progress=interrupt)
    assert left(caches) == []


def test_a_killed_download_is_never_taken_for_whole(offered: torch.nn.Module, server: Server, caches: Path) -> None:
    server.pause_seconds = 30
    (file,) = server.files
    target = caches / "torch/hub/checkpoints" / file
    code = "import sys, pathlib; from convatlas.weights.download import fetch_file; fetch_file(sys.argv[1], pathlib.Path(sys.argv[2]))"
    process = subprocess.Popen([sys.executable, "-c", code, f"{server.address}/{file}", str(target)])
    try:
        for _ in range(400):
            if any(path.stat().st_size > 10**6 for path in target.parent.glob("*.partial")):
                break
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [path.suffix for path in target.parent.iterdir()] == [".partial"]
    with pytest.raises(ConvAtlasError, match="not on this disk"):
        find_weights(TORCHVISION)
    server.pause_seconds = 0
    find_weights(TORCHVISION, download=True)
    assert target.read_bytes() == server.files[file]


def test_an_address_that_is_none(caches: Path) -> None:
    with pytest.raises(ConvAtlasError, match="no address/x.pth: the download failed"):
        fetch_file("no address/x.pth", caches / "x.pth")


def test_a_repository_is_fetched_once_into_the_hub_s_cache(repository: torch.nn.Module, server: Server, caches: Path) -> None:  # fmt: skip
    with pytest.raises(ConvAtlasError, match=r"is not on this disk. Allow `--download` \(about 10 MB\)"):
        convatlas.create("mobilenet_v3_small", weights=TIMM)
    assert server.asked == []
    assert same_logits(convatlas.create("mobilenet_v3_small", weights=TIMM, download=True), repository)
    source = find_weights(TIMM)
    assert source.path.parent == caches / "hub/hub" / f"models--{TIMM.replace('/', '--')}" / "snapshots" / COMMIT
    asked = len(server.asked)
    find_weights(TIMM, download=True)
    assert len(server.asked) == asked, "nothing is asked for what is there"


def test_a_repository_in_no_table_is_fetched(repository: torch.nn.Module, server: Server, caches: Path) -> None:
    files = {key.partition(":")[2]: content for key, content in server.files.items()}
    weights = io.BytesIO()
    torch.save(repository.state_dict(), weights)
    server.files = {
        "somebody/net:config.json": files["config.json"],
        "somebody/net:pytorch_model.bin": weights.getvalue(),
    }
    source = find_weights("hf-hub:somebody/net", download=True)
    assert (source.name, source.path.name) == ("mobilenet_v3_small", "pytorch_model.bin")
    assert same_logits(convatlas.create("mobilenet_v3_small", weights="hf-hub:somebody/net"), repository)
    server.files = {"somebody/code:config.json": files["config.json"]}
    with pytest.raises(ConvAtlasError, match="somebody/code: has neither model.safetensors nor pytorch_model.bin"):
        find_weights("hf-hub:somebody/code", download=True)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"damage": True}, "model.safetensors: what came has SHA-256 .* so it was thrown away"),
        ({"cut": True}, "the download failed .* Fetch the repository elsewhere, and give its folder"),
        ({"files": {}}, "the download failed"),
        ({"address": "down"}, "the download failed"),
    ],
)
def test_a_failed_repository_leaves_no_weights(
    fault: dict[str, object], said: str, repository: torch.nn.Module, server: Server, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    if fault.pop("address", None):
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda _: None)  # the hub's library tries five times, and waits longer each time
    for name, value in fault.items():
        setattr(server, name, value)
    with pytest.raises(ConvAtlasError, match=said) as caught:
        find_weights(TIMM, download=True)
    assert TIMM in caught.value.message
    assert left(caches / "hub") == []
    with pytest.raises(ConvAtlasError, match="is not on this disk"):
        find_weights(TIMM)


def test_pack_and_fit_download_when_asked(offered: torch.nn.Module, photos: Path, caches: Path) -> None:
    (caches / "names.txt").write_text("\n".join(f"kind {i}" for i in range(1000)))
    with pytest.raises(ConvAtlasError, match="is not on this disk"):
        convatlas.fit(photos, weights=TORCHVISION, out=caches / "fit")
    names = caches / "names.txt"
    folder = convatlas.pack(None, weights=TORCHVISION, out=caches / "model", classes=names, download=True)
    assert len(convatlas.load(folder).classes) == 1000


def test_without_a_tag_the_best_is_fetched(offered: torch.nn.Module, server: Server) -> None:
    source = find_weights(name="mobilenet_v3_small", download=True)
    assert source.tag == TORCHVISION
    with pytest.raises(ConvAtlasError, match="no weights for lenet5 on this disk, and none are published"):
        find_weights(name="lenet5", download=True)
