// Backward through a whole sequence in one launch: the mirror of sequence_forward.cuh, stages reversed.
//
// Owner:      as forward: a team a tile of rows, a block some hidden units, a thread items (row, unit).
// Shared:     [what the team exchanges: gradients of a stage's gates | the columns of U that are not in registers].
// Registers:  columns of U, now those that give the gradient of an own unit's operand; of each item the gradients of the
//             states, what this step reads of the forward pass and what the next one reads, sums for the vectors.
// Barrier:    one exchange a stage that a gradient reaches and step; the invariant is that of forward.
// Limits:     as forward.
// Source:     as forward. The gradients of U, of W and of x are products over all steps, after the launch.

namespace rnn_gpu {

template <class Cell, class T, class Traits, template <class, class, class, template <class> class> class Product>
struct SequenceBackward {
  using Real = Working<T>;
  using Operand = typename Traits::Operand;
  using Arguments = Parameters<T, Real, Operand>;
  using Multiply = Product<Cell, T, Traits, BackwardProducts>;
  using Unit = typename Cell::template Backward<Real>;
  using Team = typename TeamOf<Traits::strategy, Operand, Traits, Multiply::stride>::type;
  using Passed = BackwardStep<Cell, T, Operand>;

  static constexpr int n_state = Cell::n_state, n_vector = Cell::n_vector, n_stages = Cell::n_backward_stages;
  static constexpr int chunks = Traits::rows / Traits::chunk, per_lane = Multiply::per_lane;
  static constexpr int shared_bytes = Team::shared_bytes + Multiply::shared_bytes;
  static_assert(chunks * Traits::chunk == Traits::rows, "a tile is whole chunks");

  // What a thread keeps of one item.
  struct Item {
    Unit unit;
    Row row;
    Passed next;                      // what the next step reads
    bool resets;                      // whether this step began with a reset
    Registers<Real, n_state> d_state;
    Registers<Sum<Real>, n_vector> d_vector;
  };

  static __device__ __forceinline__ void run(const Arguments& p) {
    Team team(p, arch::shared_memory());
    Multiply multiply(arch::shared_memory() + Team::shared_bytes);
    const int first_unit = team.rank() * Multiply::block_units;
    multiply.load(p.U, p.hidden, first_unit);

    Item items[chunks][per_lane];
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
          if (item.row.sorted < 0) continue;
#pragma unroll
          for (int s = 0; s < n_state; ++s)
            item.d_state[s] = p.d_last ? p.d_last[at_state(p, item.row, s, unit)] : Real(0);
          if constexpr (n_vector > 0) {
#pragma unroll
            for (int v = 0; v < n_vector; ++v) {
              item.unit.vector[v] = p.vectors[v * p.hidden + unit];
              item.d_vector[v].load(p, v, n_vector, item.row, unit);
            }
          }
        }
      });
      const TileSteps steps = steps_of(p, ends[0], true);
      if (steps.count > 0)
        each(items, [&](Item& item, int, int e) {
          if (steps.t(0) < item.row.end) item.next.load(p, item.row, steps.t(0), first_unit + multiply.unit(e));
        });

      for (int i = 0; i < steps.count; ++i) {
        const int t = steps.t(i);
        const long long start = start_of(p, t);
        each(items, [&](Item& item, int c, int e) {
          if (t >= item.row.end) return;
#pragma unroll
          for (int s = 0; s < n_state; ++s) item.unit.d_state_new[s] = item.d_state[s];
          item.next.give(item.unit);
          item.resets = item.next.is_reset;
          store_operands<Cell>(p, item.unit, start + item.row.sorted, first_unit + multiply.unit(e));
          Cell::template backward<0>(item.unit);
          if constexpr (n_stages > 0) publish<0>(team, multiply, item, c, e, first_unit);
        });
        if (i + 1 < steps.count) {
          const int t_next = steps.t(i + 1);
          each(items, [&](Item& item, int, int e) {
            if (t_next < item.row.end) item.next.load(p, item.row, t_next, first_unit + multiply.unit(e));
          });
        }

        if constexpr (n_stages > 0) {
          unrolled<n_stages>([&](auto stage) {
            constexpr int k = decltype(stage)::value;
            team.exchange();
            unrolled<chunks>([&](auto chunk) {
              constexpr int c = decltype(chunk)::value;
              if (t >= ends[c]) return;  // every row of the chunk has ended
              Real sums[per_lane][1];
              multiply.template run<k>(team.template chunk<Multiply::columns(k)>(c), sums);
              unrolled<per_lane>([&](auto element) {
                constexpr int e = decltype(element)::value;
                Item& item = items[c][e];
                if (t >= item.row.end) return;
                item.unit.d_operand = sums[e][0];
                Cell::template backward<k + 1>(item.unit);
                if constexpr (k + 1 < n_stages) publish<k + 1>(team, multiply, item, c, e, first_unit);
              });
            });
          });
        }

        each(items, [&](Item& item, int, int e) {
          if (t >= item.row.end) return;
          store_gradients<Cell>(p, item.unit, start + item.row.sorted, first_unit + multiply.unit(e));
#pragma unroll
          for (int s = 0; s < n_state; ++s) item.d_state[s] = item.resets ? Real(0) : item.unit.d_state[s];
          if constexpr (n_vector > 0) {
#pragma unroll
            for (int v = 0; v < n_vector; ++v) item.d_vector[v].add(item.unit.d_vector[v]);
          }
        });
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
  // body(item, chunk, element) for each item of the thread; all indices are known to the compiler.
  template <class Body> static __device__ __forceinline__ void each(Item (&items)[chunks][per_lane], const Body& body) {
    unrolled<chunks>([&](auto chunk) {
      unrolled<per_lane>([&](auto element) {
        body(items[decltype(chunk)::value][decltype(element)::value], decltype(chunk)::value, decltype(element)::value);
      });
    });
  }

  // The gradients of the gates whose transposed product is the k-th.
  template <int k>
  static __device__ __forceinline__ void publish(Team& team, const Multiply& multiply, const Item& item, int c, int e,
                                                 int first_unit) {
    unrolled<BackwardProducts<Cell>::inputs(k)>([&](auto input) {
      constexpr int g = decltype(input)::value;
      constexpr int gate = Stages<Cell>::gate(BackwardProducts<Cell>::first(k) + g);
      team.publish(c * Traits::chunk + multiply.row(e), g * Traits::hidden + first_unit + multiply.unit(e),
                   Multiply::prepared(item.unit.d_U[gate]));
    });
  }
};

}  // namespace rnn_gpu
