// Backward through a whole sequence in one launch: the mirror of sequence_forward.cuh, stages reversed.
//
// Owner:      as forward: a team a tile of rows, a block some hidden units, a thread items (row, unit).
// Shared:     [what the team exchanges: gradients of a stage's gates | the columns of U that are not in registers].
// Registers:  columns of U, now those that give the gradient of an own unit's operand; of each item the gradients of the
//             states, what this step reads of the forward pass and what the next one reads, sums for the vectors.
// Barrier:    one exchange a stage that a gradient reaches and step; the invariant is that of forward. Between arriving at
//             a step's first exchange and waiting there, what the step has made so far is stored, and what the next one
//             needs begins to load.
// Limits:     as forward.
// Source:     as forward. The gradients of U, of W and of x are products over all steps, after the launch.

namespace rnn_gpu {

template <class Cell, class T, class Traits, template <class, class, class, template <class> class> class Product>
struct SequenceBackward {
  using Real = Working<T>;
  using Operand = typename Traits::Operand;
  using Kept = typename Traits::Kept;
  using Arguments = Parameters<T, Real, Kept>;
  using Multiply = Product<Cell, T, Traits, BackwardProducts>;
  using Unit = typename Cell::template Backward<Real>;
  using Team = typename TeamOf<Traits::strategy, Operand, Traits, Multiply::stride>::type;
  using Passed = BackwardStep<Cell, T>;

  static constexpr int n_state = Cell::n_state, n_vector = Cell::n_vector, n_stages = Cell::n_backward_stages;
  static constexpr int chunks = Traits::rows / Traits::chunk, per_lane = Multiply::per_lane;
  static constexpr int shared_bytes = Team::shared_bytes + Multiply::shared_bytes;
  static_assert(chunks * Traits::chunk == Traits::rows, "a tile is whole chunks");

  // What a thread keeps of one item.
  struct Item {
    Unit unit;
    Row row;
    Passed next;   // what the next step reads
    bool resets;   // whether this step began with a reset
    Registers<Real, n_state> d_state;
    Registers<Sum<Real>, n_vector> d_vector;
  };

  // Where what is read of a step begins in each array: its own numbers, and the states before it.
  struct Read {
    Place<Traits, n_state, const Real> after, before;
    Place<Traits, Cell::n_saved, const Real> saved;
    Place<Traits, 1, const char, true> dy;
    __device__ __forceinline__ Read(const Arguments& p, int t, const Walk<Traits>& walk)
        : after(p, p.history, walk.here, walk.steps.direction),
          before(p, p.history, walk.next, walk.steps.direction),
          saved(p, p.saved, walk.here - p.rows_begin, walk.steps.direction),
          dy(p, static_cast<const char*>(p.dy), (long long)t * p.rows * Passed::dy_bytes(p),
             walk.steps.direction * Passed::dy_bytes(p)) {}
    // To the step whose first row is n; n_before: of the one before it in the order of the recurrence.
    __device__ __forceinline__ void go_on(const Arguments& p, long long n, long long n_before) {
      if constexpr (Traits::lengths) after.go_on(p, p.history, n);
      before.go_on(p, p.history, n_before);
      saved.go_on(p, p.saved, n - p.rows_begin);
      dy.go_on(p, nullptr, 0);
    }
    // Ask for what the step `further` on reads; with lengths its first row is n, and that of the states is not known.
    __device__ __forceinline__ void ask(const Arguments& p, const Row& row, long long n, int unit) const {
      if constexpr (!Traits::lengths)  // after that step
        prefetch<n_state>(before.further_on(further<Traits> - 1, nullptr, 0, 0), row, p.hidden, unit);
      if constexpr (Cell::n_saved > 0)
        prefetch<Cell::n_saved>(saved.further_on(further<Traits>, p.saved, n - p.rows_begin, p.hidden), row, p.hidden, unit);
      if (p.dy)
        arch::prefetch(dy.further_on(further<Traits>, nullptr, 0, 0) +
                       (long long)(row.caller * p.hidden + unit) * Passed::dy_bytes(p));
    }
  };

  // Where what is written of a step begins.
  struct Written {
    Place<Traits, Cell::n_stages, Kept> operands;
    Place<Traits, Cell::n_input, Kept> d_P;
    Place<Traits, Cell::n_recurrent, Kept> d_R;
    __device__ __forceinline__ Written(const Arguments& p, long long n, int direction)
        : operands(p, p.operands, n, direction), d_P(p, p.d_P, n, direction), d_R(p, p.d_R, n, direction) {}
    __device__ __forceinline__ void go_on(const Arguments& p, long long n) {
      operands.go_on(p, p.operands, n);
      d_P.go_on(p, p.d_P, n);
      d_R.go_on(p, p.d_R, n);
    }
  };

  static __device__ __forceinline__ void run(const Arguments& p) {
    Team team(p, arch::shared_memory());
    Multiply multiply(arch::shared_memory() + Team::shared_bytes);
    const int first_unit = team.rank() * Multiply::block_units;
    prefetch_small<Traits>(p);
    multiply.load(p.U, p.hidden, first_unit);

    Item items[chunks][per_lane];
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
          item.next = Passed{};
          item.resets = false;
          if (multiply.owns() && unit < p.hidden)
            item.row = tile_row<Traits>(p, tile * Traits::rows + c * Traits::chunk + multiply.row(e));
          const bool is = item.row.sorted >= 0;
#pragma unroll
          for (int s = 0; s < n_state; ++s)
            item.d_state[s] = is && p.d_last ? p.d_last[at_state(p, item.row, s, unit)] : Real(0);
          if constexpr (n_vector > 0) {
#pragma unroll
            for (int v = 0; v < n_vector; ++v) {
              item.unit.vector[v] = is ? widen(p.vectors[v * p.hidden + unit]) : Real(0);
              item.d_vector[v] = Sum<Real>{};
              if (is) item.d_vector[v].load(p, v, n_vector, item.row, unit);
            }
          }
        }
      });
      const TileSteps steps = steps_of(p, ends[0], true);
      Walk<Traits> walk(p, steps);
      Read read(p, steps.t(0), walk);                          // of what is fetched next
      Written written(p, walk.here, steps.direction);  // of what is stored next
      if (steps.count > 0)
        each(items, [&](Item& item, int, int e) {
          const int unit = first_unit + multiply.unit(e);
          if (item.row.sorted >= 0 && has_step<Traits>(item.row, steps.t(0)))
            item.next.load_after(p, item.row, read.after.at, unit);
          fetch(p, item, steps.t(0), read, unit);
        });

      for (int i = 0; i < steps.count; ++i) {
        const int t = steps.t(i);
        if constexpr (n_stages > 0) team.template begin<n_stages>(p);
        each(items, [&](Item& item, int c, int e) {
#pragma unroll
          for (int s = 0; s < n_state; ++s) item.unit.d_state_new[s] = item.d_state[s];
          item.next.give(item.unit);
          item.resets = item.next.is_reset;
          Cell::template backward<0>(item.unit);
          if constexpr (n_stages > 0) publish<0>(p, team, multiply, item, c, e, first_unit);
        });
        if constexpr (n_stages > 0)
          team.template arrive<BackwardProducts<Cell>::inputs(0), Multiply::block_units>(first_unit);
        each(items, [&](Item& item, int, int e) {
          if (!has_step<Traits>(item.row, t)) return;
          store_operands<Cell>(p, item.unit, written.operands.at, item.row, first_unit + multiply.unit(e));
          if constexpr (Cell::early_gradients) store(p, item, written, first_unit + multiply.unit(e));
        });
        read.go_on(p, walk.next, walk.after);
        if (i + 1 < steps.count)
          each(items, [&](Item& item, int, int e) {
            const int unit = first_unit + multiply.unit(e);
            if constexpr (Traits::lengths) {  // a row may begin here
              if (has_step<Traits>(item.row, steps.t(i + 1)))
                item.next.load_after(p, item.row, read.after.at, unit);
            } else {  // the states after a step are those before the one after it
#pragma unroll
              for (int s = 0; s < n_state; ++s) item.next.after[s] = item.next.before[s];
            }
            fetch(p, item, steps.t(i + 1), read, unit);
          });
        if (i + 1 + further<Traits> < steps.count)
          each(items, [&](Item& item, int, int e) {
            if (has_step<Traits>(item.row, steps.t(i + 1 + further<Traits>)))
              read.ask(p, item.row, walk.after, first_unit + multiply.unit(e));
          });

        if constexpr (n_stages > 0) {
          unrolled<n_stages>([&](auto stage) {
            constexpr int k = decltype(stage)::value;
            if constexpr (k > 0)
              team.template arrive<BackwardProducts<Cell>::inputs(k), Multiply::block_units>(first_unit);
            team.wait();
            unrolled<chunks>([&](auto chunk) {
              constexpr int c = decltype(chunk)::value;
              if (Traits::lengths && t >= ends[c]) return;  // every row of the chunk has ended
              Real sums[per_lane][1];
              multiply.template run<k>(team.template chunk<Multiply::columns(k)>(c), sums);
              unrolled<per_lane>([&](auto element) {
                constexpr int e = decltype(element)::value;
                Item& item = items[c][e];
                item.unit.d_operand = sums[e][0];
                Cell::template backward<k + 1>(item.unit);
                if constexpr (k + 1 < n_stages) publish<k + 1>(p, team, multiply, item, c, e, first_unit);
              });
            });
          });
        }

        each(items, [&](Item& item, int, int e) {
          const bool has = has_step<Traits>(item.row, t);
          if constexpr (!Cell::early_gradients) {
            if (has) store(p, item, written, first_unit + multiply.unit(e));
          }
#pragma unroll
          for (int s = 0; s < n_state; ++s) {
            const Real before = Traits::resets && item.resets ? Real(0) : item.unit.d_state[s];
            item.d_state[s] = has ? before : item.d_state[s];
          }
          if constexpr (n_vector > 0) {
#pragma unroll
            for (int v = 0; v < n_vector; ++v) {
              if (has) item.d_vector[v].add(item.unit.d_vector[v]);
            }
          }
        });
        walk.go_to(p, i + 1);
        written.go_on(p, walk.here);
      }

      each(items, [&](Item& item, int, int e) {
        if (item.row.sorted < 0) return;
        const int unit = first_unit + multiply.unit(e);
#pragma unroll
        for (int s = 0; s < n_state; ++s) p.d_initial[at_state(p, item.row, s, unit)] = item.d_state[s];
#pragma unroll
        for (int v = 0; v < n_vector; ++v) item.d_vector[v].store(p, v, n_vector, item.row, unit);
      });
    }
  }

 private:
  // Begin to load what step t reads but the states after it; it is used a step later.
  static __device__ __forceinline__ void fetch(const Arguments& p, Item& item, int t, const Read& read, int unit) {
    if (!has_step<Traits>(item.row, t)) return;
    item.next.load_others(p, item.row, t, read.before.at, read.saved.at, read.dy.at, unit);
    if constexpr (Traits::resets) item.next.is_reset = is_reset(p, item.row, t);
  }

  static __device__ __forceinline__ void store(const Arguments& p, const Item& item, const Written& written, int unit) {
    store_gradients<Cell>(p, item.unit, written.d_P.at, written.d_R.at, item.row, unit);
  }

  // The gradients of the gates whose transposed product is the k-th; also of rows that have no such step, as in forward.
  template <int k>
  static __device__ __forceinline__ void publish(const Arguments& p, Team& team, const Multiply& multiply, const Item& item,
                                                 int c, int e, int first_unit) {
    const int unit = first_unit + multiply.unit(e);
    if (!multiply.owns() || unit >= p.hidden) return;
    unrolled<BackwardProducts<Cell>::inputs(k)>([&](auto input) {
      constexpr int g = decltype(input)::value;
      constexpr int gate = Stages<Cell>::gate(BackwardProducts<Cell>::first(k) + g);
      team.template publish<Multiply::columns(k)>(c * Traits::chunk + multiply.row(e), g * Traits::hidden + unit,
                                                  Multiply::prepared(item.unit.d_U[gate]));
    });
  }
};

}  // namespace rnn_gpu
