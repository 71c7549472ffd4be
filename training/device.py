"""Where a network runs."""

import torch

from storage.errors import RequestError


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises RequestError where PyTorch sees no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and not torch.cuda.is_available():
        raise RequestError(f'device = "{name}": PyTorch sees no such device here; use device = "auto" or "cpu"')
    return torch.device(name)


def limit_threads(count: int) -> None:
    """Of one operation on the CPU, in this process."""
    torch.set_num_threads(count)
