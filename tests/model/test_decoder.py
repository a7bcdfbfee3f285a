import torch

from mtinet.model.build import build_network


def test_what_lies_beyond_the_far_border_does_not_move_the_mask(settings):
    """Coarse maps of odd sizes stay aligned with the image: no stretching to its size."""
    network = build_network(settings("fusion=spatial", shape=(136, 40)), 2).eval()
    image = torch.rand(1, 4, 136, 40)
    longer = torch.nn.functional.pad(image, (0, 0, 0, 8))
    with torch.inference_mode():
        short, long = (network.segment(network.encode(x)) for x in (image, longer))
    # beyond the reach of what was added
    assert torch.allclose(short[..., :64, :], long[..., :64, :], atol=1e-5)
    assert not torch.allclose(short[..., 120:, :], long[..., 120:136, :], atol=1e-5)
