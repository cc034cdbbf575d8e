"""Weights by name and by file, the authors' files strictly, and what is refused."""

import functools
import hashlib
import http.server
import threading
from pathlib import Path

import pytest
import torch

from desdis import checkpoints
from desdis.architectures import build
from desdis.checkpoints import load_network, save_network
from desdis.errors import UserError

AUTHORS = Path(__file__).parents[3] / "shared/weights/official"
needs_authors_files = pytest.mark.skipif(not AUTHORS.is_dir(), reason="../shared/weights/official is absent")


def waves() -> torch.Tensor:
    """(5, 1, 32, 32) fixed synthetic patches in 0..255."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    return torch.stack([127 + 60 * torch.sin(x / (2 + k)) + 60 * torch.cos((y + k * x) / 5) for k in range(5)])[:, None]


# First four numbers of the first patch's and of the last patch's descriptor, by the authors' files.
GOLDEN = {
    8: [[0.03194, -0.03637, 0.05799, -0.07427], [0.18427, -0.07244, 0.03824, -0.19649]],
    16: [[0.01871, -0.06041, 0.00637, -0.02804], [-0.073, 0.05348, -0.05886, 0.02622]],
    24: [[0.03021, 0.04692, -0.05203, 0.08942], [-0.17854, -0.0565, 0.08553, 0.09851]],
    32: [[-0.00951, 0.09202, -0.04186, 0.06962], [0.02334, -0.14308, -0.00453, -0.09648]],
}


@needs_authors_files
@pytest.mark.parametrize("width", [8, 16, 24, 32])
def test_the_authors_files_load_strictly_and_answer_as_ever(width, monkeypatch):
    monkeypatch.setenv("DESDIS_OFFICIAL", str(AUTHORS))
    network, info = load_network(f"official/desdis-{width}")
    assert (info.architecture, info.parameters) == (f"desdis-{width}", 234 * width**2 + 8201 * width + 128)
    assert info.sha256 == checkpoints.OFFICIAL[f"desdis-{width}"][1]
    with torch.no_grad():
        answers = network(waves())
    assert not network.training
    torch.testing.assert_close(answers[[0, -1], :4], torch.tensor(GOLDEN[width]), atol=1e-4, rtol=0)


def test_safetensors_round_trip_with_metadata(tmp_path):
    network = build("desdis-8").eval()
    file = tmp_path / "some.safetensors"
    save_network(network, file, {"seed": "3"})
    again, info = load_network(file)
    assert info.metadata["seed"] == "3" and info.architecture == "desdis-8"
    assert info.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    for key, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    assert list(tmp_path.iterdir()) == [file]


def test_half_precision_halves_the_file_and_keeps_the_answer(tmp_path):
    network = build("desdis-16").eval()
    network.layer1[2].running_var.fill_(1e6)  # would overflow: stays float32
    save_network(network, tmp_path / "full.safetensors", {})
    save_network(network, tmp_path / "half.safetensors", {}, half=True)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    with torch.no_grad():
        a, b = (load_network(tmp_path / f"{name}.safetensors")[0](waves()) for name in ("half", "full"))
    assert (a - b).norm(dim=1).max() < 5e-3


@pytest.mark.parametrize("name", checkpoints.available())
def test_every_shipped_name_loads(name):
    if name.startswith("official/"):
        assert name.removeprefix("official/") in checkpoints.OFFICIAL
        return
    network, info = load_network(name)
    assert info.architecture in (name, name.removeprefix("desdis-")) and info.metadata["scenes"]
    with torch.no_grad():
        torch.testing.assert_close(network(waves()).norm(dim=1), torch.ones(5))


def test_refusals_name_the_file_and_the_remedy(tmp_path):
    with pytest.raises(UserError, match=r"no weights called 'nothing'.*official/desdis-32"):
        load_network("nothing")
    with pytest.raises(UserError, match="published no 'desdis-9'"):
        load_network("official/desdis-9")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UserError, match="not a file of network weights"):
        load_network(tmp_path / "text.pth")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
    with pytest.raises(UserError, match="another architecture"):
        load_network(tmp_path / "linear.pth")
    torch.save({"layer1.1.weight": 3}, tmp_path / "numbers.pth")
    with pytest.raises(UserError, match="something else than named weights"):
        load_network(tmp_path / "numbers.pth")
    state = build("desdis-8").state_dict()
    torch.save({**state, "desc.1.weight": torch.zeros(128, 32, 3, 3)}, tmp_path / "shape.pth")
    with pytest.raises(UserError, match="do not fit.*give another file") as error:
        load_network(tmp_path / "shape.pth")
    assert "\n" not in str(error.value) and "desc.1.weight" in str(error.value)
    torch.save({**state, "desc.1.bias": torch.full((128,), torch.nan)}, tmp_path / "nan.pth")
    with pytest.raises(UserError, match=r"desc\.1\.bias holds numbers that are not finite"):
        load_network(tmp_path / "nan.pth")


def test_a_file_with_code_in_it_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"layer1.1.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="not a file of network weights"):
        load_network(tmp_path / "evil.pth")
    assert not (tmp_path / "touched").exists()


@pytest.fixture
def server(tmp_path):
    """A web server of tmp_path/site on this machine; its address."""
    (tmp_path / "site").mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_the_authors_files_are_fetched_once_and_checked(server, tmp_path, monkeypatch):
    torch.save(build("desdis-8").state_dict(), tmp_path / "site/DesDis-8.pth")
    sha256 = hashlib.sha256((tmp_path / "site/DesDis-8.pth").read_bytes()).hexdigest()
    monkeypatch.setenv("DESDIS_OFFICIAL", server)
    monkeypatch.setenv("DESDIS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="is not the authors' file"):  # the true hash does not fit random weights
        load_network("official/desdis-8")
    monkeypatch.setitem(checkpoints.OFFICIAL, "desdis-8", ("DesDis-8.pth", sha256))
    assert load_network("official/desdis-8")[1].path.parent == tmp_path / "cache"
    (tmp_path / "site/DesDis-8.pth").unlink()
    assert load_network("official/desdis-8")[1].sha256 == sha256  # from the cache
    with pytest.raises(UserError, match=r"cannot fetch .*DesDis-16.pth.*DESDIS_OFFICIAL"):
        load_network("official/desdis-16")


def test_a_folder_can_stand_for_the_address(tmp_path, monkeypatch):
    monkeypatch.setenv("DESDIS_OFFICIAL", str(tmp_path))
    with pytest.raises(UserError, match=r"holds no DesDis-8.pth"):
        load_network("official/desdis-8")
    (tmp_path / "DesDis-8.pth").write_bytes(b"other")
    with pytest.raises(UserError, match="sha256 differs"):
        load_network("official/desdis-8")
