"""What the modules RNN, LSTM and GRU share: torch.nn's behaviour, in front of `rnn_gpu.stack`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from rnn_gpu.compiler.cell import Cell
from rnn_gpu.dispatch import check_name
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.torch import projection
from rnn_gpu.torch.execution import Call, Given, key_of
from rnn_gpu.torch.naming import as_tensor, renamed, states_of
from rnn_gpu.torch.operators import run, run_packed
from rnn_gpu.torch.packed import first_size, padded
from rnn_gpu.torch.parameters import autocast, parameter_names, parameter_shapes

__all__ = ["Recurrent"]


class Recurrent(nn.RNNBase):
    """What RNN, LSTM and GRU share. Use those; torch's own RNNBase has their common attributes and checks.

    Besides the arguments of torch.nn's module of that name:

    cell: any cell, in place of the module's own; its parameters have torch's names where torch has such, and a per-unit
        vector v of layer 0 is `v_l0`. The state is one tensor, or a tuple where the cell has several.
    recompute: keep only the states for the backward pass, which computes the rest once more.
    backend: the backend's name; else RNN_GPU_BACKEND, else the first that can run the call.

    Initial values are torch's: uniform in +-1/sqrt(hidden_size), and so are those of a cell's vectors unless the cell
    declares a range. Errors are torch's where torch checks the same; others are `rnn_gpu.errors`.
    """

    def __init__(
        self,
        mode: str,
        own: Cell,
        cell: Cell | None,
        *arguments: Any,
        recompute: bool = False,
        backend: str | None = None,
        device: Any = None,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        if cell is not None and not isinstance(cell, Cell):
            raise ArgumentTypeError("cell", "a cell, such as rnn_gpu.cells.lstm", repr(cell))
        if not isinstance(recompute, bool):
            raise ArgumentTypeError("recompute", "a bool", repr(recompute))
        check_name(backend)
        chosen = own if cell is None else cell
        if (len(chosen.states) > 1 and type(self)._one_state) or (len(chosen.states) == 1 and type(self)._two_states):
            expected = "one state" if type(self)._one_state else "two states or more"
            raise ArgumentError("cell", f"a cell with {expected} (RNN takes any cell)", f"{chosen!r}")
        # torch makes its own parameters, or for another cell only checks the arguments: "meta" takes neither memory
        # nor random numbers.
        options |= {"device": device if cell is None else "meta", "dtype": dtype}
        super().__init__(mode, *arguments, **options)
        if self.proj_size and cell is not None:
            raise ArgumentError("proj_size", f"0, as cell {cell.name} has no projection", repr(self.proj_size))
        chosen = projection.lstm_projection if self.proj_size else chosen
        self.recompute = recompute
        self.backend = backend
        self._cell, self._key = chosen, key_of(chosen)
        self._state_names = chosen.states
        self._names = " ".join(parameter_shapes(chosen, 1, 1, self.bias))
        if cell is not None:
            self._register_parameters(device, dtype)
            self.reset_parameters()

    _one_state = _two_states = False
    """Whether the module takes cells with one state only, or with several only."""

    @property
    def cell(self) -> Cell:
        """The cell that the module runs."""
        return self._cell

    def __setstate__(self, state: dict[str, Any]) -> None:
        """What unpickling calls: the operators find the cell by its key in this process, too."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._key = key_of(self._cell)

    def _register_parameters(self, device: Any, dtype: Any) -> None:
        """The cell's parameters in place of torch's."""
        for name in self._flat_weights_names:
            delattr(self, name)
        self._flat_weights_names, self._all_weights = [], []
        n_directions = 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            inputs = self.input_size if layer == 0 else self.hidden_size * n_directions
            for suffix in ("", "_reverse")[:n_directions]:
                shapes = parameter_shapes(self.cell, inputs, self.hidden_size, self.bias)
                names = parameter_names(shapes, f"_l{layer}{suffix}")
                for name, shape in zip(names, shapes.values(), strict=True):
                    setattr(self, name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
                self._flat_weights_names.extend(names)
                self._all_weights.append(names)
        self._init_flat_weights()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        super().reset_parameters()
        ranges = self.cell.vector_ranges if hasattr(self, "_key") else {}
        for name, parameter in self.named_parameters():
            limits = ranges.get(name.rpartition("_l")[0])
            if limits is not None:
                nn.init.uniform_(parameter, *limits)

    def flatten_parameters(self) -> None:
        """Nothing: the kernels read the parameters where they are."""

    def forward(
        self,
        input: Any,
        hx: Any = None,
        *,
        lengths: Any = None,
        resets: Any = None,
        return_states: bool = False,
    ) -> tuple[Any, ...]:
        """Run the layers. Returns (output, h_n), or (output, (h_n, c_n)) for cells of several states, as torch.nn does.

        input: (T, B, I), (B, T, I) if batch_first, (T, I) for one sequence, or a PackedSequence.
        hx: a (num_layers * num_directions, B, H) a state, or None for zeros.
        lengths: (B,) integers from 0 to T in any order: at and after a row's end the output is 0 and the state stays,
            and the backward direction starts at the row's own end. For one sequence, its length.
        resets: (T, B) bools, (B, T) if batch_first, (T,) for one sequence: the states are zeroed before step t of that
            row, in both directions as if the pieces were separate sequences.
        return_states: return a third value, for each layer a tuple with, for each state, its values after all steps,
            shaped as the output: those of an LSTM are all its h_t and c_t. It costs one more run a further state.

        Raises torch's errors for shapes and dtypes that torch.nn refuses, ArgumentError and BackendError for others.
        """
        packed = input if isinstance(input, PackedSequence) else None
        if packed is not None and (lengths is not None or resets is not None or return_states):
            raise ArgumentError("input", "a tensor where lengths, resets or return_states are given", "PackedSequence")
        if packed is not None:
            self.check_input(packed.data, packed.batch_sizes)
            x = packed.data
        else:
            x = input
            if x.dim() == 2:
                return self._one_sequence(x, hx, lengths, resets, return_states)
            if x.dim() != 3:
                raise ValueError(f"{type(self).__name__}: Expected input to be 2D or 3D, got {x.dim()}D instead")
            if x.shape[2] != self.input_size or x.dtype is not self._flat_weights[0].dtype:  # type: ignore[union-attr]
                self.check_input(x, None)  # which takes longer
        time_first = packed is not None or not self.batch_first
        x = x if time_first else x.transpose(0, 1)
        initial = []
        if hx is not None and packed is not None:
            initial = self._initial(first_size(packed.batch_sizes), hx, packed.sorted_indices)
        elif hx is not None:
            initial = self._initial(x.shape[1], hx, None)
        lengths = None if lengths is None else as_tensor("lengths", "(B,) integers", lengths)
        if resets is not None:
            resets = as_tensor("resets", "(T, B) bools" if time_first else "(B, T) bools", resets)
            if not time_first:
                if resets.shape != input.shape[:2]:
                    raise ArgumentError(
                        "resets", f"shape (B, T) = {tuple(input.shape[:2])}", f"shape {tuple(resets.shape)}"
                    )
                resets = resets.transpose(0, 1)
        output: Any
        batch_sizes = None if packed is None else packed.batch_sizes
        output, last, states = self._run(x, initial, lengths, resets, return_states, batch_sizes)

        if packed is not None:
            output = PackedSequence(output, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
            if packed.unsorted_indices is not None:
                last = [state.index_select(1, packed.unsorted_indices) for state in last]
        elif not time_first:
            output = output.transpose(0, 1)
        h_n = last[0] if len(last) == 1 else tuple(last)
        if not return_states:
            return output, h_n
        return output, h_n, tuple(tuple(s if time_first else s.transpose(0, 1) for s in layer) for layer in states)

    def _one_sequence(self, x: Tensor, hx: Any, lengths: Any, resets: Any, return_states: bool) -> tuple[Any, ...]:
        """A sequence without an axis for the batch."""
        batch = 0 if self.batch_first else 1
        if hx is not None:
            states = states_of(hx, self._state_names)
            if any(state.dim() != 2 for state in states):
                raise RuntimeError("For unbatched 2-D input, hx should also be 2-D, (num_layers * num_directions, H)")
            hx = tuple(state.unsqueeze(1) for state in states)
            hx = hx[0] if len(hx) == 1 else hx
        if lengths is not None:
            lengths = as_tensor("lengths", "one integer for one sequence", lengths)
            if lengths.numel() != 1:
                raise ArgumentError("lengths", "one integer for one sequence", f"shape {tuple(lengths.shape)}")
            lengths = lengths.reshape(1)
        if resets is not None:
            resets = as_tensor("resets", "(T,) bools", resets)
            if resets.shape != x.shape[:1]:
                raise ArgumentError("resets", f"shape (T,) = {tuple(x.shape[:1])}", f"shape {tuple(resets.shape)}")
            resets = resets.unsqueeze(batch)
        y, h_n, *every = self.forward(
            x.unsqueeze(batch), hx, lengths=lengths, resets=resets, return_states=return_states
        )
        h_n = h_n.squeeze(1) if isinstance(h_n, Tensor) else tuple(state.squeeze(1) for state in h_n)
        more = [tuple(tuple(state.squeeze(batch) for state in layer) for layer in each) for each in every]
        return y.squeeze(batch), h_n, *more

    def _initial(self, n_rows: int, hx: Any, order: Tensor | None) -> list[Tensor]:
        """The initial states as the operator takes them, checked."""
        names, states = self._state_names, states_of(hx, self._state_names)
        places = len(self._all_weights)
        sizes = [self.proj_size or self.hidden_size, *[self.hidden_size] * (len(names) - 1)]
        for k, (state, size) in enumerate(zip(states, sizes, strict=True)):
            message = (
                "Expected hidden size {}, got {}" if len(states) == 1 else f"Expected hidden[{k}] size {{}}, got {{}}"
            )
            self.check_hidden_size(state, (places, n_rows, size), message)
        if order is not None:
            states = [state.index_select(1, order) for state in states]
        return [projection.padding_of(states[0], self.hidden_size), *states[1:]] if self.proj_size else states

    def _run(
        self, x: Tensor, initial: list[Tensor], lengths: Tensor | None, resets: Tensor | None, all_states: bool,
        batch_sizes: Tensor | None,
    ) -> tuple[Tensor, list[Tensor], list[list[Tensor]]]:  # fmt: skip
        """The output, the last states and all states. batch_sizes: of a packed batch, whose x and output are packed."""
        found: dict[str, Any] = self._parameters  # torch's `getattr` is slow
        weights = [found[name] if name in found else getattr(self, name) for name in self._flat_weights_names]
        if self.proj_size:
            weights = self._padded(weights)
        x, weights, initial = autocast(x, weights, initial)
        masks = self._masks(x) if self.dropout > 0.0 and self.training and self.num_layers > 1 else None
        call = Call(
            self._key, self._names, self.hidden_size, self.bidirectional, False, all_states, self.recompute,
            self.backend or "",
        )  # fmt: skip
        given = Given(x, weights, initial, lengths, resets, masks, call)
        try:
            y, last, layers = run(given) if batch_sizes is None else self._run_packed(given, batch_sizes)
        except (ArgumentError, ArgumentTypeError) as error:
            raise renamed(error, [f"_l{names[0].rpartition('_l')[2]}" for names in self._all_weights]) from error
        if self.proj_size:
            y, last = self._cut(y), [last[0][..., : self.proj_size], *last[1:]]
            layers = [[self._cut(layer[0]), *layer[1:]] for layer in layers]
        return y, last, layers

    def _run_packed(self, given: Given, batch_sizes: Tensor) -> tuple[Tensor, list[Tensor], list[list[Tensor]]]:
        """A packed batch, padded where it cannot be run as it lies."""
        found = run_packed(given, batch_sizes)
        if found is not None:
            return *found, []
        x, lengths = padded(given.x, batch_sizes)
        masks = None if given.masks is None else torch.stack([padded(mask, batch_sizes)[0] for mask in given.masks])
        y, last, layers = run(given._replace(x=x, lengths=lengths, masks=masks))
        return pack_padded_sequence(y, lengths).data, last, layers

    def _masks(self, x: Tensor) -> Tensor:
        """Dropout's masks above all layers but the last."""
        n_directions, kept = 2 if self.bidirectional else 1, 1.0 - self.dropout
        shape = (self.num_layers - 1, *x.shape[:-1], n_directions * self.hidden_size)
        return x.new_empty(shape).bernoulli_(kept).div_(kept) if kept else x.new_zeros(shape)

    def _padded(self, weights: list[Tensor]) -> list[Tensor]:
        """Parameters of a projected LSTM as its cell takes them."""
        result = []
        per_layer = len(self._all_weights[0])
        for place in range(len(self._all_weights)):
            layer = weights[place * per_layer : (place + 1) * per_layer]
            self._check_projection(self._all_weights[place], layer)
            n_directions = 2 if self.bidirectional else 1
            below = n_directions if place >= n_directions else 0
            result += projection.padded(layer, self.hidden_size, layer[0].shape[1], below)
        return result

    def _check_projection(self, names: list[str], layer: list[Tensor]) -> None:
        """weight_hh and weight_hr, which the cell sees as parts of one matrix."""
        wanted = {1: (4 * self.hidden_size, self.proj_size), len(layer) - 1: (self.proj_size, self.hidden_size)}
        for k, shape in wanted.items():
            if tuple(layer[k].shape) != shape:
                raise ArgumentError(names[k], f"shape {shape}", f"shape {tuple(layer[k].shape)}")
            if layer[k].dtype is not layer[0].dtype:
                raise ArgumentError(names[k], f"dtype {layer[0].dtype} as {names[0]} is", f"{layer[k].dtype}")

    def _cut(self, y: Tensor) -> Tensor:
        """A projected output (T, B, D*H) without its padding, (T, B, D*P)."""
        if not self.bidirectional:
            return y[..., : self.proj_size]
        cut: Tensor = torch.unflatten(y, -1, (2, self.hidden_size))[..., : self.proj_size].flatten(-2)
        return cut

    def extra_repr(self) -> str:
        """torch's, and what is not its default."""
        parts = [super().extra_repr()]
        if self.cell.name not in ("rnn", "rnn_relu", "lstm", "gru", "lstm_projection"):
            parts.append(f"cell={self.cell.name}")
        parts += ["recompute=True"] if self.recompute else []
        parts += [f"backend={self.backend!r}"] if self.backend else []
        return ", ".join(parts)
