// Forward through a whole sequence in one launch.
//
// Owner:      a team of blocks takes a tile of rows, the longest first, and after it the tile `teams` further on; a block
//             owns some hidden units of it, all of their gates; a thread owns items (row, unit), with their states.
// Shared:     [what the team exchanges | the columns of U that are not in registers].
// Registers:  columns of U; of each item the states, W x_t of this step and of the next, biases and vectors.
// Barrier:    one exchange a stage and step. Before it every thread of the team has published its part of the stage's
//             operand; after it every block can read all of it. All threads take part in each, whatever their rows: how
//             many steps a tile has depends on its longest row only. Between arriving at a step's first exchange and
//             waiting there, what the step before has made is stored, and what the next one needs begins to load.
// Limits:     Traits::threads threads a block, one block a multiprocessor; grid: all blocks must be running at once.
// Source:     Diamos et al. (2016), Persistent RNNs: stashing recurrent weights on-chip.

namespace rnn_gpu {

template <class Cell, class T, class Traits, template <class, class, class, template <class> class> class Product>
struct SequenceForward {
  using Real = Working<T>;
  using Operand = typename Traits::Operand;
  using Arguments = Parameters<T, Real, typename Traits::Kept>;
  using Multiply = Product<Cell, T, Traits, ForwardProducts>;
  using Unit = typename Cell::template Forward<Real>;
  using Team = typename TeamOf<Traits::strategy, Operand, Traits, Multiply::stride>::type;

  static constexpr int n_input = Cell::n_input, n_recurrent = Cell::n_recurrent, n_state = Cell::n_state;
  static constexpr int n_vector = Cell::n_vector, n_saved = Cell::n_saved, n_stages = Cell::n_stages;
  static constexpr int chunks = Traits::rows / Traits::chunk, per_lane = Multiply::per_lane;
  static constexpr int shared_bytes = Team::shared_bytes + Multiply::shared_bytes;
  // What a step has made is stored while the next one waits, unless that makes some of it before.
  static constexpr bool deferred = n_stages > 0 && Cell::late_results;
  static_assert(chunks * Traits::chunk == Traits::rows, "a tile is whole chunks");

  // What a thread keeps of one item. `made`: there are results of a step that have not been stored.
  struct Item {
    Unit unit;
    Row row;
    Registers<Real, n_input> next;  // W x_t of the next step
    bool next_is_reset, made;
  };

  // Where a step's results begin in each array.
  struct Results {
    Place<Traits, 1, T, true> y;
    Place<Traits, n_state, Real> history;
    Place<Traits, n_saved, Real> saved;
    __device__ __forceinline__ Results(const Arguments& p, int t, long long n, int direction)
        : y(p, p.y, (long long)t * p.rows, direction),
          history(p, p.history, n, direction),
          saved(p, p.saved, n - p.rows_begin, direction) {}
    __device__ __forceinline__ void go_on(const Arguments& p, long long n) {
      y.go_on(p, p.y, 0);
      history.go_on(p, p.history, n);
      saved.go_on(p, p.saved, n - p.rows_begin);
    }
  };

  static __device__ __forceinline__ void run(const Arguments& p) {
    Team team(p, arch::shared_memory());
    Multiply multiply(arch::shared_memory() + Team::shared_bytes);
    const int first_unit = team.rank() * Multiply::block_units;
    prefetch_small<Traits>(p);
    multiply.load(p.U, p.hidden, first_unit);

    Registers<Real, per_lane * n_input> b_ih;
    Registers<Real, per_lane * n_recurrent> b_hh;
    Item items[chunks][per_lane];
#pragma unroll
    for (int e = 0; e < per_lane; ++e) {
      const int unit = first_unit + multiply.unit(e);
      const bool is = unit < p.hidden;
#pragma unroll
      for (int g = 0; g < n_input; ++g) b_ih[e * n_input + g] = p.b_ih && is ? widen(p.b_ih[g * p.hidden + unit]) : Real(0);
#pragma unroll
      for (int g = 0; g < n_recurrent; ++g)
        b_hh[e * n_recurrent + g] = p.b_hh && is ? widen(p.b_hh[g * p.hidden + unit]) : Real(0);
      if constexpr (n_vector > 0) {
#pragma unroll
        for (int v = 0; v < n_vector; ++v) {
#pragma unroll
          for (int c = 0; c < chunks; ++c) items[c][e].unit.vector[v] = is ? widen(p.vectors[v * p.hidden + unit]) : Real(0);
        }
      }
    }

    for (int tile = team.index(); tile < p.tiles; tile += team.count()) {
      int ends[chunks];  // of each chunk's longest row
      unrolled<chunks>([&](auto chunk) {
        constexpr int c = decltype(chunk)::value;
        ends[c] = tile_row<Traits>(p, tile * Traits::rows + c * Traits::chunk).end;
#pragma unroll
        for (int e = 0; e < per_lane; ++e) {
          Item& item = items[c][e];
          const int unit = first_unit + multiply.unit(e);
          item.row = Row{};
          item.made = item.next_is_reset = false;
          if (multiply.owns() && unit < p.hidden)
            item.row = tile_row<Traits>(p, tile * Traits::rows + c * Traits::chunk + multiply.row(e));
          const bool starts = item.row.sorted >= 0 && p.initial;
#pragma unroll
          for (int s = 0; s < n_state; ++s)
            item.unit.state[s] = starts ? p.initial[at_state(p, item.row, s, unit)] : Real(0);
#pragma unroll
          for (int g = 0; g < n_input; ++g) item.next[g] = Real(0);
        }
      });
      const TileSteps steps = steps_of(p, ends[0], false);
      Walk<Traits> walk(p, steps);
      Place<Traits, n_input, const Real> inputs(p, p.P, walk.here - p.rows_begin, steps.direction);  // fetched next
      Results results(p, steps.t(0), walk.here, steps.direction);                                    // stored next
      if (steps.count > 0)
        each(items, [&](Item& item, int, int e) {
          fetch(p, item, steps.t(0), inputs.at, first_unit + multiply.unit(e));
        });

      for (int i = 0; i < steps.count; ++i) {
        const int t = steps.t(i);
        if constexpr (n_stages > 0) team.template begin<n_stages>(p);
        each(items, [&](Item& item, int c, int e) {
          if constexpr (Traits::resets) {
#pragma unroll
            for (int s = 0; s < n_state; ++s) item.unit.state[s] = item.next_is_reset ? Real(0) : item.unit.state[s];
            item.next_is_reset = false;  // a row that ends has no next step
          }
          if constexpr (n_input > 0) {
#pragma unroll
            for (int g = 0; g < n_input; ++g) item.unit.Wx[g] = item.next[g] + b_ih[e * n_input + g];
          }
          Cell::template forward<0>(item.unit);
          if constexpr (n_stages > 0) publish<0>(p, team, multiply, item, c, e, first_unit);
        });
        if constexpr (n_stages > 0) {
          team.template arrive<1, Multiply::block_units>(first_unit);
          if (deferred && i > 0) {
            store(p, items, multiply, results, first_unit);
            results.go_on(p, walk.here);
          }
        }
        inputs.go_on(p, p.P, walk.next - p.rows_begin);
        if (i + 1 < steps.count)
          each(items, [&](Item& item, int, int e) {
            fetch(p, item, steps.t(i + 1), inputs.at, first_unit + multiply.unit(e));
          });
        if (n_input > 0 && i + 1 + further<Traits> < steps.count)
          each(items, [&](Item& item, int, int e) {
            if (has_step<Traits>(item.row, steps.t(i + 1 + further<Traits>)))
              prefetch<n_input>(inputs.further_on(further<Traits>, p.P, walk.after - p.rows_begin, p.hidden), item.row,
                                p.hidden, first_unit + multiply.unit(e));
          });

        if constexpr (n_stages > 0) {
          unrolled<n_stages>([&](auto stage) {
            constexpr int k = decltype(stage)::value;
            if constexpr (k > 0) team.template arrive<1, Multiply::block_units>(first_unit);
            team.wait();
            unrolled<chunks>([&](auto chunk) {
              constexpr int c = decltype(chunk)::value;
              if (Traits::lengths && t >= ends[c]) return;  // every row of the chunk has ended
              Real sums[per_lane][Stages<Cell>::size(k)];
              multiply.template run<k>(team.template chunk<Multiply::columns(k)>(c), sums);
              unrolled<per_lane>([&](auto element) {
                constexpr int e = decltype(element)::value;
                Item& item = items[c][e];
                unrolled<Stages<Cell>::size(k)>([&](auto output) {
                  constexpr int gate = Stages<Cell>::gate(Stages<Cell>::begin(k) + decltype(output)::value);
                  item.unit.U[gate] = sums[e][decltype(output)::value] + b_hh[e * n_recurrent + gate];
                });
                Cell::template forward<k + 1>(item.unit);
                if constexpr (k + 1 < n_stages) publish<k + 1>(p, team, multiply, item, c, e, first_unit);
              });
            });
          });
        }

        each(items, [&](Item& item, int, int) {
          item.made = has_step<Traits>(item.row, t);
#pragma unroll
          for (int s = 0; s < n_state; ++s) item.unit.state[s] = item.made ? item.unit.state_new[s] : item.unit.state[s];
        });
        walk.go_to(p, i + 1);
        if constexpr (!deferred) {
          store(p, items, multiply, results, first_unit);
          results.go_on(p, walk.here);
        }
      }
      if (deferred && steps.count > 0) store(p, items, multiply, results, first_unit);

      each(items, [&](Item& item, int, int e) {
        if (item.row.sorted < 0) return;
#pragma unroll
        for (int s = 0; s < n_state; ++s)
          p.last[at_state(p, item.row, s, first_unit + multiply.unit(e))] = item.unit.state[s];
      });
    }
  }

 private:
  // What stage k multiplies; also of rows that have no such step, as others wait for every number of a chunk.
  template <int k>
  static __device__ __forceinline__ void publish(const Arguments& p, Team& team, const Multiply& multiply, const Item& item,
                                                 int c, int e, int first_unit) {
    const int unit = first_unit + multiply.unit(e);
    if (multiply.owns() && unit < p.hidden)
      team.template publish<Multiply::columns(k)>(c * Traits::chunk + multiply.row(e), unit,
                                                  Multiply::prepared(item.unit.operand));
  }

  // Begin to load what step t needs; it is used a step later. P: W x_t of the step's first row.
  static __device__ __forceinline__ void fetch(const Arguments& p, Item& item, int t, const Real* P, int unit) {
    if (!has_step<Traits>(item.row, t)) return;
    if constexpr (Traits::resets) item.next_is_reset = is_reset(p, item.row, t);
    if constexpr (n_input > 0) {
      const Real* const own = element<n_input>(P, item.row.sorted, p.hidden, unit);
#pragma unroll
      for (int g = 0; g < n_input; ++g) item.next[g] = own[g * p.hidden];
    }
  }

  // Store what the last step has made.
  static __device__ __forceinline__ void store(const Arguments& p, Item (&items)[chunks][per_lane],
                                               const Multiply& multiply, const Results& results, int first_unit) {
    each(items, [&](Item& item, int, int e) {
      if (!item.made) return;
      const int unit = first_unit + multiply.unit(e);
      *element<1>(results.y.at, item.row.caller, p.hidden, unit) = rounded<T>(item.unit.state_new[0]);
      if constexpr (Traits::keeps > 0) {
        Real* const history = element<n_state>(results.history.at, item.row.sorted, p.hidden, unit);
#pragma unroll
        for (int s = 0; s < n_state; ++s) history[s * p.hidden] = item.unit.state_new[s];
      }
      if constexpr (Traits::keeps > 1 && n_saved > 0) {
        Real* const saved = element<n_saved>(results.saved.at, item.row.sorted, p.hidden, unit);
#pragma unroll
        for (int s = 0; s < n_saved; ++s) saved[s * p.hidden] = item.unit.saved[s];
      }
    });
  }
};

}  // namespace rnn_gpu
