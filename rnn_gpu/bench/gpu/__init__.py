"""Benchmarks on a CUDA device: what `rnn-gpu bench --suite gpu` measures there, how, and beside whom.

Cases, calls and runners are those of the benchmarks on the CPU; arrays, clocks and the reference lie on the device.
"""
