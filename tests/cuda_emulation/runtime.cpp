// Runs a kernel's threads on one CPU thread, as fibers that are switched where they wait.
//
// Which fiber runs next is decided by an order: the lowest number first, the highest first, or drawn at random from a
// seed. In the first two a fiber runs on until it has to wait, as far ahead of the others as barriers let it, and they
// are met in opposite orders: what lacks a barrier goes wrong in one of them. The third also switches where nobody waits.
// What a block stores to where other blocks see it is seen when a barrier says so, else as late as can be; in the third
// order that of some addresses before that of others.
// Blocks of a cooperative launch are all there from the start; else one cluster runs after the other.
#include <sys/mman.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

extern "C" {
struct RnnGpuThread {
  int thread, threads, block, blocks, rank;
  unsigned char* shared;
};
RnnGpuThread rnn_gpu_thread;
}

namespace {

constexpr size_t stack_bytes = 256 * 1024;
enum Order { lowest_first = 0, highest_first = 1, random_order = 2 };

// ---- fibers ----

#if defined(__x86_64__)
// Saves the callee's registers on the stack it leaves, and takes those of the stack it goes to.
extern "C" void rnn_gpu_switch(void** leave, void* go);
asm(R"(
.text
.globl rnn_gpu_switch
.type rnn_gpu_switch, @function
rnn_gpu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size rnn_gpu_switch, .-rnn_gpu_switch
)");
using Context = void*;
void prepare(Context& context, char* stack, void (*start)()) {
  auto* top = reinterpret_cast<uint64_t*>(stack + stack_bytes) - 2;  // a call leaves the stack 8 bytes off 16
  *--top = 0;
  *--top = reinterpret_cast<uint64_t>(start);
  for (int i = 0; i < 6; ++i) *--top = 0;
  context = top;
}
void change(Context& leave, Context& go) { rnn_gpu_switch(&leave, go); }
#else
using Context = ucontext_t;
void prepare(Context& context, char* stack, void (*start)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = stack_bytes;
  context.uc_link = nullptr;
  makecontext(&context, start, 0);
}
void change(Context& leave, Context& go) { swapcontext(&leave, &go); }
#endif

struct Store {
  void* address;
  unsigned char value[16];
  int bytes;
};

// So many threads wait at it until all `members` have come.
struct Barrier {
  int members = 0, arrived = 0;
  std::vector<int> waiting;
};

// Counts bytes stored by other blocks; they are there when all that were expected have come.
struct Counter {
  bool expects = false;
  long expected = 0, come = 0;
  unsigned phase = 0;
  std::vector<Store> stores;
  std::vector<int> waiting;
};

struct Warp {
  Barrier barrier;
  char given[2][32][64];
};

struct Block {
  RnnGpuThread first;
  std::vector<unsigned char> memory;
  Barrier barrier;
  std::vector<Warp> warps;
  std::vector<Store> unpublished;  // in global memory
  std::map<long, Counter> counters;  // by their place in its memory
  int cluster = 0, live = 0;
  bool begun = false;
};

struct Fiber {
  Context context;
  char* stack = nullptr;
  int block = 0, thread = 0;
  int shuffles = 0;
  unsigned seen = 0;  // progress when it last looked at what others store
  const char* where = "";
};

std::vector<char*> stacks;
std::vector<Fiber> fibers;
std::vector<Block> blocks;
std::vector<Barrier> clusters;
std::vector<uint64_t> ready;     // a bit a fiber
std::vector<int> watching;       // fibers that wait for others to store
Context scheduler;
int current = -1, live = 0, n_ready = 0;
int order, cluster_size;
uint64_t random_state;
unsigned progress;               // grows with what comes to be seen
std::string failure;
std::vector<std::array<uint64_t, 2>> prefetches;  // of the launch: addresses and bytes
void (*kernel)(const void*);
const void* argument;

uint64_t draw() {  // xorshift
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

void make_ready(int fiber) {
  ready[fiber / 64] |= uint64_t(1) << (fiber % 64);
  ++n_ready;
}

int next_ready() {
  const int words = int(ready.size());
  const auto take = [&](int word, int bit) {
    ready[word] &= ~(uint64_t(1) << bit);
    --n_ready;
    return word * 64 + bit;
  };
  const int from = order == random_order ? int(draw() % (words * 64)) : 0;
  if (order == highest_first) {
    for (int word = words - 1; word >= 0; --word)
      if (ready[word]) return take(word, 63 - __builtin_clzll(ready[word]));
    return -1;
  }
  const uint64_t tail = ready[from / 64] >> (from % 64) << (from % 64);
  if (tail) return take(from / 64, __builtin_ctzll(tail));
  for (int i = 1; i <= words; ++i) {
    const int word = (from / 64 + i) % words;
    if (ready[word]) return take(word, __builtin_ctzll(ready[word]));
  }
  return -1;
}

void suspend() { change(fibers[current].context, scheduler); }

void fail(const std::string& message) {
  const Fiber& fiber = fibers[current];
  if (failure.empty())
    failure = message + " (block " + std::to_string(fiber.block) + ", thread " + std::to_string(fiber.thread) + ")";
  for (;;) suspend();  // never to be resumed
}

void publish(std::vector<Store>& stores) {
  for (const Store& store : stores) std::memcpy(store.address, store.value, store.bytes);
  stores.clear();
}

// Of what a block has stored, that of some addresses; what overlaps stays in order.
void publish_some(std::vector<Store>& stores) {
  int widest = 1;
  for (const Store& store : stores) widest = store.bytes > widest ? store.bytes : widest;
  const uint64_t which = draw() | 1;
  std::vector<Store> now, later;
  for (const Store& store : stores) {
    const uint64_t place = reinterpret_cast<uint64_t>(store.address) / widest * which;
    (place >> 32 & 1 ? now : later).push_back(store);
  }
  if (now.empty()) now.swap(later);
  publish(now);
  stores.swap(later);
}

// Nothing makes a block's stores visible, and nobody can go on without: those of one block are seen now. Returns whether
// there were any.
bool publish_late() {
  const size_t from = order == random_order ? draw() % blocks.size() : 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const size_t number = (from + i) % blocks.size();
    auto& stores = blocks[order == lowest_first ? blocks.size() - 1 - number : number].unpublished;
    if (stores.empty()) continue;
    if (order == random_order) publish_some(stores);
    else publish(stores);
    ++progress;
    return true;
  }
  return false;
}

long offset_in(const Block& block, const void* here, int bytes) {
  const long offset = static_cast<const unsigned char*>(here) - block.memory.data();
  if (offset < 0 || offset + bytes > long(block.memory.size())) fail("an address outside shared memory");
  return offset;
}

Counter& counter_of(Block& block, long offset) {
  const auto found = block.counters.find(offset);
  if (found == block.counters.end()) fail("a counter of bytes that has not begun to count");
  return found->second;
}

void pass_if_all_have_come(Counter& counter) {
  if (!counter.expects || counter.come < counter.expected) return;
  if (counter.come > counter.expected) fail("more bytes have come than were expected");
  publish(counter.stores);
  counter.expects = false;
  counter.come = 0;
  counter.phase ^= 1;
  for (int fiber : counter.waiting) make_ready(fiber);
  counter.waiting.clear();
}

void wait(Barrier& barrier, const char* where) {
  fibers[current].where = where;
  if (++barrier.arrived < barrier.members) {
    barrier.waiting.push_back(current);
    suspend();
    return;
  }
  barrier.arrived = 0;
  for (int fiber : barrier.waiting) make_ready(fiber);
  barrier.waiting.clear();
  if (order != lowest_first) {  // let another be the first to go on
    make_ready(current);
    suspend();
  }
}

void run_fiber() {
  Fiber& fiber = fibers[current];
  blocks[fiber.block].begun = true;
  kernel(argument);
  Fiber& same = fibers[current];
  Block& block = blocks[same.block];
  if (--block.live == 0) {
    publish(block.unpublished);
    ++progress;
  }
  --live;
  same.where = "its end";
  for (;;) suspend();
}

char* stack_of(size_t number) {
  while (stacks.size() <= number) {
    void* memory = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stacks.push_back(static_cast<char*>(memory));
  }
  return stacks[number];
}

// Runs the blocks that there are, until all have ended.
void run_blocks(int threads) {
  fibers.clear();
  fibers.resize(blocks.size() * threads);
  ready.assign((fibers.size() + 63) / 64, 0);
  watching.clear();
  n_ready = 0;
  live = int(fibers.size());
  for (size_t i = 0; i < fibers.size(); ++i) {
    fibers[i].block = int(i) / threads;
    fibers[i].thread = int(i) % threads;
    fibers[i].stack = stack_of(i);
    fibers[i].seen = progress - 1;
    prepare(fibers[i].context, fibers[i].stack, run_fiber);
    make_ready(int(i));
  }
  while (live && failure.empty()) {
    current = next_ready();
    if (current < 0) {  // whoever watches may look again if anything has been stored
      std::vector<int> still;
      for (int fiber : watching) {
        if (fibers[fiber].seen != progress) make_ready(fiber);
        else still.push_back(fiber);
      }
      watching.swap(still);
      if (!n_ready && publish_late()) continue;
      if (!n_ready) {
        failure = "deadlock: threads wait at";
        for (size_t i = 0; i < fibers.size() && failure.size() < 300; ++i)
          failure += " [" + std::to_string(fibers[i].block) + "," + std::to_string(fibers[i].thread) + "] " + fibers[i].where;
        return;
      }
      continue;
    }
    const Fiber& fiber = fibers[current];
    rnn_gpu_thread = blocks[fiber.block].first;
    rnn_gpu_thread.thread = fiber.thread;
    change(scheduler, fibers[current].context);
  }
}

}  // namespace

extern "C" {

void rnn_gpu_block_barrier() { wait(blocks[fibers[current].block].barrier, "a block barrier"); }

void rnn_gpu_cluster_barrier() { wait(clusters[blocks[fibers[current].block].cluster], "a cluster barrier"); }

void* rnn_gpu_warp_barrier(const void* mine, int bytes) {
  Fiber& fiber = fibers[current];
  Warp& warp = blocks[fiber.block].warps[fiber.thread / 32];
  char(*given)[64] = warp.given[fiber.shuffles++ % 2];
  std::memcpy(given[fiber.thread % 32], mine, bytes);
  wait(warp.barrier, "an exchange within a warp");
  return given;
}

void rnn_gpu_maybe_suspend() {
  if (order == random_order && draw() % 8 == 0) {
    fibers[current].where = "nothing";
    make_ready(current);
    suspend();
  }
}

void rnn_gpu_look_again() {
  Fiber& fiber = fibers[current];
  if (fiber.seen == progress) {
    fiber.where = "what others are to store";
    watching.push_back(current);
    suspend();
  }
  fibers[current].seen = progress;
}

void rnn_gpu_prefetch(const void* begin, int bytes) {
  if (bytes <= 0) fail("a prefetch of nothing");
  const volatile char* const first = static_cast<const char*>(begin);
  (void)first[0], (void)first[bytes - 1];  // there is memory
  prefetches.push_back({reinterpret_cast<uint64_t>(begin), static_cast<uint64_t>(bytes)});
}

// The addresses and sizes that the last launch has asked for, [count, 2]; for null their count.
long rnn_gpu_prefetched(uint64_t* out) {
  if (out) std::memcpy(out, prefetches.data(), prefetches.size() * sizeof(prefetches[0]));
  return static_cast<long>(prefetches.size());
}

void rnn_gpu_begin_counting(void* counter) {
  Block& block = blocks[fibers[current].block];
  block.counters[offset_in(block, counter, 8)] = Counter{};
}

void rnn_gpu_expect_bytes(void* counter, unsigned bytes) {
  Block& block = blocks[fibers[current].block];
  Counter& own = counter_of(block, offset_in(block, counter, 8));
  if (own.expects) fail("bytes are expected twice in a phase");
  own.expects = true;
  own.expected = bytes;
  pass_if_all_have_come(own);
}

void rnn_gpu_wait_for_bytes(void* counter, unsigned phase) {
  Block& block = blocks[fibers[current].block];
  Counter& own = counter_of(block, offset_in(block, counter, 8));
  if (own.phase == phase) {
    fibers[current].where = "a counter of bytes";
    own.waiting.push_back(current);
    suspend();
  } else if (order != lowest_first) {
    make_ready(current);
    suspend();
  }
}

void rnn_gpu_store_counted(void* here, int rank, const void* value, int bytes, void* counter) {
  rnn_gpu_maybe_suspend();
  Fiber& fiber = fibers[current];
  Block& own = blocks[fiber.block];
  const long offset = offset_in(own, here, bytes);
  if (rank < 0 || rank >= cluster_size) fail("a remote store to a block that is not in the cluster");
  Block& other = blocks[fiber.block - own.first.rank + rank];
  if (!other.begun) fail("a remote store to a block that does not run yet");
  if (other.live == 0) fail("a remote store to a block that has ended");
  Store store{other.memory.data() + offset, {}, bytes};
  std::memcpy(store.value, value, bytes);
  Counter& counted = counter_of(other, offset_in(own, counter, 8));
  counted.stores.push_back(store);
  counted.come += bytes;
  pass_if_all_have_come(counted);
}

void rnn_gpu_store_exchanged(void* address, const void* value, int bytes) {
  rnn_gpu_maybe_suspend();
  Store store{address, {}, bytes};
  std::memcpy(store.value, value, bytes);
  blocks[fibers[current].block].unpublished.push_back(store);
}

unsigned rnn_gpu_arrive_release(unsigned* counter) {
  publish(blocks[fibers[current].block].unpublished);
  ++progress;
  return (*counter)++;
}

unsigned rnn_gpu_read_acquire(const unsigned* counter) {
  rnn_gpu_look_again();
  return *counter;
}

// Runs `entry` on a grid. Returns 0, or 1 with what went wrong in `message` [1000].
int rnn_gpu_launch(void (*entry)(const void*), const void* parameters, int grid, int threads, long shared, int cluster,
                   int cooperative, int wanted_order, uint64_t seed, char* message) {
  kernel = entry;
  argument = parameters;
  order = wanted_order;
  cluster_size = cluster;
  random_state = seed * 0x9E3779B97F4A7C15u + 1;
  failure.clear();
  prefetches.clear();
  const int together = cooperative ? grid : cluster;
  for (int done = 0; done < grid && failure.empty(); done += together) {
    const int first = order == highest_first ? grid - together - done : done;
    blocks.clear();
    blocks.resize(together);
    clusters.assign(together / cluster, Barrier{cluster * threads, 0, {}});
    for (int b = 0; b < together; ++b) {
      Block& block = blocks[b];
      block.memory.assign(shared, 0xff);  // NaN in every type
      block.first = {0, threads, first + b, grid, b % cluster, block.memory.data()};
      block.barrier.members = block.live = threads;
      block.warps.resize(threads / 32);
      for (Warp& warp : block.warps) warp.barrier.members = 32;
      block.cluster = b / cluster;
    }
    run_blocks(threads);
  }
  std::snprintf(message, 1000, "%s", failure.c_str());
  return failure.empty() ? 0 : 1;
}
}
