/// \file
/// RNN, GRU and LSTM.
///
/// The product of the inputs with their weights does not wait for anything, so it is computed for
/// many steps at a time, as far as fits into a small workspace. Then step by step the product with
/// the state is added to it, and the gates are applied. Both products sum an element in an order
/// that depends on the shape of the weights and on whether the step is odd, so that an event gives
/// the same bits alone and in a batch.
#ifndef SOFIE_KERNELS_RECURRENT_HXX
#define SOFIE_KERNELS_RECURRENT_HXX

#include "sofie/kernels/recurrent/gates.hxx"
#include "sofie/kernels/recurrent/product.hxx"
#include "sofie/session/weights.hxx"

SOFIE_BEGIN

namespace sofie {

/// Stands for an input or an output of a recurrent operator that is not there.
struct NoSequence {};

// The weights ----------------------------------------------------------------------------------------

/// In which column the units of `gates` gates are: whole packs of each gate, then what is left of each, so
/// that only the last pack of all is filled up.
struct RecurrentOrder {
   Size gates, hidden, whole;

   template <class T>
   SOFIE_INLINE static RecurrentOrder of(Size gates, Size hidden)
   {
      return {gates, hidden, hidden / lanes<T> * lanes<T>};
   }
   SOFIE_INLINE Size column(Size gate, Size unit) const
   {
      return unit < whole ? gate * whole + unit : gates * whole + gate * (hidden - whole) + unit - whole;
   }
   /// How far the next gate's column of this unit is.
   SOFIE_INLINE Size step(Size unit) const { return unit < whole ? whole : hidden - whole; }
};

/// Gates that are computed together: their weights, and the sums of their biases.
template <class T>
struct RecurrentGroup {
   Size columns;
   T *w, *r, *bias, *state_bias;
};

/// The weights of one direction in one piece of memory: the gates of each group, and the peepholes.
template <class T>
struct RecurrentDirection {
   RecurrentGroup<T> first, second;
   Size padded; ///< How long a row of units is in whole packs.
   T *peepholes;
   T *nothing; ///< 0 times the weights of the state: 0, or NaN if one of them is not finite.
   T *end;
};

/// Where the weights of a direction are that begin at `memory`.
template <class Kind, class T, Size Hidden>
SOFIE_INLINE RecurrentDirection<T> recurrent_direction(T *memory, Size inputs, Size hidden)
{
   const Size columns[2] = {RecurrentPanels<std::remove_const_t<T>, Kind::first, Hidden>::columns(hidden),
                            RecurrentPanels<std::remove_const_t<T>, Kind::second, Hidden>::columns(hidden)};
   RecurrentDirection<T> d{};
   for (int g = 0; g < 2; ++g) {
      RecurrentGroup<T> &group = g == 0 ? d.first : d.second;
      group.columns = columns[g];
      group.w = memory;
      group.r = group.w + inputs * columns[g];
      group.bias = group.r + hidden * columns[g];
      group.state_bias = group.bias + columns[g];
      memory = group.state_bias + columns[g];
   }
   d.padded = (hidden + lanes<T> - 1) / lanes<T> * lanes<T>;
   d.peepholes = memory;
   d.nothing = memory + 3 * d.padded;
   d.end = d.nothing + lanes<T>;
   return d;
}

/// Rows `gate * hidden + unit` of `from` become columns of panels.
template <class Panels, class T>
SOFIE_INLINE void recurrent_pack_matrix(T *to, const T *from, RecurrentOrder order, Size depth)
{
   constexpr Size panel = Panels::width * lanes<T>;
   const Size whole = Panels::columns(order.hidden) - Panels::last * lanes<T>;
   for (Size g = 0; g < order.gates; ++g)
      for (Size u = 0; u < order.hidden; ++u) {
         const Size c = order.column(g, u), first = c / panel * panel;
         const Size stride = first < whole ? panel : Panels::last * lanes<T>;
         T *const column = to + first * depth + c - first;
         for (Size k = 0; k < depth; ++k)
            column[k * stride] = from[(g * order.hidden + u) * depth + k];
      }
}

/// The gates `First`, ..., `First + Count - 1`; their biases are b[gate] + b[all + gate].
template <class Kind, class T, Size Hidden, int First, int Count>
SOFIE_INLINE void recurrent_pack_group(const RecurrentGroup<T> &to, const T *w, const T *r, const T *b, Size inputs,
                                       Size hidden)
{
   using Panels = RecurrentPanels<T, Count, Hidden>;
   const RecurrentOrder order = RecurrentOrder::of<T>(Count, hidden);
   recurrent_pack_matrix<Panels>(to.w, w + First * hidden * inputs, order, inputs);
   recurrent_pack_matrix<Panels>(to.r, r + First * hidden * hidden, order, hidden);
   for (Size g = 0; b && g < Count; ++g)
      for (Size u = 0; u < hidden; ++u) {
         const T of_w = b[(First + g) * hidden + u], of_r = b[(Kind::gates + First + g) * hidden + u];
         const bool apart = Kind::state_apart && g == Count - 1;
         to.bias[order.column(g, u)] = apart ? of_w : of_w + of_r;
         to.state_bias[order.column(g, u)] = apart ? of_r : T(0);
      }
}

/// What ONNX gives, packed for all directions into memory that is zero.
template <class Kind, class T, Size Hidden>
SOFIE_KERNEL void recurrent_pack(T *memory, const T *w, const T *r, const T *b, const T *p, Size directions,
                                 Size inputs, Size hidden)
{
   constexpr Size gates = Kind::gates;
   for (Size d = 0; d < directions; ++d) {
      const auto to = recurrent_direction<Kind, T, Hidden>(memory, inputs, hidden);
      const T *const w_d = w + d * gates * hidden * inputs, *const r_d = r + d * gates * hidden * hidden;
      const T *const b_d = b ? b + d * 2 * gates * hidden : nullptr;
      recurrent_pack_group<Kind, T, Hidden, 0, Kind::first>(to.first, w_d, r_d, b_d, inputs, hidden);
      if constexpr (Kind::second > 0)
         recurrent_pack_group<Kind, T, Hidden, Kind::first, Kind::second>(to.second, w_d, r_d, b_d, inputs, hidden);
      for (Size g = 0; p && g < 3; ++g)
         __builtin_memcpy(to.peepholes + g * to.padded, p + (3 * d + g) * hidden,
                          static_cast<std::size_t>(hidden) * sizeof(T));
      for (Size i = 0; i < gates * hidden * hidden; ++i)
         *to.nothing += 0 * r_d[i];
      memory = to.end;
   }
}

/// The constant weights W[D, gates * H, I], R[D, gates * H, H], perhaps B[D, 2 * gates * H], perhaps P[D, 3 * H].
template <class Kind, class T, Size Directions, Size Inputs, Size Hidden>
class RecurrentWeights {
   Buffer<T> memory_;

   static Size needed()
   {
      T *const begin = nullptr;
      const auto one = recurrent_direction<Kind, T, Hidden>(begin, Inputs, Hidden);
      return Directions * (one.end - begin);
   }

   template <bool Peephole, class V, class... More>
   static const T *found(const V &v, const More &...more)
   {
      constexpr Size size = V::template static_extent<1>;
      if constexpr (Peephole ? size == 3 * Hidden : size == 2 * Kind::gates * Hidden)
         return v.data();
      else
         return found<Peephole>(more...);
   }
   template <bool Peephole>
   static const T *found()
   {
      return nullptr;
   }

public:
   template <class W, class R, class... More>
   explicit RecurrentWeights(W w, R r, More... more) : memory_(needed())
   {
      recurrent_pack<Kind, T, Hidden>(memory_.data(), w.data(), r.data(), found<false>(more...), found<true>(more...),
                                      Directions, Inputs, Hidden);
   }
   SOFIE_INLINE const T *data() const { return memory_.data(); }
};

// The cells ------------------------------------------------------------------------------------------

/// What a cell has for one row of the batch at one step. Gates are pre-activations as `RecurrentOrder` has them.
template <class T>
struct RecurrentRow {
   T *gates;           ///< The first group, complete.
   const T *inputs;    ///< The inputs' part of the first group.
   T *second;          ///< The second group, complete.
   const T *peepholes; ///< [3, padded]
   T *h, *c, *reset;   ///< The state, and r * h, all filled up to whole packs.
   T *y;               ///< The result, or nullptr.
   Size hidden, padded;
};

/// x, or its zero where that is denormal: gates far in their saturation leave such numbers in the state, and as a
/// factor of a row of weights each would cost a CPU hundreds of cycles for each pack.
template <class V>
SOFIE_INLINE V recurrent_state(V x)
{
   return select<V>(abs(x) < splat<V>(MathFor<V>::smallest), copysign(V{}, x), x);
}

/// The state of a row and, in whole packs, its result. No branches: in a loop each makes Cling store all that it has in
/// registers.
template <class T>
struct RecurrentResult {
   const RecurrentRow<T> &row;
   T *const y = row.y ? row.y : row.h;

   template <class V>
   SOFIE_INLINE void put(Size u, V h) const
   {
      h = recurrent_state(h);
      store(row.h + u, h);
      store(u + lanes<T> <= row.hidden ? y + u : row.h + u, h);
   }
   /// What is left of the result.
   SOFIE_INLINE void finish() const
   {
      const Size rest = row.hidden % lanes<T>, whole = row.hidden - rest;
      if (row.y && rest > 0)
         store_rest(row.y + whole, load<lanes<T>>(row.h + whole), rest);
   }
};

/// How many gates a cell has in all, in its first and its second group, and whether the last gate's
/// part of the state stays apart from that of the inputs.
template <int First, int Second, bool Apart>
struct RecurrentKind {
   static constexpr int first = First, second = Second, gates = First + Second;
   static constexpr bool state_apart = Apart, has_c = gates == 4; // Only an LSTM has a state c.
};
using RnnKind = RecurrentKind<1, 0, false>;
using GruKind = RecurrentKind<2, 1, false>;
using LinearGruKind = RecurrentKind<3, 0, true>;
using LstmKind = RecurrentKind<4, 0, false>;

/// h = f(gate)
template <class F, bool Clipped>
struct RnnCell {
   using Kind = RnnKind;
   double f_alpha, f_beta, clip;

   template <class T>
   SOFIE_INLINE void advance(const RecurrentRow<T> &row) const
   {
      const RecurrentResult<T> result{row};
      // Else Cling reads a function's constants from memory for each pack.
      SOFIE_UNROLL(4)
      for (Size u = 0; u < row.hidden; u += lanes<T>)
         result.put(u, gate::activated<F, Clipped>(load<lanes<T>>(row.gates + u), f_alpha, f_beta, clip));
      result.finish();
   }
};

/// z = f(gate_z), r = f(gate_r), m = g(gate_m), h = (1 - z) m + z h
template <class F, class G, bool Clipped>
struct GruCell {
   using Kind = GruKind;
   double f_alpha, f_beta, g_alpha, g_beta, clip;

   /// z, and r * h, of which the second product is made.
   template <class T>
   SOFIE_INLINE void prepare(const RecurrentRow<T> &row) const
   {
      constexpr int n = lanes<T>;
      const RecurrentOrder order = RecurrentOrder::of<T>(2, row.hidden);
      for (Size u = 0; u < row.hidden; u += n) {
         T *const at = row.gates + order.column(0, u);
         const auto z = gate::activated<F, Clipped>(load<n>(at), f_alpha, f_beta, clip);
         const auto r = gate::activated<F, Clipped>(load<n>(at + order.step(u)), f_alpha, f_beta, clip);
         store(row.reset + u, recurrent_state(r * load<n>(row.h + u)));
         store(at, z); // What this overwrites behind the last unit has been read.
      }
   }
   template <class T>
   SOFIE_INLINE void advance(const RecurrentRow<T> &row) const
   {
      constexpr int n = lanes<T>;
      const RecurrentOrder order = RecurrentOrder::of<T>(2, row.hidden);
      const RecurrentResult<T> result{row};
      for (Size u = 0; u < row.hidden; u += n) {
         const auto z = load<n>(row.gates + order.column(0, u));
         const auto m = gate::activated<G, Clipped>(load<n>(row.second + u), g_alpha, g_beta, clip);
         result.put(u, multiply_add(splat<Pack<T>>(1) - z, m, z * load<n>(row.h + u)));
      }
      result.finish();
   }
};

/// The same, where r is multiplied with the product of h: m = g(inputs_m + r * state_m)
template <class F, class G, bool Clipped>
struct LinearGruCell {
   using Kind = LinearGruKind;
   double f_alpha, f_beta, g_alpha, g_beta, clip;

   template <class T>
   SOFIE_INLINE void advance(const RecurrentRow<T> &row) const
   {
      constexpr int n = lanes<T>;
      const RecurrentOrder order = RecurrentOrder::of<T>(3, row.hidden);
      const RecurrentResult<T> result{row};
      for (Size u = 0; u < row.hidden; u += n) {
         const Size at = order.column(0, u), step = order.step(u);
         const T *const state = row.gates + at, *const input = row.inputs + at;
         const auto z = gate::activated<F, Clipped>(load<n>(state) + load<n>(input), f_alpha, f_beta, clip);
         const auto r =
            gate::activated<F, Clipped>(load<n>(state + step) + load<n>(input + step), f_alpha, f_beta, clip);
         const Pack<T> sum = multiply_add(r, load<n>(state + 2 * step), load<n>(input + 2 * step));
         const auto m = gate::activated<G, Clipped>(sum, g_alpha, g_beta, clip);
         result.put(u, multiply_add(splat<Pack<T>>(1) - z, m, z * load<n>(row.h + u)));
      }
      result.finish();
   }
};

/// i, o, f = F(gate + p * c), c = f c + i G(gate_c), h = o H(c); o sees the new c. `Coupled`: f = 1 - i
template <class F, class G, class H, bool Clipped, bool Peepholes, bool Coupled>
struct LstmCell {
   using Kind = LstmKind;
   double f_alpha, f_beta, g_alpha, g_beta, h_alpha, h_beta, clip;

   template <class V, class T>
   SOFIE_INLINE V gate_of(const T *sums, const RecurrentRow<T> &row, int peephole, Size u, V c) const
   {
      V sum = load<width<V>>(sums);
      if constexpr (Peepholes)
         sum = multiply_add(load<width<V>>(row.peepholes + peephole * row.padded + u), c, sum);
      return gate::activated<F, Clipped>(sum, f_alpha, f_beta, clip);
   }
   template <class T>
   SOFIE_INLINE void advance(const RecurrentRow<T> &row) const
   {
      using V = Pack<T>;
      constexpr int n = lanes<T>;
      const RecurrentOrder order = RecurrentOrder::of<T>(4, row.hidden);
      const RecurrentResult<T> result{row};
      for (Size u = 0; u < row.hidden; u += n) {
         const Size step = order.step(u);
         const T *const at = row.gates + order.column(0, u);
         const V old = load<n>(row.c + u);
         const V i = gate_of(at, row, 0, u, old);
         V f = splat<V>(1) - i;
         if constexpr (!Coupled)
            f = gate_of(at + 2 * step, row, 2, u, old);
         const V g = gate::activated<G, Clipped>(load<n>(at + 3 * step), g_alpha, g_beta, clip);
         store(row.c + u, recurrent_state(multiply_add(f, old, i * g)));
      }
      // A loop of its own: there a CPU computes several functions side by side, none of which waits for another.
      for (Size u = 0; u < row.hidden; u += n) {
         const V c = load<n>(row.c + u);
         const V o = gate_of(row.gates + order.column(1, u), row, 1, u, c);
         result.put(u, o * gate::activated<H, Clipped>(c, h_alpha, h_beta, clip));
      }
      result.finish();
   }
};

// The operators --------------------------------------------------------------------------------------

/// Where everything is, for one call, which has `lengths` if it is `Ragged`. What else is not there is nullptr.
template <class T, bool Ragged>
struct RecurrentCall {
   using Element = T;
   static constexpr bool ragged = Ragged;
   T *y, *y_h, *y_c;
   const T *x, *h, *c;
   const std::int32_t *lengths;
   const T *weights;
   T *work;
   Size steps, batch, inputs, hidden;
   Size x_step, x_row, y_step, y_row, y_direction, state_row, state_direction;
};

/// How many rows of the batch are computed together.
inline constexpr Size recurrent_rows = 24;

/// Whether all of these whole packs are 0.
template <class T>
SOFIE_KERNEL bool recurrent_is_zero(const T *x, Size size)
{
   MaskOf<Pack<T>> others{};
   for (Size i = 0; i < size; i += lanes<T>)
      others |= load<lanes<T>>(x + i) != Pack<T>{};
   for (int i = 0; i < lanes<T>; ++i)
      if (others[i])
         return false;
   return true;
}

/// A direction of a call for a few rows of the batch. What `Hidden` says is a constant everywhere.
template <class Cell, class Call, Size Hidden>
class RecurrentPass {
   using T = typename Call::Element;
   using Kind = typename Cell::Kind;
   using First = RecurrentPanels<T, Kind::first, Hidden>;
   using Second = RecurrentPanels<T, Kind::second, Hidden>;

   const Cell &cell_;
   const Call &call_;
   RecurrentDirection<const T> weights_;
   Size direction_, row0_, rows_;
   bool reverse_, from_zero_;
   T *sums_, *gates_, *h_, *c_, *reset_;

   SOFIE_INLINE Size hidden() const { return Hidden == dyn ? call_.hidden : Hidden; }
   SOFIE_INLINE Size padded() const { return (hidden() + lanes<T> - 1) / lanes<T> * lanes<T>; }
   SOFIE_INLINE Size columns() const { return First::columns(hidden()) + Second::columns(hidden()); }
   SOFIE_INLINE static std::size_t bytes(Size count) { return static_cast<std::size_t>(count) * sizeof(T); }

   SOFIE_INLINE Size length(Size row) const
   {
      if constexpr (Call::ragged)
         return call_.lengths[row0_ + row];
      return call_.steps;
   }

   /// The place in time of a row's step.
   SOFIE_INLINE Size time(Size row, Size step) const
   {
      const Size end = length(row);
      return reverse_ && step < end ? end - 1 - step : step;
   }
   SOFIE_INLINE const T *input(Size row, Size step) const
   {
      return call_.x + time(row, step) * call_.x_step + (row0_ + row) * call_.x_row;
   }
   SOFIE_INLINE T *result(Size row, Size step) const
   {
      return call_.y ? call_.y + time(row, step) * call_.y_step + (row0_ + row) * call_.y_row +
                          direction_ * call_.y_direction
                     : nullptr;
   }

   /// The inputs' part of the gates for `rows` rows, of which x and the sums have these strides.
   SOFIE_INLINE void project(T *sums, Size stride, const T *x, Size x_stride, Size rows) const
   {
      const RecurrentRows<const T> inputs{x, x_stride};
      recurrent_few<First>(RecurrentRows<T>{sums, stride}, RecurrentRows<const T>{weights_.first.bias, 0}, inputs,
                           weights_.first.w, call_.inputs, weights_.first.columns, rows);
      if constexpr (Kind::second > 0)
         recurrent_few<Second>(RecurrentRows<T>{sums + weights_.first.columns, stride},
                               RecurrentRows<const T>{weights_.second.bias, 0}, inputs, weights_.second.w,
                               call_.inputs, weights_.second.columns, rows);
   }

   /// The same for `count` steps from `begin` on: sums[step, row, column].
   SOFIE_INLINE void project_steps(Size begin, Size count) const
   {
      const Size stride = rows_ * columns();
      if constexpr (Call::ragged) {
         for (Size s = 0; s < count; ++s)
            for (Size r = 0; r < rows_; ++r)
               if (begin + s < length(r))
                  project(sums_ + s * stride + r * columns(), 0, input(r, begin + s), 0, 1);
      } else if (count > rows_) {
         for (Size r = 0; r < rows_; ++r)
            project(sums_ + r * columns(), stride, input(r, begin), reverse_ ? -call_.x_step : call_.x_step, count);
      } else {
         for (Size s = 0; s < count; ++s)
            project(sums_ + s * stride, columns(), input(0, begin + s), call_.x_row, rows_);
      }
   }

   SOFIE_INLINE RecurrentRow<T> row_of(T *gates, const T *sums, Size r, Size step) const
   {
      gates += r * columns();
      return {gates,
              sums + r * columns(),
              gates + First::columns(hidden()),
              weights_.peepholes,
              h_ + r * padded(),
              c_ + r * padded(),
              reset_ + r * padded(),
              result(r, step),
              hidden(),
              padded()};
   }

   /// Where the gates of a step are complete whose state is zero: only the inputs count.
   SOFIE_INLINE T *gates_of_inputs(T *sums) const
   {
      if constexpr (!Kind::state_apart)
         return sums;
      for (Size r = 0; r < rows_; ++r)
         __builtin_memcpy(gates_ + r * columns(), weights_.first.state_bias, bytes(columns()));
      return gates_;
   }

   SOFIE_INLINE void step(T *sums, Size step) const
   {
      const RecurrentGroup<const T> &first = weights_.first, &second = weights_.second;
      const RecurrentRows<const T> state_bias{first.state_bias, 0}, start{sums, columns()};
      const bool from_zero = from_zero_ && step == 0;
      T *gates = from_zero ? gates_of_inputs(sums) : gates_;
      if (!from_zero)
         recurrent_few<First>(RecurrentRows<T>{gates, columns()}, Kind::state_apart ? state_bias : start,
                              RecurrentRows<const T>{h_, padded()}, first.r, hidden(), first.columns, rows_,
                              step % 2 > 0);
      if constexpr (Kind::second > 0) {
         for (Size r = 0; r < rows_; ++r)
            cell_.prepare(row_of(gates, sums, r, step));
         // A gate that is not finite leaves NaN of a state that is zero.
         const bool reset = !from_zero || !recurrent_is_zero<T>(reset_, rows_ * padded());
         if (from_zero && reset) {
            __builtin_memcpy(gates_, sums, bytes(rows_ * columns()));
            gates = gates_;
         }
         if (reset)
            recurrent_few<Second>(RecurrentRows<T>{gates + first.columns, columns()},
                                  RecurrentRows<const T>{sums + first.columns, columns()},
                                  RecurrentRows<const T>{reset_, padded()}, second.r, hidden(), second.columns,
                                  rows_, step % 2 > 0);
      }
      for (Size r = 0; r < rows_; ++r) {
         const RecurrentRow<T> row = row_of(gates, sums, r, step);
         if (!Call::ragged || step < length(r))
            cell_.advance(row);
         else if (row.y)
            __builtin_memset(static_cast<void *>(row.y), 0, bytes(hidden()));
      }
   }

   /// A state of a row, which is filled up with zeros, or all of it.
   SOFIE_INLINE void begin_state(T *state, const T *from) const
   {
      __builtin_memset(static_cast<void *>(state), 0, bytes(padded()));
      if (from)
         __builtin_memcpy(state, from, bytes(hidden()));
   }
   SOFIE_INLINE Size state(Size row) const
   {
      return (row0_ + row) * call_.state_row + direction_ * call_.state_direction;
   }

public:
   SOFIE_INLINE RecurrentPass(const Cell &cell, const Call &call, const RecurrentDirection<const T> &weights,
                              Size direction, bool reverse, Size row0, Size rows)
      : cell_(cell), call_(call), weights_(weights), direction_(direction), row0_(row0), rows_(rows), reverse_(reverse),
        from_zero_(false)
   {
      sums_ = call.work;
      gates_ = sums_ + recurrent_rows * columns();
      // Packs are read from what is left of a gate, which reach behind the last row.
      h_ = gates_ + recurrent_rows * columns() + lanes<T>;
      c_ = h_ + recurrent_rows * padded();
      reset_ = c_ + recurrent_rows * padded();
   }

   SOFIE_INLINE void run()
   {
      for (Size r = 0; r < rows_; ++r) {
         begin_state(h_ + r * padded(), call_.h ? call_.h + state(r) : nullptr);
         if constexpr (Kind::has_c)
            begin_state(c_ + r * padded(), call_.c ? call_.c + state(r) : nullptr);
      }
      from_zero_ = *weights_.nothing == 0 && (!call_.h || recurrent_is_zero<T>(h_, rows_ * padded()));
      const Size steps_at_once = rows_ == 1 ? recurrent_rows : recurrent_rows / rows_;
      for (Size begin = 0; begin < call_.steps; begin += steps_at_once) {
         const Size left = call_.steps - begin, count = left < steps_at_once ? left : steps_at_once;
         project_steps(begin, count);
         for (Size s = 0; s < count; ++s)
            step(sums_ + s * rows_ * columns(), begin + s);
      }
      for (Size r = 0; r < rows_; ++r) {
         if (call_.y_h)
            __builtin_memcpy(call_.y_h + state(r), h_ + r * padded(), bytes(hidden()));
         if (Kind::has_c && call_.y_c)
            __builtin_memcpy(call_.y_c + state(r), c_ + r * padded(), bytes(hidden()));
      }
   }
};

/// One direction for the whole batch, a block of rows at a time; the weights of the next direction.
template <class Cell, Size Hidden, class T, bool Ragged>
SOFIE_KERNEL const T *recurrent_pass(const Cell &cell, const RecurrentCall<T, Ragged> &call, const T *weights,
                                     Size direction, bool reverse)
{
   const Size hidden = Hidden == dyn ? call.hidden : Hidden;
   const auto packed = recurrent_direction<typename Cell::Kind, const T, Hidden>(weights, call.inputs, hidden);
   Size even = call.batch;
   if (even > recurrent_rows) { // Blocks of nearly one size, in whole tiles.
      const Size blocks = (even + recurrent_rows - 1) / recurrent_rows;
      even = ((even + blocks - 1) / blocks + 5) / 6 * 6;
   }
   for (Size row = 0; row < call.batch; row += even) {
      const Size left = call.batch - row;
      const Size rows = left < even ? left : even;
      RecurrentPass<Cell, RecurrentCall<T, Ragged>, Hidden>(cell, call, packed, direction, reverse, row, rows).run();
   }
   return packed.end;
}

/// One cell, from the first step to the last one or the other way round.
template <class Cell, bool Reverse>
struct OneDirection {
   static constexpr Size count = 1;
   using Kind = typename Cell::Kind;
   Cell cell;

   template <Size Hidden, class Call>
   SOFIE_INLINE void run(const Call &call) const
   {
      recurrent_pass<Cell, Hidden>(cell, call, call.weights, 0, Reverse);
   }
};

/// One cell forward, and one backward.
template <class Forward, class Backward>
struct BothDirections {
   static constexpr Size count = 2;
   using Kind = typename Forward::Kind;
   Forward forward;
   Backward backward;

   template <Size Hidden, class Call>
   SOFIE_INLINE void run(const Call &call) const
   {
      const auto *const weights = recurrent_pass<Forward, Hidden>(forward, call, call.weights, 0, false);
      recurrent_pass<Backward, Hidden>(backward, call, weights, 1, true);
   }
};

/// The lengths of all rows, which are not more than there are steps.
SOFIE_KERNEL inline void recurrent_check(const std::int32_t *lengths, Size batch, Size steps)
{
   for (Size i = 0; i < batch; ++i)
      if (lengths[i] < 0 || lengths[i] > steps)
         throw std::invalid_argument("sequence_lens has " + std::to_string(lengths[i]) + " for row " +
                                     std::to_string(i) + ", which is not in 0 ... " + std::to_string(steps));
}

/// The memory of a view, or nullptr.
template <class V>
SOFIE_INLINE auto recurrent_data(const V &v)
{
   if constexpr (std::is_same_v<V, NoSequence>)
      return nullptr;
   else
      return v.data();
}

/// All states, the last h and the last c, and memory, which are written; the sequence, its lengths, and the states
/// before the first step, which are read. What is not there is a `NoSequence`.
template <class Y, class YH, class YC, class Work, class X, class L, class H, class C>
struct RecurrentTensors {
   Y y;
   YH y_h;
   YC y_c;
   Work work;
   X x;
   L lengths;
   H h;
   C c;
};
template <class Y, class YH, class YC, class Work, class X, class L, class H, class C>
RecurrentTensors(Y, YH, YC, Work, X, L, H, C) -> RecurrentTensors<Y, YH, YC, Work, X, L, H, C>;

/// Weights as ONNX has them; biases and peepholes may be a `NoSequence`.
template <class W, class R, class B, class P>
struct RecurrentMatrices {
   W w;
   R r;
   B b;
   P p;
};
template <class W, class R, class B, class P>
RecurrentMatrices(W, R, B, P) -> RecurrentMatrices<W, R, B, P>;

/// One call. x is [step, row, input], and results are [step, direction, row, unit]; with `Batchwise` they are
/// [row, step, input] and [row, step, direction, unit].
template <bool Batchwise, class T, class Tensors>
SOFIE_INLINE auto recurrent_call(const Tensors &of, Size directions, Size hidden, const T *weights)
{
   constexpr bool ragged = !std::is_same_v<decltype(of.lengths), NoSequence>;
   RecurrentCall<T, ragged> call{};
   call.y = recurrent_data(of.y);
   call.y_h = recurrent_data(of.y_h);
   call.y_c = recurrent_data(of.y_c);
   call.work = of.work.data();
   call.x = of.x.data();
   call.lengths = recurrent_data(of.lengths);
   call.h = recurrent_data(of.h);
   call.c = recurrent_data(of.c);
   call.weights = weights;
   call.inputs = of.x.template extent<2>();
   call.hidden = hidden;
   call.batch = of.x.template extent<Batchwise ? 0 : 1>();
   call.steps = of.x.template extent<Batchwise ? 1 : 0>();
   if constexpr (ragged)
      recurrent_check(call.lengths, call.batch, call.steps);
   call.x_step = Batchwise ? call.inputs : call.batch * call.inputs;
   call.x_row = Batchwise ? call.steps * call.inputs : call.inputs;
   call.y_step = Batchwise ? directions * hidden : directions * call.batch * hidden;
   call.y_row = Batchwise ? call.steps * directions * hidden : hidden;
   call.y_direction = Batchwise ? hidden : call.batch * hidden;
   call.state_row = Batchwise ? directions * hidden : hidden;
   call.state_direction = Batchwise ? hidden : call.batch * hidden;
   return call;
}

/// y, the last h and the last c of all directions, with weights that are constant.
template <bool Batchwise, class Directions, class Tensors, class Kind, class T, Size Count, Size Inputs, Size Hidden>
SOFIE_INLINE void recurrent(const Directions &directions, const Tensors &tensors,
                            const RecurrentWeights<Kind, T, Count, Inputs, Hidden> &weights)
{
   directions.template run<Hidden>(recurrent_call<Batchwise>(tensors, Directions::count, Hidden, weights.data()));
}

/// The same with weights that are computed, which are packed into memory of their own at each call.
template <bool Batchwise, class Directions, class T, Size Packed, class Tensors, class W, class R, class B, class P>
SOFIE_INLINE void recurrent_unpacked(const Directions &directions, View<T, Packed> packed, const Tensors &tensors,
                                     const RecurrentMatrices<W, R, B, P> &of)
{
   constexpr Size known = R::template static_extent<2>;
   const Size hidden = of.r.template extent<2>();
   T *const memory = packed.data();
   const auto call = recurrent_call<Batchwise, T>(tensors, Directions::count, hidden, memory);
   __builtin_memset(static_cast<void *>(memory), 0, static_cast<std::size_t>(packed.size()) * sizeof(T));
   recurrent_pack<typename Directions::Kind, T, known>(memory, of.w.data(), of.r.data(), recurrent_data(of.b),
                                                       recurrent_data(of.p), Directions::count, call.inputs, hidden);
   directions.template run<known>(call);
}

} // namespace sofie

SOFIE_END

#endif
