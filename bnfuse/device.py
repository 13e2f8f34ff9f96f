"""Where to run: what the user names, or a GPU where there is one."""

from __future__ import annotations

import torch

from bnfuse.errors import RequestError


def chosen_device(device: str | torch.device | None) -> torch.device:
    """Return the device to run on.

    Args:
        device: A device, its name, or None for a CUDA device where there is one.

    Raises:
        RequestError: There is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise RequestError(f"there is no device {device!r}: pass 'cpu' or 'cuda'.") from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise RequestError(f"there is no CUDA device {str(place)!r} here: pass device='cpu'.")
    return place
