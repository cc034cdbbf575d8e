"""The networks against kornia's classes, the published parameter counts, and the ways they are used."""

import pytest
import torch

from desdis.architectures import LightStudent, build, recognise

PATCHES = torch.rand(7, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 255


def randomised(network: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter and running statistic a value of its own, so that a swapped layer shows."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not name.endswith("eps"):
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(noise + 0.5 if "var" in name else (noise - 0.5) * 0.2)
    return network.eval()


@pytest.mark.parametrize(("name", "peer"), [("hardnet", "HardNet"), ("sosnet", "SOSNet"), ("hynet", "HyNet")])
def test_bodies_equal_kornias(name, peer):
    feature = pytest.importorskip("kornia.feature")
    theirs = randomised(getattr(feature, peer)(pretrained=False))
    ours = build(name)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(PATCHES), theirs(PATCHES), atol=2e-6, rtol=0)


@pytest.mark.parametrize("width", [8, 16, 24, 32, 48])
def test_light_student_has_the_published_size_and_names(width):
    student = LightStudent(width)
    assert sum(p.numel() for p in student.parameters()) == 234 * width**2 + 8201 * width + 128
    prefixes = {name.rsplit(".", 1)[0] for name in student.state_dict()}
    assert prefixes == {
        *("layer1.1", "layer1.2", "layer2.0", "layer2.1", "layer3.0"),
        *("layer3.1", "layer3.3", "layer3.4", "desc.1", "desc.2"),
    }
    assert len(student.state_dict()) == 21


@pytest.mark.parametrize("name", ["desdis-8", "desdis-5", "hardnet", "sosnet", "hynet"])
def test_unit_descriptors_and_a_batch_of_one(name):
    network = randomised(build(name))
    with torch.no_grad():
        together = network(PATCHES)
        alone = torch.cat([network(patch[None]) for patch in PATCHES])
    assert together.shape == (7, 128)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(7))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_a_constant_patch_gives_a_finite_descriptor():
    network = randomised(build("desdis-8"))
    with torch.no_grad():
        flat = network(torch.stack([torch.zeros(1, 32, 32), torch.full((1, 32, 32), 200.0)]))
    assert flat.isfinite().all()
    torch.testing.assert_close(flat[0], flat[1])


@pytest.mark.parametrize("name", ["desdis-8", "desdis-33", "hardnet", "sosnet", "hynet"])
def test_recognise_names_its_own_state_dict(name):
    assert recognise(build(name).state_dict()) == name


def test_recognise_and_build_refuse_strangers():
    assert recognise(torch.nn.Linear(2, 2).state_dict()) is None
    for name in ("desdis-0", "desdis-", "desdis", "resnet", "desdis-8x"):
        with pytest.raises(ValueError, match="desdis-WIDTH"):
            build(name)


def test_torch_compile_gives_the_same():
    # The whole graph is captured without a break; "eager" keeps the test free of a C++ compiler.
    network = randomised(build("desdis-8"))
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(PATCHES), network(PATCHES))


@pytest.mark.parametrize("name", ["desdis-8", "hardnet", "sosnet", "hynet"])
def test_bfloat16_and_channels_last_learn_the_same(name):
    """As training has them on a CPU: descriptors and gradients near those of float32."""
    torch.manual_seed(0)
    network = build(name).train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    gradients = []
    for rounded in (False, True):
        network.zero_grad()
        network.to(memory_format=torch.channels_last if rounded else torch.contiguous_format)
        with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            described = network(PATCHES)
        (described.float() * torch.linspace(-1, 1, 128)).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.9
