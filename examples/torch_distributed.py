"""Training in several processes, each on its part of the batch, with torch's DistributedDataParallel.

python torch_distributed.py                        two processes on this machine
torchrun --nnodes=2 --nproc-per-node=1 ... torch_distributed.py    one process on each of two machines

The processes exchange gradients by gloo, which is for CPUs; nothing about the layers differs from a single process.
"""

import os
import tempfile

import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

import rnn_gpu
from rnn_gpu.torch import GRU


class Adder(nn.Module):
    """The adding problem (Hochreiter & Schmidhuber 1997): x (T, B, 2), numbers and marks, to the marked ones' sum."""

    def __init__(self, hidden=32):
        super().__init__()
        self.gru = GRU(2, hidden, num_layers=2)
        self.output = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.output(self.gru(x)[0][-1])[:, 0]


def batch(update, rows, steps=20):
    """The whole batch of an update, the same in every process."""
    generator = torch.Generator().manual_seed(update)
    numbers = torch.rand(steps, rows, generator=generator)
    marks = torch.zeros(steps, rows)
    for half in (slice(0, steps // 2), slice(steps // 2, steps)):
        place = torch.randint(half.start, half.stop, (rows,), generator=generator)
        marks[place, torch.arange(rows)] = 1
    return torch.stack([numbers, marks], dim=-1), (numbers * marks).sum(0)


def train(rank, processes, updates, rows):
    """Train as one of the processes; return the model's state and the losses of the whole batches."""
    torch.manual_seed(0)
    model = Adder()
    model = DistributedDataParallel(model) if processes > 1 else model
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    part = slice(rank * rows // processes, (rank + 1) * rows // processes)
    losses = []
    for update in range(updates):
        x, y = batch(update, rows)
        loss = nn.functional.mse_loss(model(x[:, part]), y[part])
        optimizer.zero_grad()
        loss.backward()  # DistributedDataParallel averages the gradients over the processes meanwhile
        optimizer.step()
        whole = loss.detach()
        if processes > 1:
            distributed.all_reduce(whole)
        losses.append(whole.item() / processes)
    module = model.module if processes > 1 else model
    return module.state_dict(), losses


def _worker(rank, processes, updates, rows, folder):
    """One of the processes that `main` starts."""
    rnn_gpu.set_threads(max(1, (os.cpu_count() or 1) // processes))
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes)
    state, losses = train(rank, processes, updates, rows)
    torch.save({"state": state, "losses": losses}, os.path.join(folder, f"{rank}.pt"))
    distributed.destroy_process_group()


def main(processes=2, updates=200, rows=64):
    """Train in so many processes; return what each has in the end: its state and losses."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_worker, (processes, updates, rows, folder), nprocs=processes)
        return [torch.load(os.path.join(folder, f"{rank}.pt"), weights_only=True) for rank in range(processes)]


if __name__ == "__main__":
    if "RANK" in os.environ:  # started by torchrun
        distributed.init_process_group("gloo")
        _, losses = train(distributed.get_rank(), distributed.get_world_size(), 200, 64)
        if distributed.get_rank() == 0:
            print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}")
        distributed.destroy_process_group()
    else:
        found = main()
        same = all(torch.equal(found[0]["state"][name], found[1]["state"][name]) for name in found[0]["state"])
        print(f"loss {found[0]['losses'][0]:.4f} -> {found[0]['losses'][-1]:.4f}; same weights in both: {same}")
