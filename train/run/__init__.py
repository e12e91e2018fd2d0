"""The run folder, the contract of stages 2 and 3: logs, checkpoints, sweeps. See `RUN.md`."""
