"""Each kernel against its eager and its dense twin, and against the bytes that it must move.

    python tests/benchmarks/bench_kernels.py [--rows 256] [--latents 8192] [--k 64] [--streams 3]
        [--dim 768] [--repeats 7] [--threads 2]

On a GPU these are the Triton kernels, else those in PyTorch. Eager: the same sparse mathematics as
one would write it down, gathering (rows, k, dim) tensors and a gradient that is summed by
`index_add_`. Dense: the published way, with codes that are (rows, latents) and plain matrix
products. All are measured in turn in one process; the least time of each counts. GB/s counts every
operand once, of weights the rows that are used; `copy` says what the machine gives a plain copy.
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sparc.train.kernels.adam import Adam, AdamStep, Moments, move
from sparc.train.kernels.choice import choose
from sparc.train.kernels.interface import WeightGradient, fill_bags, invert


class Operation(NamedTuple):
    """A kernel, its twins, and the bytes that it must move."""

    kernel: Callable[[], object]
    eager: Callable[[], object]
    dense: Callable[[], object]
    bytes: int


def size(*tensors: Tensor) -> int:
    return sum(each.numel() * each.element_size() for each in tensors)


def operations(
    rows: int, latents: int, k: int, streams: int, dim: int, device: torch.device
) -> dict[str, Operation]:
    torch.manual_seed(0)
    kernels = choose("auto", device)
    draw = {"device": device, "dtype": torch.float32}
    products = [torch.randn(rows, latents, **draw) for _ in range(streams)]
    biases = [torch.randn(latents, **draw) for _ in range(streams)]
    weight = F.normalize(torch.randn(latents, dim, **draw), dim=1)
    wanted, scales = torch.randn(rows, dim, **draw), torch.rand(rows, streams, **draw)
    vectors = torch.randn(rows, streams, dim, **draw)
    along = torch.randn(latents, **draw)
    indices, values = kernels.select(products, biases, k)
    of_streams = indices.unsqueeze(1).expand(rows, streams, k)
    bags = fill_bags(invert(indices, latents), values)
    gradient = WeightGradient(bags, vectors, parallel=along)
    moments, step = Adam({"": weight}).moments[""], AdamStep.on(device).set_to(1, 0.0)
    used = weight[indices.unique()]
    parts = pieces(rows, kernels.batch_rows(wanted))
    blocks = pieces(latents, kernels.block_rows(weight))

    def codes() -> Tensor:
        dense = torch.zeros(rows, streams, latents, **draw)
        return dense.scatter_(2, of_streams, values)

    def eager_select() -> Tensor:
        logits = torch.stack(products) + torch.stack(biases).unsqueeze(1)
        chosen = logits.sum(0).topk(k).indices
        return logits.gather(2, chosen.expand(streams, rows, k)).relu()

    def dense_select() -> Tensor:
        logits = torch.stack([p + b for p, b in zip(products, biases, strict=True)])
        chosen = logits.sum(0).topk(k).indices
        return logits.relu() * torch.zeros_like(logits[0]).scatter_(1, chosen, 1.0)

    def eager_decode() -> Tensor:
        return torch.einsum("rvk,rkd->rvd", values, weight[indices])

    def eager_products(of: Tensor) -> Tensor:
        return torch.einsum("rvd,rkd->rvk", of, weight[indices])

    def dense_products(of: Tensor) -> Tensor:
        return (of @ weight.T).gather(2, of_streams)

    def errors(decoded: Tensor) -> Tensor:
        return decoded - wanted.unsqueeze(1)

    def compare(decoded: Tensor, multiply: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        residuals = errors(decoded)
        return residuals.square().sum(2), multiply(residuals * scales.unsqueeze(2))

    def eager_gradient() -> Tensor:
        terms = torch.einsum("rvk,rvd->rkd", values, vectors).view(-1, dim)
        return torch.zeros_like(weight).index_add_(0, indices.view(-1), terms)

    def dense_gradient() -> Tensor:
        return codes().view(-1, latents).T @ vectors.view(-1, dim)

    copies = [weight.clone(), *(each.clone() for each in moments)]

    def update(found: Tensor) -> None:
        found -= along.unsqueeze(1) * copies[0]
        move(copies[0], found, Moments(*copies[1:]), step)
        copies[0].div_(copies[0].norm(dim=1, keepdim=True))

    codes_bytes = size(indices, values)
    return {
        "select": Operation(
            lambda: [kernels.select([p[part] for p in products], biases, k) for part in parts],
            eager_select,
            dense_select,
            size(*products, *biases) + codes_bytes,
        ),
        "decode": Operation(
            lambda: [kernels.decode(indices[part], values[part], weight) for part in parts],
            eager_decode,
            lambda: codes() @ weight,
            codes_bytes + size(used, vectors),
        ),
        "value_gradients": Operation(
            lambda: [
                kernels.value_gradients(indices[part], vectors[part], weight) for part in parts
            ],
            lambda: eager_products(vectors),
            lambda: dense_products(vectors),
            codes_bytes + size(used, vectors),
        ),
        "compare": Operation(
            lambda: [
                kernels.compare(indices[part], values[part], weight, wanted[part], scales[part])
                for part in parts
            ],
            lambda: compare(eager_decode(), eager_products),
            lambda: compare(codes() @ weight, dense_products),
            codes_bytes + size(used, wanted, vectors, values),
        ),
        "square_errors": Operation(
            lambda: [
                kernels.square_errors(indices[part], values[part], weight, wanted[part])
                for part in parts
            ],
            lambda: errors(eager_decode()).square().sum(2),
            lambda: errors(codes() @ weight).square().sum(2),
            codes_bytes + size(used, wanted),
        ),
        "weight_gradient": Operation(
            lambda: [
                kernels.weight_gradient(bags, vectors, block.start, block.stop) for block in blocks
            ],
            eager_gradient,
            dense_gradient,
            size(*bags, vectors, weight),
        ),
        "update": Operation(
            lambda: [
                kernels.update(weight, moments, gradient, block, step, scale=None, unit_rows=True)
                for block in blocks
            ],
            lambda: update(eager_gradient()),
            lambda: update(dense_gradient()),
            size(*bags, vectors, along) + 2 * size(weight, *moments),
        ),
    }


def pieces(latents: int, rows: int) -> list[slice]:
    return [slice(first, min(first + rows, latents)) for first in range(0, latents, rows)]


def measure(
    subjects: dict[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, float]:
    """The least time of each subject in seconds, all measured in turn."""
    times = 20 if device.type == "cuda" else 1  # a GPU is fed without waiting for it
    least = dict.fromkeys(subjects, float("inf"))
    for repeat in range(repeats + 1):
        for name, subject in subjects.items():
            begin = time.perf_counter()
            for _ in range(times):
                subject()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds = (time.perf_counter() - begin) / times
            if repeat:  # the first round warms up
                least[name] = min(least[name], seconds)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--latents", type=int, default=8192)
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--streams", type=int, default=3)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = (arguments.rows, arguments.latents, arguments.k, arguments.streams, arguments.dim)
    with torch.no_grad():
        found = operations(*sizes, device)
        plain, copied = torch.zeros(2, 64 << 20, device=device)  # more than any cache holds
        copy = measure({"copy": lambda: copied.copy_(plain)}, arguments.repeats, device)["copy"]
        print(f"{'':16s} {'ms':>9s} {'GB/s':>7s} {'eager/ours':>11s} {'dense/ours':>11s}")
        print(f"{'copy':16s} {copy * 1e3:9.3f} {2 * size(plain) / copy / 1e9:7.1f}")
        for name, operation in found.items():
            subjects = {kind: getattr(operation, kind) for kind in ("kernel", "eager", "dense")}
            least = measure(subjects, arguments.repeats, device)
            ours = least["kernel"]
            print(
                f"{name:16s} {ours * 1e3:9.3f} {operation.bytes / ours / 1e9:7.1f} "
                f"{least['eager'] / ours:11.2f} {least['dense'] / ours:11.2f}"
            )
    where = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"{arguments.threads} threads"
    )
    print(f"{choose('auto', device).name} kernels, {where}, PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
