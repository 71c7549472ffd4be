"""Where a network runs."""

import torch

from storage.errors import RequestError


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one, on which float32 then is never TF32.

    Raises RequestError where PyTorch sees no such device.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and not torch.cuda.is_available():
        raise RequestError(f'device = "{name}": PyTorch sees no such device here; use device = "auto" or "cpu"')
    return torch.device(name)


def limit_threads(count: int) -> None:
    """Of one operation on the CPU, in this process."""
    torch.set_num_threads(count)
