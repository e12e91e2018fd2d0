"""The training step against its floor and against the dense way; run it by hand.

    python tests/benchmarks/bench_step.py [--repeats 7] [--threads 2] [--check]

Floor: one `torch.mm` of the batch with all encoders side by side, the product that selection needs.
Dense: the published way, from its formulas: every code a dense (rows, latents) tensor, AuxK decoded
whether a latent is dead or not, autograd, Adam over whole gradients. All are measured in turn in
one process, repeatedly; the least time of each counts, since a neighbour on the machine can only
add to it. `--check` fails when a target is missed.

The floor is bound by arithmetic, the rest of the step by memory: the wider the vectors of the CPU,
the larger step / floor, at the same step. The targets were set on two AVX2 cores; a CPU with AVX512
shows them under ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from sparc.train.config import ModelConfig, StreamShape
from sparc.train.learner import Learner, LearnerSettings
from sparc.train.model import Sparc, create_model

DIMS = {"dino": 768, "clip_image": 512, "clip_text": 512}
LATENTS, K, AUXK, ROWS, DEAD_SHARE = 8192, 64, 64, 256, 0.05
MOST_OF_FLOOR, LEAST_OF_DENSE, MOST_FOR_AUXK = 2.0, 6.5, 0.15


class DenseStep:
    """A plain dense training step."""

    def __init__(self, model: Sparc) -> None:
        self.model = copy.deepcopy(model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4)
        self.dead = torch.zeros(LATENTS)

    def __call__(self, batch: dict[str, Tensor]) -> None:
        model, names = self.model, self.model.config.names
        x = {name: F.normalize(batch[name], dim=1) for name in names}
        logits = {name: model.logits(name, x[name]) for name in names}
        chosen = torch.stack(list(logits.values())).sum(0).topk(K).indices
        mask = torch.zeros_like(logits[names[0]]).scatter(1, chosen, 1.0)
        codes = {name: torch.relu(logits[name]) * mask for name in names}

        def decode(code: Tensor, target: str) -> Tensor:
            return code @ model.decoder[target] + model.pre_bias[target]

        def nmse(reconstruction: Tensor, wanted: Tensor) -> Tensor:
            return ((reconstruction - wanted).square().sum(1) / wanted.square().sum(1)).mean()

        rebuilt = {name: decode(codes[name], name) for name in names}

        def aux(name: str) -> Tensor:
            top = (logits[name] * self.dead).topk(AUXK, dim=1)
            code = torch.zeros_like(logits[name]).scatter(1, top.indices, torch.relu(top.values))
            left_over = x[name] - rebuilt[name].detach() + model.pre_bias[name].detach()
            return nmse(decode(code, name), left_over)

        own = sum(nmse(rebuilt[name], x[name]) + aux(name) / 32 for name in names)
        cross = sum(nmse(decode(codes[s], t), x[t]) for s in names for t in names if s != t)
        (own / len(names) + cross / (len(names) * (len(names) - 1))).backward()
        with torch.no_grad():
            for name in names:
                decoder = model.decoder[name]
                decoder /= decoder.norm(dim=1, keepdim=True)
                decoder.grad -= (decoder.grad * decoder).sum(1, keepdim=True) * decoder
        self.optimizer.step()
        self.optimizer.zero_grad()


def kill(learner: Learner, share: float) -> None:
    """Make some latents dead for good: their biases keep them from ever being selected."""
    state = learner.state()
    for position, name in enumerate(learner.model.config.names):
        dead = torch.randperm(LATENTS, generator=torch.Generator().manual_seed(position))
        dead = dead[: int(share * LATENTS)]
        learner.model.latent_bias[name].data[dead] = -10
        state[f"since_active.{name}"][dead] = 10**9
    learner.load_state(state)


def measure(subjects: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The least time of each subject in seconds, all measured in turn."""
    least = dict.fromkeys(subjects, float("inf"))
    for repeat in range(repeats + 1):
        for name, subject in subjects.items():
            if name == "dense" and repeat > max(3, repeats // 4):
                continue
            begin = time.perf_counter()
            subject()
            seconds = time.perf_counter() - begin
            if repeat:  # the first round warms up
                least[name] = min(least[name], seconds)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    streams = tuple(StreamShape(name, dim) for name, dim in DIMS.items())
    model = create_model(ModelConfig(streams=streams, latents=LATENTS, k=K))
    draws = torch.Generator().manual_seed(0)
    batch = {name: torch.randn(ROWS, dim, generator=draws) for name, dim in DIMS.items()}
    side_by_side = torch.cat([model.encoder[name].detach() for name in DIMS], dim=1)
    rows = torch.cat(list(batch.values()), dim=1)
    plain = Learner(copy.deepcopy(model), LearnerSettings())
    reviving = Learner(copy.deepcopy(model), LearnerSettings())
    kill(reviving, DEAD_SHARE)
    dense = DenseStep(model)
    least = measure(
        {
            "floor": lambda: torch.mm(rows, side_by_side.T),
            "step": lambda: plain.step(batch, 1e-4),
            "step with 5% dead": lambda: reviving.step(batch, 1e-4),
            "dense": lambda: dense(batch),
        },
        arguments.repeats,
    )
    for name, seconds in least.items():
        print(f"{name:20s} {seconds * 1e3:8.1f} ms")
    of_floor = least["step"] / least["floor"]
    of_dense = least["dense"] / least["step"]
    for_auxk = least["step with 5% dead"] / least["step"] - 1
    met = of_floor <= MOST_OF_FLOOR, of_dense >= LEAST_OF_DENSE, for_auxk <= MOST_FOR_AUXK
    verdicts = ["met" if each else "missed" for each in met]
    print(f"step / floor         {of_floor:8.2f}  at most {MOST_OF_FLOOR}: {verdicts[0]}")
    print(f"dense / step         {of_dense:8.2f}  at least {LEAST_OF_DENSE}: {verdicts[1]}")
    print(f"AuxK, 5% dead        {for_auxk:8.1%}  at most {MOST_FOR_AUXK:.0%}: {verdicts[2]}")
    print(
        f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}"
    )
    if arguments.check and not all(met):
        sys.exit(1)


if __name__ == "__main__":
    main()
