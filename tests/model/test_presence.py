import pytest
import torch

from mtinet.model.presence import shown


@pytest.mark.parametrize("filler", [1.0, float("nan"), float("-inf")])
def test_absent_phases_are_zero_and_so_is_their_gradient(filler):
    present = torch.tensor([[True, False], [True, True]])
    maps = torch.rand(2, 2, 3, 4)
    maps[0, 1] = filler
    maps.requires_grad_()
    found = shown(maps, present)
    found.sum().backward()
    assert torch.equal(found[present], maps[present])
    assert (found[~present] == 0).all()
    assert torch.equal(maps.grad, present[:, :, None, None].expand_as(maps).float())


def test_without_a_mask_all_phases_are_there():
    maps = torch.rand(2, 2, 3)
    assert shown(maps, None) is maps


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.uint8])
def test_a_mask_that_is_not_bool_is_refused_by_its_type(dtype):
    with pytest.raises(ValueError, match=f"phase_present is {str(dtype)[6:]}; give bool"):
        shown(torch.rand(2, 2, 3), torch.ones(2, 2, dtype=dtype))
