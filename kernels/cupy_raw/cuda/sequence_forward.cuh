// Forward through a whole sequence in one launch.
//
// Owner:      a team of blocks takes a tile of rows, the longest first, and after it the tile `teams` further on; a block
//             owns some hidden units of it, all of their gates; a thread owns items (row, unit), with their states.
// Shared:     [what the team exchanges | the columns of U that are not in registers].
// Registers:  columns of U; of each item the states, W x_t of this step and of the next, biases and vectors.
// Barrier:    one exchange a stage and step. Before it every thread of the team has published its part of the stage's
//             operand; after it every block can read all of it. Each barrier is passed by all threads, whatever their
//             rows: how many steps a tile has depends on its longest row only.
// Limits:     Traits::threads threads a block, one block a multiprocessor; grid: all blocks must be running at once.
// Source:     Diamos et al. (2016), Persistent RNNs: stashing recurrent weights on-chip.

namespace rnn_gpu {

template <class Cell, class T, class Traits, template <class, class, class, template <class> class> class Product>
struct SequenceForward {
  using Real = Working<T>;
  using Operand = typename Traits::Operand;
  using Arguments = Parameters<T, Real, Operand>;
  using Multiply = Product<Cell, T, Traits, ForwardProducts>;
  using Unit = typename Cell::template Forward<Real>;
  using Team = typename TeamOf<Traits::strategy, Operand, Traits, Multiply::stride>::type;

  static constexpr int n_input = Cell::n_input, n_recurrent = Cell::n_recurrent, n_state = Cell::n_state;
  static constexpr int n_vector = Cell::n_vector, n_saved = Cell::n_saved, n_stages = Cell::n_stages;
  static constexpr int chunks = Traits::rows / Traits::chunk, per_lane = Multiply::per_lane;
  static constexpr int shared_bytes = Team::shared_bytes + Multiply::shared_bytes;
  static_assert(chunks * Traits::chunk == Traits::rows, "a tile is whole chunks");

  // What a thread keeps of one item.
  struct Item {
    Unit unit;
    Row row;
    Registers<Real, n_input> next;  // W x_t of the next step
    bool next_is_reset;
  };

  static __device__ __forceinline__ void run(const Arguments& p) {
    Team team(p, arch::shared_memory());
    Multiply multiply(arch::shared_memory() + Team::shared_bytes);
    const int first_unit = team.rank() * Multiply::block_units;
    multiply.load(p.U, p.hidden, first_unit);

    Registers<Real, per_lane * n_input> b_ih;
    Registers<Real, per_lane * n_recurrent> b_hh;
    Item items[chunks][per_lane];
#pragma unroll
    for (int e = 0; e < per_lane; ++e) {
      const int unit = first_unit + multiply.unit(e);
      const bool is = unit < p.hidden;
#pragma unroll
      for (int g = 0; g < n_input; ++g) b_ih[e * n_input + g] = p.b_ih && is ? p.b_ih[g * p.hidden + unit] : Real(0);
#pragma unroll
      for (int g = 0; g < n_recurrent; ++g)
        b_hh[e * n_recurrent + g] = p.b_hh && is ? p.b_hh[g * p.hidden + unit] : Real(0);
      if constexpr (n_vector > 0) {
#pragma unroll
        for (int v = 0; v < n_vector; ++v) {
#pragma unroll
          for (int c = 0; c < chunks; ++c) items[c][e].unit.vector[v] = is ? p.vectors[v * p.hidden + unit] : Real(0);
        }
      }
    }

    for (int tile = team.index(); tile < p.tiles; tile += team.count()) {
      int ends[chunks];  // of each chunk's longest row
      unrolled<chunks>([&](auto chunk) {
        constexpr int c = decltype(chunk)::value;
        ends[c] = row_of(p, tile * Traits::rows + c * Traits::chunk).end;
#pragma unroll
        for (int e = 0; e < per_lane; ++e) {
          Item& item = items[c][e];
          const int unit = first_unit + multiply.unit(e);
          item.row = Row{};
          if (multiply.owns() && unit < p.hidden)
            item.row = row_of(p, tile * Traits::rows + c * Traits::chunk + multiply.row(e));
          if (item.row.sorted >= 0) {
#pragma unroll
            for (int s = 0; s < n_state; ++s)
              item.unit.state[s] = p.initial ? p.initial[at_state(p, item.row, s, unit)] : Real(0);
          }
        }
      });
      const TileSteps steps = steps_of(p, ends[0], false);
      if (steps.count > 0)
        each(items, [&](Item& item, int, int e) { fetch(p, item, steps.t(0), first_unit + multiply.unit(e)); });

      for (int i = 0; i < steps.count; ++i) {
        const int t = steps.t(i);
        each(items, [&](Item& item, int c, int e) {
          if (t >= item.row.end) return;
#pragma unroll
          for (int s = 0; s < n_state; ++s) {
            if (item.next_is_reset) item.unit.state[s] = Real(0);
          }
          if constexpr (n_input > 0) {
#pragma unroll
            for (int g = 0; g < n_input; ++g) item.unit.Wx[g] = item.next[g] + b_ih[e * n_input + g];
          }
          Cell::template forward<0>(item.unit);
          if constexpr (n_stages > 0) publish(team, multiply, item, c, e, first_unit);
        });
        if (i + 1 < steps.count)
          each(items, [&](Item& item, int, int e) { fetch(p, item, steps.t(i + 1), first_unit + multiply.unit(e)); });

        if constexpr (n_stages > 0) {
          unrolled<n_stages>([&](auto stage) {
            constexpr int k = decltype(stage)::value;
            team.exchange();
            unrolled<chunks>([&](auto chunk) {
              constexpr int c = decltype(chunk)::value;
              if (t >= ends[c]) return;  // every row of the chunk has ended
              Real sums[per_lane][Stages<Cell>::size(k)];
              multiply.template run<k>(team.template chunk<Multiply::columns(k)>(c), sums);
              unrolled<per_lane>([&](auto element) {
                constexpr int e = decltype(element)::value;
                Item& item = items[c][e];
                if (t >= item.row.end) return;
                unrolled<Stages<Cell>::size(k)>([&](auto output) {
                  constexpr int gate = Stages<Cell>::gate(Stages<Cell>::begin(k) + decltype(output)::value);
                  item.unit.U[gate] = sums[e][decltype(output)::value] + b_hh[e * n_recurrent + gate];
                });
                Cell::template forward<k + 1>(item.unit);
                if constexpr (k + 1 < n_stages) publish(team, multiply, item, c, e, first_unit);
              });
            });
          });
        }

        const long long start = start_of(p, t);
        each(items, [&](Item& item, int, int e) {
          if (t < item.row.end) finish(p, item, t, start + item.row.sorted, first_unit + multiply.unit(e));
        });
      }

      each(items, [&](Item& item, int, int e) {
        if (item.row.sorted < 0) return;
#pragma unroll
        for (int s = 0; s < n_state; ++s)
          p.last[at_state(p, item.row, s, first_unit + multiply.unit(e))] = item.unit.state[s];
      });
    }
  }

 private:
  // body(item, chunk, element) for each item of the thread; all indices are known to the compiler.
  template <class Body> static __device__ __forceinline__ void each(Item (&items)[chunks][per_lane], const Body& body) {
    unrolled<chunks>([&](auto chunk) {
      unrolled<per_lane>([&](auto element) {
        body(items[decltype(chunk)::value][decltype(element)::value], decltype(chunk)::value, decltype(element)::value);
      });
    });
  }

  static __device__ __forceinline__ void publish(Team& team, const Multiply& multiply, const Item& item, int c, int e,
                                                 int first_unit) {
    team.publish(c * Traits::chunk + multiply.row(e), first_unit + multiply.unit(e), Multiply::prepared(item.unit.operand));
  }

  // Begin to load what step t needs; it is used a step later.
  static __device__ __forceinline__ void fetch(const Arguments& p, Item& item, int t, int unit) {
    if (t >= item.row.end) return;
    item.next_is_reset = is_reset(p, item.row, t);
    const long long n = start_of(p, t) + item.row.sorted;
#pragma unroll
    for (int g = 0; g < n_input; ++g) item.next[g] = p.P[((n - p.rows_begin) * n_input + g) * p.hidden + unit];
  }

  static __device__ __forceinline__ void finish(const Arguments& p, Item& item, int t, long long n, int unit) {
#pragma unroll
    for (int s = 0; s < n_state; ++s) {
      item.unit.state[s] = item.unit.state_new[s];
      if (p.history) p.history[(n * n_state + s) * p.hidden + unit] = item.unit.state[s];
    }
    p.y[((long long)t * p.rows + item.row.caller) * p.hidden + unit] = rounded<T>(item.unit.state[0]);
    if constexpr (n_saved > 0) {
      if (p.saved) {
#pragma unroll
        for (int s = 0; s < n_saved; ++s)
          p.saved[((n - p.rows_begin) * n_saved + s) * p.hidden + unit] = item.unit.saved[s];
      }
    }
  }
};

}  // namespace rnn_gpu
